"""The state of a cell, read from its run directory."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.schema import most_steps
from evoconn_cli.errors import RunDirectoryError, printable
from evoconn_cli.grid.attempts import Attempt, read_attempts
from evoconn_cli.grid.cells import Cell
from evoconn_cli.progress.history import RECENT, History, TimeLeft
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.lock import living_owner
from evoconn_cli.runs.metrics import MetricsLine, parse_lines

LOG_FILE = "log.txt"

_END = 16 * 1024
"""So much of a log is read for its last lines [bytes]: lines of errors can be long."""


def open_log(cell: Path) -> int:
    """Returns the descriptor of the log of the cell whose directory is `cell`, to be written at its end.

    Raises:
        RunDirectoryError: it cannot be written, or is a symbolic link.
    """
    log = cell / LOG_FILE
    try:
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        reason = "it is a symbolic link" if log.is_symlink() else error.strerror
        raise RunDirectoryError(f"cannot write {log}: {reason}.") from None


def last_log_lines(log: Path, count: int = 5) -> list[str]:
    """Returns the last lines of a cell's output that are not empty, without what a terminal would obey."""
    text = end_of(log, _END).decode(errors="replace")
    return [printable(line.rstrip()) for line in text.splitlines() if line.strip()][-count:]


def end_of(file: Path, size: int) -> bytes:
    """Returns the last bytes of a file; nothing where there is none."""
    try:
        with file.open("rb") as opened:
            opened.seek(0, os.SEEK_END)
            opened.seek(max(0, opened.tell() - size))
            return opened.read()
    except OSError:
        return b""


_LINE = 2048
"""A line of metrics.jsonl is shorter [bytes]."""


class State(StrEnum):
    """Of a cell."""

    WAITING = "waiting"  # it has never run
    RUNNING = "running"
    SAVED = "saved"  # it goes on from its latest checkpoint
    FAILED = "failed"
    FINISHED = "finished"


class CellStatus(NamedTuple):
    """What the files of a cell say."""

    state: State
    saved: int  # newest generation that is saved
    failures: int  # since it last saved anything
    attempts: int
    last_attempt: Attempt | None
    submitted: str | None  # job that will make the next attempt
    log: Path

    @property
    def place(self) -> str:
        """Where the cell runs, was run last, or will run; empty where nothing is known."""
        if self.submitted is not None:
            return self.submitted
        return self.last_attempt.place if self.last_attempt else ""

    def is_due(self, retries: int) -> bool:
        """Returns whether the cell is to be run now, `retries` being how often it may fail beside the first time."""
        if self.state is State.FAILED:
            return self.failures <= retries
        return self.state in (State.WAITING, State.SAVED)


class Progress(NamedTuple):
    """How far a cell is, from the end of its metrics.jsonl."""

    generation: int
    eval_fitness: float | None
    steps_per_second: float | None
    time_left: TimeLeft | None  # of training


def read_status(cell: Cell) -> CellStatus:
    """Returns the state of a cell."""
    run = RunDirectory(cell.path)
    tries = read_attempts(cell.path)
    saved = run.last_saved_generation()
    last = tries.attempts[-1] if tries.attempts else None
    is_running = living_owner(run.lock_file) is not None or (last is not None and last.is_starting())
    failures = tries.failures(saved, is_running=is_running)
    if is_running:
        state = State.RUNNING
    elif saved >= cell.config.algo.generations:
        state = State.FINISHED
    elif not tries.attempts and not saved:
        state = State.WAITING
    elif failures and not tries.last_was_asked_to_end:
        state = State.FAILED
    else:
        state = State.SAVED if saved else State.WAITING
    return CellStatus(state, saved, failures, len(tries.attempts), last, tries.submitted, cell.path / LOG_FILE)


def read_progress(cell: Cell) -> Progress:
    """Returns how far a cell is."""
    history = History(most_steps=most_steps(cell.config))
    lines = _last_lines(RunDirectory(cell.path).metrics_file)
    for line in lines:
        history.add(line)
    last = history.last
    return Progress(
        generation=int(last.get("generation") or 0),
        eval_fitness=last.get("eval_fitness"),
        steps_per_second=history.steps_per_second(),
        time_left=history.time_left(cell.config.algo.generations),
    )


def _last_lines(metrics: Path) -> list[MetricsLine]:
    return parse_lines(end_of(metrics, (RECENT + 1) * _LINE).decode(errors="replace"))[-RECENT - 1 :]
