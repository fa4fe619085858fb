"""What a place to run cells is, and the one command that every place runs for a cell.

A place decides where and when `evoconn run-cell CELL_DIR` runs. That command goes on from the latest checkpoint, holds
the run's lock, records the attempt, and writes all output to the cell's `log.txt`. Its exit code is 0 when the cell is
finished, 75 when it is to go on later, and anything else when it has failed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.grid.cells import Cell, differing_keys
from evoconn_cli.grid.devices import Note
from evoconn_cli.runs.directory import RunDirectory

ENDING = (
    "the running cells finish their generation and save, or end if they have none yet; Ctrl-C again to quit at once."
)
"""What a place says at the first Ctrl-C."""

PLACE_VARIABLE = "EVOCONN_CELL_PLACE"
"""Environment variable of `run-cell`: device or job, as the status table shows it."""

CORES_VARIABLE = "EVOCONN_CELL_CORES"
"""Environment variable of `run-cell`: the cores that it may run on, such as `0,1`; all where it is not set."""

PYTHON = (sys.executable, "-P")
"""Starts Python so that no module is imported from the working directory, whatever files are in it."""

PROGRAM = (*PYTHON, "-m", "evoconn_cli")


class Place(Protocol):
    """Where cells are run."""

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns for each of the cells where it would run, in words; nothing is started."""
        ...

    def run(self, cells: Sequence[Cell], note: Note) -> dict[Cell, str]:
        """Runs cells, or hands them to a scheduler; how it went is read from their directories.

        One cell that fails never stops the others.

        Args:
            cells: that are due or run already, in the order to run them; their directories are there.
            note: is told what happens.

        Returns:
            The cells that could not be run, and why.
        """
        ...


def cell_command(cell: Cell, launch: LaunchConfig, program: Sequence[str] | None = None) -> list[str]:
    """Returns the command that runs a cell, or goes on with it.

    Args:
        cell: to run.
        launch: its time limit.
        program: that has the command `run-cell`; `PROGRAM` by default.
    """
    limit = ["--max-time", launch.time_limit] if launch.time_limit else []
    return [*(program or PROGRAM), "run-cell", str(cell.path.absolute()), *limit]


def cell_environment(launch: LaunchConfig, place: str, cores: Sequence[int] = ()) -> dict[str, str]:
    """Returns the environment variables of that command, besides those that are inherited."""
    pinned = {CORES_VARIABLE: ",".join(map(str, cores))} if cores else {}
    return {**launch.environment, PLACE_VARIABLE: place, **pinned}


def prepare(cell: Cell, grid_name: str) -> None:
    """Makes the run directory of a cell, if there is none yet.

    Raises:
        RunDirectoryError: it cannot be written, or holds another run.
    """
    run = RunDirectory(cell.path)
    if not run.config_file.exists():
        facts: Mapping[str, Any] = {
            "status": "created",
            "wandb_id": None,
            "resumed": [],
            "grid": {"name": grid_name, "cell": cell.name, "settings": dict(cell.settings)},
        }
        RunDirectory.create(cell.path, cell.config, dict(facts))
        return
    differ = differing_keys(cell, run.read_config())
    if differ:
        raise RunDirectoryError(
            f"{cell.path} holds another run than the grid asks for: {', '.join(differ[:3])} differ. Its config.yaml "
            "was changed, or it was made by a version with other defaults. Move it away, or name another --grid-dir."
        )
