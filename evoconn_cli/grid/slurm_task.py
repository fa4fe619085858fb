"""What a task of SLURM runs around its cell: `python -m evoconn_cli.grid.slurm_task CELL_DIR RETRIES COMMAND...`.

After the command it decides whether the task goes back into the queue. It does

- where the cell has saved before its end: it was asked to by the signal before the time limit, or by the warning that
  precedes a preemption; but only as often as it may fail where it gets no further;
- where it has failed, as often as it may.

It does not where the task was cancelled, which is to last, or where SLURM requeues it by itself. So the state of the
task decides, and not the signal, which is SIGTERM in all of these cases.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from evoconn_cli.errors import EvoconnError, ExitCode
from evoconn_cli.grid.attempts import read_attempts, record_end
from evoconn_cli.grid.slurm import is_ours_to_requeue, requeue
from evoconn_cli.runs.directory import RunDirectory


def main(arguments: Sequence[str]) -> int:
    """Runs the command, may put the task back into the queue, and returns the exit code of the command."""
    directory, retries, *command = arguments
    cell = Path(directory)
    task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)  # they are for the command, which saves; this process waits for it
    before = len(read_attempts(cell).attempts)
    exit_code = subprocess.call(command)
    if is_to_go_on(cell, exit_code, int(retries), before):
        try:
            if is_ours_to_requeue(task):
                print(f"task {task}: exit code {exit_code}, back to the queue", flush=True)
                requeue(task)
        except EvoconnError as error:
            print(f"{error} Run launch-grid again to go on.", flush=True)
    elif exit_code == ExitCode.SAVED_EARLY:
        print(
            f"task {task}: it has saved nothing new {int(retries) + 1} times, so it does not go back to the queue. "
            "Raise launch.slurm.time.",
            flush=True,
        )
    return exit_code


def is_to_go_on(cell: Path, exit_code: int, retries: int, before: int) -> bool:
    """Returns whether another attempt at a cell is due.

    Args:
        cell: its directory.
        exit_code: of the command; an attempt that was killed gets it as its end.
        retries: times that the cell may fail beside the first one.
        before: number of attempts before the command.
    """
    if exit_code == ExitCode.DONE:
        return False
    attempts, saved = read_attempts(cell), RunDirectory(cell).last_saved_generation()
    if exit_code == ExitCode.SAVED_EARLY:
        return attempts.in_vain(saved) <= retries
    if len(attempts.attempts) == before:
        return False  # the command could not even begin, and will not next time
    last = attempts.attempts[-1]
    if last.ended is None:
        record_end(cell, exit_code, last.pid)
        attempts = read_attempts(cell)
    return attempts.failures(saved) <= retries


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
