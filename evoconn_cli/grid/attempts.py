"""The attempts at a cell: one line in `attempts.jsonl` when one starts, one when it ends.

A process that is killed leaves no word of its end. So an attempt is judged by what it leaves: it has failed if it
neither finished nor was asked to end, and saved nothing new.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from evoconn_cli.errors import ExitCode

FILE = "attempts.jsonl"

_ASKED_TO_END = (ExitCode.SAVED_EARLY, ExitCode.QUIT)


class Attempt(NamedTuple):
    """One attempt at a cell."""

    place: str  # device or job
    host: str
    pid: int
    started: float  # [s] since the epoch
    from_generation: int  # saved at its start
    ended: float | None = None  # None: it runs, or is gone without a word
    exit_code: int | None = None


class Attempts(NamedTuple):
    """All attempts at a cell.

    Attributes:
        attempts: oldest first.
        forgiven: how many of the first do not count any more.
        submitted: job that was asked to make the next attempt, None where there is none.
    """

    attempts: list[Attempt]
    forgiven: int
    submitted: str | None

    def failures(self, saved: int) -> int:
        """Returns how often the cell has failed since it last saved anything, or was forgiven.

        Args:
            saved: the newest generation that is saved now.
        """
        failures = 0
        for attempt in reversed(self.attempts[self.forgiven :]):
            if saved > attempt.from_generation or attempt.exit_code == ExitCode.DONE:
                break
            failures += attempt.exit_code not in _ASKED_TO_END
            saved = attempt.from_generation
        return failures

    @property
    def last_was_asked_to_end(self) -> bool:
        """Whether the last attempt ended because a signal or a time limit said so."""
        return bool(self.attempts) and self.attempts[-1].exit_code in _ASKED_TO_END


def read_attempts(cell: Path) -> Attempts:
    """Returns the attempts at the cell whose directory is `cell`."""
    attempts: list[Attempt] = []
    forgiven, submitted = 0, None
    for line in _lines(cell / FILE):
        event = line.get("event")
        if event == "submitted":
            submitted = str(line.get("job"))
        elif event == "start":
            submitted = None
            attempts.append(
                Attempt(
                    place=str(line.get("place")),
                    host=str(line.get("host")),
                    pid=int(line.get("pid") or 0),
                    started=float(line.get("time") or 0),
                    from_generation=int(line.get("saved") or 0),
                )
            )
        elif event == "end":
            _end(attempts, line)
        elif event == "forgiven":
            forgiven = len(attempts)
    return Attempts(attempts, forgiven, submitted)


def record_start(cell: Path, place: str, saved: int, pid: int | None = None) -> None:
    """Records that a process of this host begins an attempt.

    Args:
        cell: directory of the cell.
        place: device or job, in words.
        saved: the newest generation that is saved.
        pid: of the process; this one by default.
    """
    _append(cell, event="start", place=place, host=os.uname().nodename, pid=pid or os.getpid(), saved=saved)


def record_end(cell: Path, exit_code: int, pid: int | None = None) -> None:
    """Records how the attempt of a process of this host ended: of this one, or of the one with the number `pid`."""
    _append(cell, event="end", host=os.uname().nodename, pid=pid or os.getpid(), exit_code=exit_code)


def record_submission(cell: Path, job: str) -> None:
    """Records the job of a scheduler that will make the next attempt."""
    _append(cell, event="submitted", job=job)


def forgive(cell: Path) -> None:
    """Lets the failures so far not count any more."""
    _append(cell, event="forgiven")


def _end(attempts: list[Attempt], line: dict[str, Any]) -> None:
    """Enters into the attempt of a process how it ended."""
    for number in reversed(range(len(attempts))):
        attempt = attempts[number]
        if (attempt.host, attempt.pid) == (line.get("host"), line.get("pid")):
            attempts[number] = attempt._replace(ended=float(line.get("time") or 0), exit_code=line.get("exit_code"))
            return


def _append(cell: Path, **line: Any) -> None:
    text = json.dumps({**line, "time": time.time()}) + "\n"
    with (cell / FILE).open("a", encoding="utf-8") as file:
        file.write(text)


def _lines(file: Path) -> list[dict[str, Any]]:
    """Returns the lines that are whole."""
    lines = []
    try:
        texts = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines
