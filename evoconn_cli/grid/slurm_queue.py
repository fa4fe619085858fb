"""SLURM's queue, asked by its own commands. Nothing here needs its accounting, which not every cluster has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.errors import GridError
from evoconn_cli.grid.slurm_script import cells_in

_PATIENCE = 120
"""A controller that is restarted or busy answers late [s]."""


_SET_BY_THE_SCRIPT = (
    "SBATCH_ARRAY_INX",
    "SBATCH_JOB_NAME",
    "SBATCH_OUTPUT",
    "SBATCH_OPEN_MODE",
    "SBATCH_REQUEUE",
    "SBATCH_NO_REQUEUE",
    "SBATCH_SIGNAL",
)
"""Variables that sbatch prefers to what a script says."""


class Task(NamedTuple):
    """A task of an array that has not ended."""

    id: str  # such as 1234_5
    state: str  # in SLURM's words, such as PENDING


def is_installed() -> bool:
    """Returns whether this machine has SLURM's commands."""
    return shutil.which("squeue") is not None


def submit(script: Path) -> str:
    """Returns the number of the job that SLURM makes of a script.

    Raises:
        GridError: SLURM does not take it.
    """
    answer = _ask("sbatch", "--parsable", str(script))
    return answer.strip().partition(";")[0]


def queued_cells(folder: Path) -> dict[Path, Task]:
    """Returns the cells that are in SLURM's queue, waiting or running, by their resolved directories, and their tasks.

    The name of an array is that of its script, which is written before it is submitted: so no array is unknown, even
    where its submission was cut off.

    Args:
        folder: in which the scripts are.

    Raises:
        GridError: SLURM does not answer.
    """
    if not any(folder.glob("*.sbatch")):
        return {}
    queue = _ask("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%j|%F|%K|%T")
    scripts: dict[str, list[Path]] = {}
    found = {}
    for line in queue.splitlines():
        parts = line.strip().rsplit("|", 3)  # names of other jobs may have the sign
        if len(parts) != 4 or not parts[2].isdecimal():
            continue
        name, job, number, state = parts
        if name not in scripts:
            scripts[name] = _read_cells(folder / f"{name}.sbatch")
        if int(number) < len(scripts[name]):
            found[scripts[name][int(number)]] = Task(f"{job}_{number}", state)
    return found


def is_ours_to_requeue(task: str) -> bool:
    """Returns whether SLURM lets a task run, or ends it because of its time limit.

    It does neither with a task that was cancelled, or that it requeues by itself.

    Raises:
        GridError: SLURM does not answer.
    """
    state, _, reason = _ask("squeue", "--noheader", f"--jobs={task}", "--format=%T %r").strip().partition(" ")
    return state == "RUNNING" or reason == "TimeLimit"


def requeue(task: str) -> None:
    """Puts a task back into the queue; SLURM lets it wait for two minutes.

    Raises:
        GridError: SLURM refuses.
    """
    _ask("scontrol", "requeue", task)


def _read_cells(script: Path) -> list[Path]:
    try:
        return [cell.resolve() for cell in cells_in(script.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []


def _ask(*command: str) -> str:
    """Returns the output of one of SLURM's commands."""
    try:
        done = subprocess.run(
            command,
            env={name: value for name, value in os.environ.items() if not _redirects(name)},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise GridError(
            f"SLURM's command {command[0]} is not found. Run launch-grid on a login node of the cluster."
        ) from None
    except subprocess.TimeoutExpired:
        raise GridError(
            f"{command[0]} does not answer for {_PATIENCE} s. Look at `scontrol ping`, and try again."
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = lines[-1].removeprefix(f"{command[0]}: ").removeprefix("error: ").removeprefix("fatal: ")
        raise GridError(f"{command[0]}: {reason}.")
    return done.stdout


def _redirects(variable: str) -> bool:
    """Returns whether an environment variable would hide a part of the queue, or replace an option of the script."""
    return variable.startswith("SQUEUE_") or variable in _SET_BY_THE_SCRIPT
