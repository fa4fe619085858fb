"""A SLURM task around a cell: `python -m evoconn_cli.grid.slurm_task CELL_DIR RETRIES COMMAND...`.

After the command, the task is requeued

- if the cell has saved and ended early, because of the signal before the time limit or the warning before a
  preemption, but at most RETRIES times in a row without saving anything new;
- if the cell has failed, at most RETRIES times in a row.

It is not requeued if it was cancelled, or if SLURM requeues it by itself. The state of the task tells; the signal is
SIGTERM in all of these cases.
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
from evoconn_cli.grid.slurm import ask, is_ours_to_requeue
from evoconn_cli.runs.directory import RunDirectory


def main(arguments: Sequence[str]) -> int:
    """Runs the command, requeues the task if the cell is to go on, and returns the exit code of the command."""
    directory, retries, *command = arguments
    cell = Path(directory)
    task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)  # the command gets them too, and saves
    before = len(read_attempts(cell).attempts)
    exit_code = subprocess.call(command)
    if is_to_go_on(cell, exit_code, int(retries), before):
        try:
            if is_ours_to_requeue(task):
                print(f"task {task}: exit code {exit_code}, back to the queue", flush=True)
                ask("scontrol", "requeue", task)  # SLURM lets it wait for two minutes
        except EvoconnError as error:
            print(f"{error} Run launch-grid again to go on.", flush=True)
    elif exit_code == ExitCode.SAVED_EARLY:
        times = f"{int(retries) + 1} times"
        print(f"task {task}: not requeued, because it saved nothing new {times}. Raise launch.slurm.time.", flush=True)
    return exit_code


def is_to_go_on(cell: Path, exit_code: int, retries: int, before: int) -> bool:
    """Returns whether another attempt at a cell is due.

    Args:
        cell: Directory of the cell.
        exit_code: Exit code of the command; recorded as the end of an attempt that was killed.
        retries: Retries of a cell that fails.
        before: Number of attempts before the command.
    """
    attempts, saved = read_attempts(cell), RunDirectory(cell).last_saved_generation()
    if exit_code == ExitCode.DONE or attempts.is_pruned:
        return False
    if exit_code == ExitCode.SAVED_EARLY:
        return attempts.in_vain(saved) <= retries
    if len(attempts.attempts) == before:
        return False  # the command could not even start, and would not the next time
    last = attempts.attempts[-1]
    if last.ended is None:
        record_end(cell, exit_code, last.pid)
        attempts = read_attempts(cell)
    return attempts.failures(saved) <= retries


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
