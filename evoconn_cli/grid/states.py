"""What state a cell is in: what its run directory says, and nothing else."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.schema import most_steps
from evoconn_cli.grid.attempts import Attempt, read_attempts
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.log import LOG_FILE, end_of
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import MetricsLine, parse_lines
from evoconn_cli.runs.progress.history import RECENT, History, TimeLeft
from evoconn_cli.runs.training.lock_owner import living_owner

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
