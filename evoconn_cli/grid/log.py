"""The output of a cell: `log.txt` in its directory."""

from __future__ import annotations

import os
from pathlib import Path

from evoconn_cli.errors import RunDirectoryError, printable

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
