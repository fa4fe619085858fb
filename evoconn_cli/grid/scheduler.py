"""Runs the cells of a grid on an executor: what starts next, how attempts ended, and what is retried."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import EvoconnError, ExitCode
from evoconn_cli.grid import Note
from evoconn_cli.grid.attempts import read_attempts, record_end, record_start
from evoconn_cli.grid.cells import Cell, prepare
from evoconn_cli.grid.states import State, last_log_lines, read_status
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.lock import host_name, living_owner
from evoconn_cli.runs.signals import Interrupts

if TYPE_CHECKING:
    from evoconn_cli.grid.search import GridSearch

_LOOK_ELSEWHERE = 5.0  # [s] between looks at cells that other processes run
_FOLLOW = 2.0  # [s] between looks at what the trials of a search have reached

_ENDING = (
    "the running cells finish their generation and save, or end if they have none yet; Ctrl-C again to quit at once."
)


class Ended(NamedTuple):
    """The end of an attempt at a cell."""

    cell: Cell
    exit_code: int
    reason: str = ""  # of the end, if the log does not tell
    pid: int | None = None  # of the process, if it ran on this host


class Executor(ABC):
    """Runs attempts at cells, on this machine or on a cluster.

    Attributes:
        keeps_cells: Whether cells go on when the launcher is asked to end.
    """

    keeps_cells = False

    @abstractmethod
    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns in words where each of the cells would run; nothing is started."""

    def session(self) -> AbstractContextManager[None]:
        """Returns the context in which all methods below are called."""
        return nullcontext()

    def has_room(self) -> bool:
        """Returns whether another cell can be started now."""
        return True

    @abstractmethod
    def start(self, cell: Cell, saved: int) -> str:
        """Starts or resumes a cell, and returns where it runs.

        Args:
            cell: Cell that is not running.
            saved: Newest saved generation.

        Raises:
            OSError: The process cannot be started.
            EvoconnError: As above, with a message.
        """

    @abstractmethod
    def wait(self) -> list[Ended]:
        """Waits a moment, and returns the attempts that have ended."""

    def release_unused(self) -> None:  # noqa: B027  # a cluster holds its devices itself
        """Releases what is held for further cells; called while none is ready to start, and at the end."""

    @abstractmethod
    def ask_to_end(self, cell: Cell) -> None:
        """Asks a running cell to save and end."""

    def quit(self) -> list[Ended]:
        """Ends all running cells at once, and returns how they ended."""
        return []


class _Started(NamedTuple):
    """An attempt that this scheduler has started."""

    place: str
    attempts: int  # earlier ones
    saved: int  # newest saved generation at its start


class Scheduler:
    """Runs cells on an executor.

    A cell that another process runs, such as one of a launcher that was killed, is left alone until it has ended. A
    cell that fails never stops the others.

    Args:
        executor: Executor of the cells.
        launch: How cells are run.
        note: Shows the user what happens.
        search: Trials of a search, whose cells are run as they appear.
    """

    def __init__(self, executor: Executor, launch: LaunchConfig, note: Note, search: GridSearch | None = None) -> None:
        self._executor = executor
        self._launch = launch
        self._note = note
        self._search = search
        self._waiting: list[tuple[float, Cell]] = []  # with the earliest start [s]
        self._elsewhere: list[Cell] = []
        self._look_elsewhere_at = 0.0
        self._running: dict[Cell, _Started] = {}
        self._left_out: dict[Cell, str] = {}
        self._is_ending = False
        self._follow_at = 0.0
        self._pruned: set[Cell] = set()  # asked to end

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns in words where each of the cells would run; nothing is started."""
        return self._executor.plan(cells)

    def run(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        """Runs cells until each is finished or used up its retries, or this process is asked to end.

        The first signal lets the running cells save; a second Ctrl-C quits them. Any other error leaves them running.

        Args:
            cells: Unfinished cells in the order to run them; their directories exist.

        Returns:
            The cells that could not be run, and why. How the others went is read from their directories.
        """
        self._waiting = [(0.0, cell) for cell in cells]
        with self._executor.session(), Interrupts() as interrupts:
            interrupts.training = True  # only a second Ctrl-C raises KeyboardInterrupt
            try:
                while True:
                    if interrupts.requested and not self._is_ending:
                        self._ask_to_end()
                    self._look_elsewhere()
                    self._follow_search()
                    while not interrupts.requested and self._start_next():
                        pass
                    if not (self._waiting or self._running or self._elsewhere or self._wants_more()):
                        break
                    if self._first_ready() is None:
                        self._executor.release_unused()
                    for ended in self._executor.wait():
                        self._take_in(ended)
            except KeyboardInterrupt:
                self._is_ending = True
                for ended in self._executor.quit():
                    attempt = self._running.get(ended.cell)  # None if Ctrl-C came while it was started
                    with suppress(EvoconnError):
                        if attempt is not None:
                            self._record(attempt, ended)
                raise
            finally:
                self._executor.release_unused()
        return self._left_out

    def _first_ready(self) -> tuple[float, Cell] | None:
        """Returns the first entry of the cells that need not wait any longer."""
        now = time.monotonic()
        return next((entry for entry in self._waiting if entry[0] <= now), None)

    def _start_next(self) -> bool:
        """Starts the first ready cell if the executor has room; returns whether to try another."""
        ready = self._first_ready()
        if ready is None:
            return self._ask_next()
        cell = ready[1]
        status = read_status(cell)
        is_due = status.is_due(self._launch.retries)  # not if another launcher was quicker
        if is_due and not self._executor.has_room():
            return False
        self._waiting.remove(ready)
        if is_due:
            try:
                place = self._executor.start(cell, status.saved)
                self._running[cell] = _Started(place, status.attempts, status.saved)
            except (OSError, EvoconnError) as error:
                self._leave_out(cell, f"it cannot be started: {error}")
        elif status.state is State.RUNNING:
            self._elsewhere.append(cell)
            self._note(f"{cell.name} is left alone: it already runs{f' on {status.place}' if status.place else ''}.")
        return True

    def _wants_more(self) -> bool:
        """Returns whether another trial of a search may begin."""
        return self._search is not None and self._search.wants_more and not self._is_ending

    def _ask_next(self) -> bool:
        """Begins a trial if the executor has room for it, and returns whether it has."""
        if self._search is None or not self._wants_more() or not self._executor.has_room():
            return False
        self._add(self._search.ask(self._note))
        self._follow_at = 0.0  # the result is known if other trials have the same values
        self._follow_search()
        return True

    def _add(self, cells: Sequence[Cell]) -> None:
        """Queues cells of a search."""
        assert self._search is not None
        for cell in cells:
            try:
                prepare(cell, self._search.file.name)
                self._waiting.append((0.0, cell))
            except EvoconnError as error:
                self._leave_out(cell, str(error))

    def _follow_search(self) -> None:
        """Tells a search what its trials have reached, ends those that it prunes, and queues those of others."""
        if self._search is None or time.monotonic() < self._follow_at:
            return
        self._follow_at = time.monotonic() + _FOLLOW
        to_end, new = self._search.follow()
        for cell in to_end:
            if cell not in self._pruned:
                self._pruned.add(cell)
                self._note(f"{cell.name} is pruned: it finishes its generation and saves")
                self._end(cell)
        if not self._is_ending:
            self._add(new)

    def _end(self, cell: Cell) -> None:
        """Asks a cell to save and end, if this launcher runs it, or another process of this host does."""
        owner = living_owner(RunDirectory(cell.path).lock_file)
        if cell in self._running or self._executor.keeps_cells:
            self._executor.ask_to_end(cell)
        elif owner is not None and owner["host"] == host_name():
            with suppress(OSError):
                os.kill(owner["pid"], signal.SIGTERM)

    def _look_elsewhere(self) -> None:
        """Queues cells that another process has left."""
        if not self._elsewhere or time.monotonic() < self._look_elsewhere_at:
            return
        self._look_elsewhere_at = time.monotonic() + _LOOK_ELSEWHERE
        for cell in list(self._elsewhere):
            if read_status(cell).state is not State.RUNNING:
                self._elsewhere.remove(cell)
                self._waiting.append((0.0, cell))

    def _take_in(self, ended: Ended) -> None:
        """Records and shows how an attempt ended, and queues the next one."""
        cell, attempt = ended.cell, self._running.pop(ended.cell)
        self._follow_at = 0.0
        try:
            self._record(attempt, ended)
        except EvoconnError as error:
            self._leave_out(cell, str(error))
            return
        status = read_status(cell)
        if status.state is State.RUNNING:
            lost = f"has lost its worker ({ended.reason}), and saves"
            self._note(f"{cell.name} {lost if ended.reason else 'is trained by another process'}")
            if not self._is_ending:
                self._elsewhere.append(cell)
            return
        pause = 0.0 if status.saved > attempt.saved else self._launch.retry_pause
        is_due = status.is_due(self._launch.retries)
        if status.state is State.FINISHED:
            self._note(f"{cell.name} is finished")
        elif status.state is State.PRUNED:
            self._note(f"{cell.name} is saved at generation {status.saved}, and ends there: it is pruned")
        elif status.state is State.FAILED:
            reason = ended.reason or next(iter(last_log_lines(status.log, 1)), "")
            later = "the next launch-grid retries it" if is_due else "it is not retried"
            what = f"retry in {pause:g} s" if is_due and not self._is_ending else later
            self._note(f"{cell.name} has failed, {what}{f': {reason}' if reason else ''}")
        else:
            saved = f"is saved at generation {status.saved}" if status.saved else "has ended before it saved anything"
            self._note(f"{cell.name} {saved}{f': {ended.reason}' if ended.reason else ''}")
        if is_due and not self._is_ending:
            self._waiting.append((time.monotonic() + pause, cell))

    def _record(self, attempt: _Started, ended: Ended) -> None:
        """Records an end that the process could not: it never began its attempt, or was killed as it was to end.

        Raises:
            RunDirectoryError: The attempts cannot be written.
        """
        if ended.exit_code in (ExitCode.DONE, ExitCode.SAVED_EARLY):
            return
        path, exit_code = ended.cell.path, ExitCode.QUIT if self._is_ending else ended.exit_code
        if len(read_attempts(path).attempts) <= attempt.attempts:
            record_start(path, attempt.place, attempt.saved, ended.pid)
            record_end(path, exit_code, ended.pid)
        elif self._is_ending and ended.exit_code < 0 and ended.pid is not None:
            record_end(path, exit_code, ended.pid)

    def _ask_to_end(self) -> None:
        self._is_ending = True
        self._waiting.clear()
        self._elsewhere.clear()
        if self._executor.keeps_cells:
            self._note("the cells go on; the same command follows them again.")
            self._running.clear()
        elif self._running:
            self._note(_ENDING)
            for cell in self._running:
                self._executor.ask_to_end(cell)

    def _leave_out(self, cell: Cell, reason: str) -> None:
        self._left_out[cell] = reason
        if self._search is not None:
            self._search.leave_out(cell)
        self._note(f"{cell.name} is left out: {reason}")
