"""What every place does when the process of an attempt has ended: record it, say how it went, decide on the next."""

from __future__ import annotations

from typing import NamedTuple

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import ExitCode
from evoconn_cli.grid.attempts import read_attempts, record_end, record_start
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.devices import Note
from evoconn_cli.grid.log import last_log_lines
from evoconn_cli.grid.states import CellStatus, State


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
