"""The state and the progress of a cell, read from its run directory."""

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
from evoconn_cli.runs.ending import ENDING_KEYS, read_ending
from evoconn_cli.runs.lock import living_owner
from evoconn_cli.runs.metrics import MetricsLine, parse_lines, read_metrics

LOG_FILE = "log.txt"

_LOG_END = 16 * 1024
"""Length of the end of a log that is read for its last lines [bytes]; lines of errors can be long."""

_LINE = 2048
"""Upper bound for the length of a line of metrics.jsonl [bytes]."""


class State(StrEnum):
    """State of a cell."""

    WAITING = "waiting"  # nothing is saved, and its last attempt has not failed
    RUNNING = "running"
    SAVED = "saved"  # it resumes from its latest checkpoint
    FAILED = "failed"
    PRUNED = "pruned"  # ended by the pruner of a search
    FINISHED = "finished"

    @property
    def is_final(self) -> bool:
        """Whether no further attempt is needed."""
        return self in (State.PRUNED, State.FINISHED)


class CellStatus(NamedTuple):
    """The state of a cell and of its attempts."""

    state: State
    saved: int  # newest saved generation
    failures: int  # since it last saved anything
    attempts: int
    last_attempt: Attempt | None
    submitted: str | None  # job that will make the next attempt
    log: Path
    ended_by: str | None = None  # key with which it ended before its last generation, such as `algo.patience`

    @property
    def place(self) -> str:
        """Device or job on which the cell runs, was run last, or will run; empty if unknown."""
        if self.submitted is not None:
            return self.submitted
        return self.last_attempt.place if self.last_attempt else ""

    def is_due(self, retries: int) -> bool:
        """Returns whether the cell is to be run now, if a failed one is retried `retries` times."""
        if self.state is State.FAILED:
            return self.failures <= retries
        return self.state in (State.WAITING, State.SAVED)


class CellProgress(NamedTuple):
    """How far a cell is."""

    generation: int
    eval_fitness: float | None
    steps_per_second: float | None
    time_left: TimeLeft | None  # of training


def read_status(cell: Cell) -> CellStatus:
    """Returns the state of a cell.

    Raises:
        EvoconnError: This user may not read the directory.
    """
    run = RunDirectory(cell.path)
    tries = read_attempts(cell.path)
    saved = run.last_saved_generation()
    last = tries.attempts[-1] if tries.attempts else None
    is_running = living_owner(run.lock_file) is not None or (last is not None and last.is_starting())
    failures = tries.failures(saved, is_running=is_running)
    ending = read_ending(run.read_facts(), saved) if saved and not is_running else None
    ended_by = ending.by if ending is not None and ending.by in ENDING_KEYS else None
    if is_running:
        state = State.RUNNING
    elif ended_by is not None or saved >= cell.config.algo.generations:
        state = State.FINISHED
    elif tries.is_pruned:
        state = State.PRUNED
    elif not tries.attempts and not saved:
        state = State.WAITING
    elif failures and not tries.last_was_asked_to_end:
        state = State.FAILED
    else:
        state = State.SAVED if saved else State.WAITING
    log = cell.path / LOG_FILE
    return CellStatus(state, saved, failures, len(tries.attempts), last, tries.submitted, log, ended_by)


def read_progress(cell: Cell) -> CellProgress:
    """Returns how far a cell is, from the end of its metrics.jsonl."""
    algo = cell.config.algo
    history = History(
        most_steps=most_steps(cell.config),
        max_env_steps=algo.max_env_steps,
        may_end_early=algo.target_fitness is not None or algo.patience is not None,
    )
    end = _end_of(RunDirectory(cell.path).metrics_file, (RECENT + 1) * _LINE)
    for line in parse_lines(end.decode(errors="replace"))[-RECENT - 1 :]:
        history.add(line)
    last = history.last
    return CellProgress(
        generation=int(last.get("generation") or 0),
        eval_fitness=last.get("eval_fitness"),
        steps_per_second=history.steps_per_second(),
        time_left=history.time_left(cell.config.algo.generations),
    )


def read_lines(cell: Cell) -> list[MetricsLine]:
    """Returns the metrics of a cell; none if they cannot be read."""
    try:
        return read_metrics(RunDirectory(cell.path).metrics_file)
    except RunDirectoryError:
        return []


def last_log_lines(log: Path, count: int = 5) -> list[str]:
    """Returns the last non-empty lines of a log, without control characters."""
    text = _end_of(log, _LOG_END).decode(errors="replace")
    return [printable(line.rstrip()) for line in text.splitlines() if line.strip()][-count:]


def _end_of(file: Path, size: int) -> bytes:
    """Returns the last `size` bytes of a file; nothing if it cannot be read."""
    try:
        with file.open("rb") as opened:
            opened.seek(0, os.SEEK_END)
            opened.seek(max(0, opened.tell() - size))
            return opened.read()
    except OSError:
        return b""
