"""What all executors of grids share: the command of a cell, its environment, and what follows its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import ExitCode, RunDirectoryError
from evoconn_cli.grid.attempts import read_attempts, record_end, record_start
from evoconn_cli.grid.cells import Cell, differing_keys
from evoconn_cli.grid.gpus import Note
from evoconn_cli.grid.states import CellStatus, State, last_log_lines
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


class Begun(NamedTuple):
    """An attempt at a cell, as it was when its process was started."""

    cell: Cell
    place: str
    attempts: int  # before this one
    saved: int  # newest generation that was saved


def record_unbegun(begun: Begun, exit_code: int, pid: int | None = None) -> bool:
    """Records an attempt whose process never came to do so; returns whether it was such a one.

    Args:
        begun: the attempt.
        exit_code: of its process.
        pid: of its process; this one by default.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    has_ended_well = exit_code in (ExitCode.DONE, ExitCode.SAVED_EARLY)
    if has_ended_well or len(read_attempts(begun.cell.path).attempts) > begun.attempts:
        return False
    record_start(begun.cell.path, begun.place, begun.saved, pid)
    record_end(begun.cell.path, exit_code, pid)
    return True


def pause_before_next(
    begun: Begun, status: CellStatus, launch: LaunchConfig, note: Note, *, ending: bool, reason: str = ""
) -> float | None:
    """Says how an attempt went; returns the wait before the next one [s], None where there is to be none.

    Args:
        begun: the attempt, which has ended.
        status: of the cell now.
        launch: how often it may fail, and how long it waits then.
        note: is told.
        ending: whether the launcher ends.
        reason: why the process ended, where its log does not say.
    """
    name = begun.cell.name
    if status.state is State.FINISHED:
        note(f"{name} is finished")
        return None
    goes_on = status.is_due(launch.retries) and not ending
    pause = 0.0 if status.saved > begun.saved else launch.retry_pause
    if status.state is State.FAILED:
        reason = reason or next(iter(last_log_lines(status.log, 1)), "")
        later = "tried again by the next launch-grid" if status.is_due(launch.retries) else "not tried again"
        what = f"tried again in {pause:g} s" if goes_on else later
        note(f"{name} has failed, {what}{f': {reason}' if reason else ''}")
    else:
        saved = f"is saved at generation {status.saved}" if status.saved else "has ended before it saved anything"
        note(f"{name} {saved}{f': {reason}' if reason else ''}")
    return pause if goes_on else None
