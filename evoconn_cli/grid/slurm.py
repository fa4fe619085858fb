"""The place `slurm`: one job array, whose tasks run the cells."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from evoconn_cli.config.grid import LaunchConfig
from evoconn_cli.errors import GridError
from evoconn_cli.grid.attempts import record_submission
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.places import PROGRAM
from evoconn_cli.grid.slurm_queue import Task, queued_cells, submit
from evoconn_cli.grid.slurm_script import FOLDER, make_script
from evoconn_cli.grid.states import State, read_status

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
        tasks = [queued.get(cell.path.absolute()) for cell in cells]
        return [f"slurm {task.id}, {task.state.lower()}" if task else "a new array of slurm" for task in tasks]

    def script(self, cells: Sequence[Cell]) -> str:
        """Returns what `run` would give to sbatch for these cells."""
        return make_script(self._new_name(), cells, self._launch, self._directory, self._program)

    def run(self, cells: Sequence[Cell], note: Callable[[str], None]) -> None:
        """Submits the cells that are not in the queue, and do not run elsewhere.

        Raises:
            GridError: SLURM does not answer, or refuses the array.
        """
        queued = self._queued()
        in_queue = sum(cell.path.absolute() in queued for cell in cells)
        if in_queue:
            note(f"{in_queue} cells are in SLURM's queue already.")
        out = [cell for cell in cells if cell.path.absolute() not in queued]
        new = [cell for cell in out if read_status(cell).state is not State.RUNNING]
        if len(new) < len(out):
            note(f"{len(out) - len(new)} cells run outside of SLURM: they are left alone.")
        if new:
            job = self._submit(new)
            note(f"SLURM array {job}: {len(new)} cells. To look: squeue --job={job}. To end them: scancel {job}.")
        if self._wait:
            self._follow({cell.path.absolute() for cell in cells})

    def _queued(self) -> dict[Path, Task]:
        return queued_cells(self._directory / FOLDER)

    def _submit(self, cells: Sequence[Cell]) -> str:
        """Returns the number of the array."""
        name = self._new_name()
        script = self._directory / FOLDER / f"{name}.sbatch"
        try:
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(make_script(name, cells, self._launch, self._directory, self._program), encoding="utf-8")
        except OSError as error:
            raise GridError(f"cannot write {script}: {error.strerror}.") from None
        job = submit(script)
        for number, cell in enumerate(cells):
            record_submission(cell.path, f"slurm {job}_{number}")
        return job

    def _follow(self, paths: set[Path]) -> None:
        """Returns when none of the cells is in the queue any more."""
        while paths & self._queued().keys():
            self._pause(_POLL)

    def _new_name(self) -> str:
        return f"evoconn-{self._grid_name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
