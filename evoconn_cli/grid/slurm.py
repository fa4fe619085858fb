"""Runs the cells of a grid as a SLURM job array."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import GridError, RunDirectoryError
from evoconn_cli.grid.attempts import record_submission
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.executor import PROGRAM
from evoconn_cli.grid.gpus import Note
from evoconn_cli.grid.slurm_script import FOLDER, cells_in, make_script
from evoconn_cli.grid.states import State, read_status

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


_numbers = itertools.count(1)
"""Of the scripts of this process."""

_MOST_SILENT = 30
"""Times in a row that SLURM may not answer while it is waited for."""

_POLL = 10.0
"""SLURM is asked so seldom for its queue [s]."""


class Slurm:
    """Submits cells that are not in SLURM's queue already.

    Args:
        grid_name: part of the names of the arrays.
        directory: of the grid.
        launch: how cells are run.
        wait: whether `run` returns when the cells have ended, and not when they are submitted.
        program: the command line.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        grid_name: str,
        directory: Path,
        launch: LaunchConfig,
        *,
        wait: bool = False,
        program: Sequence[str] = PROGRAM,
        pause: Callable[[float], None] = time.sleep,
    ):
        self._grid_name = grid_name
        self._directory = directory.absolute()
        self._launch = launch
        self._wait = wait
        self._program = program
        self._pause = pause

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns for each of the cells the task that it has in SLURM's queue, or that it would get one.

        Raises:
            GridError: SLURM does not answer.
        """
        queued = self._queued()
        tasks = [queued.get(cell.path.resolve()) for cell in cells]
        return [f"slurm {task.id}, {task.state.lower()}" if task else "a new array of slurm" for task in tasks]

    def run(self, cells: Sequence[Cell], note: Note) -> dict[Cell, str]:
        """Submits the cells that are not in the queue, and do not run elsewhere.

        Ctrl-C ends the waiting and not the cells.

        Args:
            cells: that are not finished; their directories are there.
            note: is told what happens.

        Returns:
            Nothing: what SLURM has taken, it runs.

        Raises:
            GridError: SLURM does not answer, or refuses the array.
        """
        for some in self._arrays(self._new(cells, note)):
            job = submit(self._write(some))
            for number, cell in enumerate(some):
                try:
                    record_submission(cell.path, f"slurm {job}_{number}")
                except RunDirectoryError as error:  # it is in the queue all the same
                    note(str(error))
            note(f"SLURM array {job}: {len(some)} cells. To look: squeue --job={job}. To end them: scancel {job}.")
        if self._wait:
            self._follow({cell.path.resolve() for cell in cells}, note)
        return {}

    def write_script(self, cells: Sequence[Cell], note: Note) -> Path | None:
        """Returns the script that `run` would submit, which is written; None where no cell is left for it.

        Without SLURM on this machine no cell counts as queued.

        Raises:
            GridError: SLURM does not answer, or the script cannot be written.
        """
        arrays = self._arrays(self._new(cells, note) if is_installed() else cells)
        if len(arrays) > 1:
            note(f"this is the first array of {len(arrays)}: submit it, and ask for the next one then.")
        return self._write(arrays[0]) if arrays else None

    def _new(self, cells: Sequence[Cell], note: Note) -> list[Cell]:
        """Returns the cells that nobody runs, or will."""
        queued = self._queued()
        out = [cell for cell in cells if cell.path.resolve() not in queued]
        if len(out) < len(cells):
            note(f"in SLURM's queue already: {len(cells) - len(out)} of {len(cells)} cells.")
        new = [cell for cell in out if read_status(cell).state is not State.RUNNING]
        if len(new) < len(out):
            note(f"outside of SLURM run {len(out) - len(new)} of {len(cells)} cells: they are left alone.")
        return new

    def _arrays(self, cells: Sequence[Cell]) -> list[Sequence[Cell]]:
        size = self._launch.slurm.array_size
        return [cells[start : start + size] for start in range(0, len(cells), size)]

    def _queued(self) -> dict[Path, Task]:
        return queued_cells(self._directory / FOLDER)

    def _write(self, cells: Sequence[Cell]) -> Path:
        """Returns the script of an array, whose name no other array has."""
        name = f"evoconn-{self._grid_name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_numbers)}"
        script = self._directory / FOLDER / f"{name}.sbatch"
        try:
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(make_script(name, cells, self._launch, self._directory, self._program), encoding="utf-8")
        except OSError as error:
            raise GridError(f"cannot write {script}: {error.strerror}.") from None
        return script

    def _follow(self, paths: set[Path], note: Note) -> None:
        """Returns when none of the cells is in the queue any more, or at Ctrl-C.

        Raises:
            GridError: SLURM does not answer, many times in a row.
        """
        silent = 0
        try:
            while True:
                try:
                    if not paths & self._queued().keys():
                        return
                    silent = 0
                except GridError as error:
                    silent += 1
                    if silent > _MOST_SILENT:
                        raise
                    if silent == 1:
                        note(f"{error} The cells go on; SLURM is asked again.")
                self._pause(_POLL)
        except KeyboardInterrupt:
            note("the cells stay in SLURM's queue.")
