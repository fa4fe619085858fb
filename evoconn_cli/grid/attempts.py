"""The attempts at a cell: `attempts.jsonl` gets one line when an attempt starts and one when it ends.

A process that is killed cannot record its end. So an attempt has failed if it neither finished nor was asked to end,
and saved nothing new.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from evoconn_cli.errors import ExitCode, RunDirectoryError, printable
from evoconn_cli.runs.lock import PATIENCE, host_name, is_alive

FILE = "attempts.jsonl"

_START = {"place": str, "host": str, "pid": int, "time": float, "saved": int}
"""Types of the values in the line of a start."""

_ASKED_TO_END = (ExitCode.SAVED_EARLY, ExitCode.QUIT)


class Attempt(NamedTuple):
    """One attempt at a cell."""

    place: str  # device or job, for the user
    host: str
    pid: int
    started: float  # [s] since the epoch
    from_generation: int  # newest saved generation at its start
    ended: float | None = None  # [s] since the epoch; None if it runs, or its process was killed
    exit_code: int | None = None

    def is_starting(self) -> bool:
        """Returns whether its process started a moment ago, and may not have the lock of the run yet.

        Only for a moment, since process ids are reused, and those of other hosts cannot be checked.
        """
        may_live = self.host != host_name() or is_alive(self.pid)
        return self.ended is None and may_live and abs(time.time() - self.started) < 2 * PATIENCE


class Attempts(NamedTuple):
    """All attempts at a cell.

    Attributes:
        attempts: Attempts, oldest first.
        forgiven: Number of first attempts that do not count any more.
        submitted: Submitted job that will make the next attempt; None if there is none.
        is_pruned: Whether the pruner of a search has ended the cell.
    """

    attempts: list[Attempt]
    forgiven: int
    submitted: str | None
    is_pruned: bool = False

    def failures(self, saved: int, *, is_running: bool = False) -> int:
        """Returns the number of failures since the cell last saved anything, or was forgiven.

        Args:
            saved: Newest saved generation.
            is_running: Whether the last attempt is still running, and so has not failed.
        """
        failures = 0
        counted = self.attempts[self.forgiven :]
        if is_running and counted and counted[-1].ended is None:
            counted.pop()
        for attempt in reversed(counted):
            if saved > attempt.from_generation or attempt.exit_code == ExitCode.DONE:
                break
            failures += attempt.exit_code not in _ASKED_TO_END
            saved = attempt.from_generation
        return failures

    def in_vain(self, saved: int) -> int:
        """Returns the number of attempts since the cell last saved anything, or was forgiven, however they ended.

        Args:
            saved: Newest saved generation.
        """
        return sum(attempt.from_generation >= saved for attempt in self.attempts[self.forgiven :])

    @property
    def last_was_asked_to_end(self) -> bool:
        """Whether the last attempt was ended by a signal or a time limit."""
        return bool(self.attempts) and self.attempts[-1].exit_code in _ASKED_TO_END


def read_attempts(cell: Path) -> Attempts:
    """Returns the attempts at the cell in the directory `cell`.

    Raises:
        RunDirectoryError: This user may not read the file.
    """
    attempts: list[Attempt] = []
    forgiven, submitted, is_pruned = 0, None, False
    for line in _lines(cell / FILE):
        event = line.get("event")
        if event == "submitted":
            submitted = printable(str(line.get("job")))
        elif event == "start" and (attempt := _start_of(line)) is not None:
            submitted = None
            attempts.append(attempt)
        elif event == "end":
            _end(attempts, line)
        elif event == "forgiven":
            forgiven = len(attempts)
        elif event == "pruned":
            is_pruned = True
    return Attempts(attempts, forgiven, submitted, is_pruned)


def record_start(cell: Path, place: str, saved: int, pid: int | None = None) -> None:
    """Records that a process of this host starts an attempt.

    Args:
        cell: Directory of the cell.
        place: Device or job, for the user.
        saved: Newest saved generation.
        pid: Id of the process; this one by default.

    Raises:
        RunDirectoryError: The file cannot be written; so too in the functions below.
    """
    _append(cell, event="start", place=place, host=host_name(), pid=pid or os.getpid(), saved=saved)


def record_end(cell: Path, exit_code: int, pid: int | None = None) -> None:
    """Records the end of the attempt of a process of this host, by default of this one."""
    _append(cell, event="end", host=host_name(), pid=pid or os.getpid(), exit_code=exit_code)


def record_submission(cell: Path, job: str) -> None:
    """Records the submitted job that will make the next attempt."""
    _append(cell, event="submitted", job=job)


def forgive(cell: Path) -> None:
    """Records that earlier attempts do not count any more."""
    _append(cell, event="forgiven")


def record_pruned(cell: Path) -> None:
    """Records that the pruner of a search has ended the cell, which needs no further attempt."""
    _append(cell, event="pruned")


def _start_of(line: dict[str, Any]) -> Attempt | None:
    """Returns the attempt that starts with a line; None if the line is malformed."""
    if any(type(line.get(name)) is not kind for name, kind in _START.items()):
        return None
    return Attempt(printable(line["place"]), line["host"], line["pid"], line["time"], line["saved"])


def _end(attempts: list[Attempt], line: dict[str, Any]) -> None:
    """Adds the end to the last attempt of the same process."""
    ended, exit_code = line.get("time"), line.get("exit_code")
    if type(ended) is not float or type(exit_code) is not int:
        return
    for number in reversed(range(len(attempts))):
        attempt = attempts[number]
        if (attempt.host, attempt.pid) == (line.get("host"), line.get("pid")):
            attempts[number] = attempt._replace(ended=ended, exit_code=exit_code)
            return


def _append(cell: Path, **line: Any) -> None:
    """Appends a line, on its own even if the last one was cut off."""
    text = json.dumps({**line, "time": time.time()}) + "\n"
    try:
        descriptor = os.open(cell / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(descriptor, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            is_cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            file.write(b"\n" * is_cut_off + text.encode())
    except OSError as error:
        raise RunDirectoryError(f"cannot write {cell / FILE}: {error.strerror}.") from None


def _lines(file: Path) -> list[dict[str, Any]]:
    """Returns the complete lines of a file."""
    lines = []
    try:
        texts = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except PermissionError as error:
        raise RunDirectoryError(f"cannot read {file}: {error.strerror}.") from None
    except OSError:
        return []
    for text in texts:
        with suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict):
                lines.append(line)
    return lines
