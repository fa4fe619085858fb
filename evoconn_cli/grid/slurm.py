"""Runs the cells of a grid as SLURM job arrays: what is submitted, and SLURM's own commands."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import ExitCode, GridError, RunDirectoryError
from evoconn_cli.grid import Note
from evoconn_cli.grid.attempts import read_attempts, record_submission
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.scheduler import Ended, Executor
from evoconn_cli.grid.slurm_script import FOLDER, cells_in, make_script
from evoconn_cli.grid.states import State, read_status

_PATIENCE = 120  # [s] for an answer: a controller that is restarted or busy answers late
_POLL = 10.0  # [s] between looks at the queue
_TICK = 0.2  # [s] between looks at signals
_MOST_SILENT = 30
"""Failed looks at the queue in a row after which waiting ends."""

_SET_BY_THE_SCRIPT = ("ARRAY_INX", "JOB_NAME", "OUTPUT", "OPEN_MODE", "REQUEUE", "NO_REQUEUE", "SIGNAL")
"""Options of the script, for which sbatch prefers an environment variable `SBATCH_...` if it is set."""

_numbers = itertools.count(1)
"""Numbers of the scripts of this process."""


@dataclass(frozen=True)
class SlurmQueue:
    """Submits the cells that are not in SLURM's queue already.

    Attributes:
        grid_name: Name of the grid, part of the names of the arrays.
        directory: Directory of the grid.
        launch: How cells are run.
        note: Shows the user what happens.
        wait: Whether `run` returns when the cells have ended instead of when they are submitted.
        program: Program with the command `run-cell`; this one by default.
        pause: Waits for some seconds.
    """

    grid_name: str
    directory: Path
    launch: LaunchConfig
    note: Note
    _: KW_ONLY
    wait: bool = False
    program: Sequence[str] | None = None
    pause: Callable[[float], None] = time.sleep

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns in words the task that each of the cells has in SLURM's queue, or would get; nothing is submitted.

        Raises:
            GridError: SLURM does not answer.
        """
        queued = self.queued()
        return [queued.get(cell.path.resolve(), "a new array of slurm") for cell in cells]

    def run(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        """Submits the cells that are not in the queue and do not run elsewhere.

        Ctrl-C ends the waiting, not the cells.

        Args:
            cells: Unfinished cells; their directories exist.

        Returns:
            An empty mapping: no cell is left out.

        Raises:
            GridError: SLURM does not answer, or refuses the array.
        """
        for some in self._arrays(self._new(cells)):
            job = ask("sbatch", "--parsable", str(self._write(some))).strip().partition(";")[0]
            for number, cell in enumerate(some):
                try:
                    record_submission(cell.path, f"slurm {job}_{number}")
                except RunDirectoryError as error:  # it is in the queue all the same
                    self.note(str(error))
            self.note(f"SLURM array {job}: {len(some)} cells. To look: squeue --job={job}. To end them: scancel {job}.")
        if self.wait:
            self._follow({cell.path.resolve() for cell in cells})
        return {}

    def write_script(self, cells: Sequence[Cell]) -> Path | None:
        """Writes the script that `run` would submit, and returns its path; None if no cell is left to submit.

        Without SLURM on this machine no cell counts as queued.

        Raises:
            GridError: SLURM does not answer, or the script cannot be written.
        """
        arrays = self._arrays(self._new(cells) if shutil.which("squeue") else cells)
        if len(arrays) > 1:
            self.note(f"this is the first of {len(arrays)} arrays: submit it, then print the next one.")
        return self._write(arrays[0]) if arrays else None

    def _new(self, cells: Sequence[Cell]) -> list[Cell]:
        """Returns the cells that are neither queued nor running."""
        queued = self.queued()
        out = [cell for cell in cells if cell.path.resolve() not in queued]
        if len(out) < len(cells):
            self.note(f"in SLURM's queue already: {len(cells) - len(out)} of {len(cells)} cells.")
        new = [cell for cell in out if read_status(cell).state is not State.RUNNING]
        if len(new) < len(out):
            self.note(f"running outside of SLURM, and left alone: {len(out) - len(new)} of {len(cells)} cells.")
        return new

    def _arrays(self, cells: Sequence[Cell]) -> list[Sequence[Cell]]:
        size = self.launch.slurm.array_size
        return [cells[start : start + size] for start in range(0, len(cells), size)]

    @property
    def _folder(self) -> Path:
        return self.directory.absolute() / FOLDER

    def queued(self) -> dict[Path, str]:
        """Returns in words the tasks that wait or run in SLURM's queue, by the resolved directory of their cell.

        An array has the name of its script, which is written before it is submitted; so even an array whose submission
        was interrupted is found.

        Raises:
            GridError: SLURM does not answer.
        """
        if not any(self._folder.glob("*.sbatch")):
            return {}
        queue = ask("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%j|%F|%K|%T")
        scripts: dict[str, list[Path]] = {}
        found = {}
        for line in queue.splitlines():
            parts = line.strip().rsplit("|", 3)  # names of other jobs may contain `|`
            if len(parts) != 4 or not parts[2].isdecimal():
                continue
            name, job, number, state = parts
            if name not in scripts:
                scripts[name] = _read_cells(self._folder / f"{name}.sbatch")
            if int(number) < len(scripts[name]):
                found[scripts[name][int(number)]] = f"slurm {job}_{number}, {state.lower()}"
        return found

    def _write(self, cells: Sequence[Cell]) -> Path:
        """Writes the script of an array with a unique name, and returns its path."""
        name = f"evoconn-{self.grid_name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_numbers)}"
        script = self._folder / f"{name}.sbatch"
        text = make_script(name, cells, self.launch, self.directory, program=self.program)
        try:
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(text, encoding="utf-8")
        except OSError as error:
            raise GridError(f"cannot write {script}: {error.strerror}.") from None
        return script

    def _follow(self, paths: set[Path]) -> None:
        """Returns when none of the cells is in the queue any more, or at Ctrl-C.

        Raises:
            GridError: SLURM does not answer many times in a row.
        """
        silent = 0
        try:
            while True:
                try:
                    if not paths & self.queued().keys():
                        return
                    silent = 0
                except GridError as error:
                    silent += 1
                    if silent > _MOST_SILENT:
                        raise
                    if silent == 1:
                        self.note(f"{error} The cells go on; SLURM is asked again.")
                self.pause(_POLL)
        except KeyboardInterrupt:
            self.note("the cells stay in SLURM's queue.")


class SlurmExecutor(Executor):
    """Runs the cells of a search as jobs of SLURM, which stay in its queue when the launcher ends.

    Args:
        queue: SLURM's queue, as the cells of other grids are submitted to it.
        clock: Monotonic clock [s].
    """

    keeps_cells = True

    def __init__(self, queue: SlurmQueue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._look_at = 0.0
        self._running: list[Cell] = []

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the task that each of the cells has in SLURM's queue, or would get."""
        return self._queue.plan(cells)

    def start(self, cell: Cell, saved: int) -> str:
        """Submits a cell, unless it is in the queue."""
        self._queue.run([cell])
        self._running.append(cell)
        self._look_at = self._clock() + _POLL  # what was submitted just now may not be listed yet
        return "slurm"

    def wait(self) -> list[Ended]:
        """Waits a moment, and returns the cells that are not in the queue any more."""
        self._queue.pause(_TICK)
        if not self._running or self._clock() < self._look_at:
            return []
        self._look_at = self._clock() + _POLL
        try:
            queued = self._queue.queued()
        except GridError as error:
            self._queue.note(f"{error} The cells go on; SLURM is asked again.")
            return []
        ended = [cell for cell in self._running if cell.path.resolve() not in queued]
        self._running = [cell for cell in self._running if cell not in ended]
        return [_end_of(cell) for cell in ended]

    def ask_to_end(self, cell: Cell) -> None:
        """Sends a running cell the signal before its time limit, and cancels a waiting one."""
        task, _, state = self._queue.queued().get(cell.path.resolve(), "").removeprefix("slurm ").partition(", ")
        if task:
            ask("scancel", *(["--signal=USR1"] if state == "running" else []), task)


def _end_of(cell: Cell) -> Ended:
    """Returns how the last attempt at a cell ended that is not in the queue any more."""
    attempts = read_attempts(cell.path).attempts
    exit_code = attempts[-1].exit_code if attempts else None
    return Ended(cell, ExitCode.ERROR if exit_code is None else exit_code, "" if attempts else "SLURM did not start it")


def is_ours_to_requeue(task: str) -> bool:
    """Returns whether a task runs, or ends because of its time limit.

    Otherwise it was cancelled, or SLURM requeues it by itself.

    Raises:
        GridError: SLURM does not answer.
    """
    state, _, reason = ask("squeue", "--noheader", f"--jobs={task}", "--format=%T %r").strip().partition(" ")
    return state == "RUNNING" or reason == "TimeLimit"


def _read_cells(script: Path) -> list[Path]:
    try:
        return [cell.resolve() for cell in cells_in(script.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []


def ask(*command: str) -> str:
    """Returns the output of one of SLURM's commands.

    Raises:
        GridError: The command is not installed, fails, or does not answer.
    """
    # Variables that would hide a part of the queue, or override an option of the script, are left out.
    hidden = {f"SBATCH_{name}" for name in _SET_BY_THE_SCRIPT}
    environment = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("SQUEUE_")}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise GridError(
            f"SLURM's command {command[0]} is not found. Run launch-grid on a login node of the cluster."
        ) from None
    except subprocess.TimeoutExpired:
        raise GridError(f"{command[0]} did not answer for {_PATIENCE} s. Look at `scontrol ping`, and retry.") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = lines[-1].removeprefix(f"{command[0]}: ").removeprefix("error: ").removeprefix("fatal: ")
        raise GridError(f"{command[0]}: {reason}.")
    return done.stdout
