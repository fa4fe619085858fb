"""A standard output that takes every character, and one that cannot end a training: a closed terminal, a full disk."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO, cast


def escaping_stdout() -> TextIO:
    """Returns `sys.stdout`, which from now on writes characters that its encoding lacks as their escapes."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return sys.stdout


def lasting_stdout() -> TextIO:
    """Returns `escaping_stdout()`, written to as long as that works."""
    return cast(TextIO, LastingStream(escaping_stdout()))


class LastingStream:
    """A text stream that, after the first failure, takes everything and writes nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `text`, if that still works."""
        if not self._broken:
            try:
                return self._stream.write(text)
            except OSError:
                self._give_up()
            except RuntimeError:
                pass  # the note of a signal that came in the middle of a write: there is no way to write it now
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, if that still works."""
        if not self._broken:
            try:
                self._stream.flush()
            except OSError:
                self._give_up()
            except RuntimeError:
                pass

    def _give_up(self) -> None:
        """Sends all that follows to nowhere, what the interpreter flushes at its end included."""
        self._broken = True
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass  # a stream without a file
