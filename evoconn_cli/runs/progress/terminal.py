"""A standard output that takes every character, and one that cannot end a training: a closed terminal, a full disk."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO, cast

from evoconn_cli.errors import EvoconnError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def escaping_stdout() -> TextIO:
    """Returns `sys.stdout`, which from now on writes characters that its encoding lacks as their escapes."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return sys.stdout


def lasting_stdout() -> TextIO:
    """Returns `escaping_stdout()`, written to as long as that works."""
    if isinstance(sys.stdout, LastingStream):
        sys.stdout.may_lose_output = True
    return cast(TextIO, LastingStream(escaping_stdout()))


class LastingStream:
    """A text stream that, after the first failure, takes everything and writes nothing.

    Args:
        stream: where it writes.
        may_lose_output: whether a full disk is such a failure too, or an error.
    """

    def __init__(self, stream: TextIO, *, may_lose_output: bool = True) -> None:
        self._stream = stream
        self._broken = False
        self.may_lose_output = may_lose_output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `text`, if that still works."""
        if not self._broken and text != "":  # Typer tries out with "" what a stream takes, and hides what it raises
            try:
                return self._stream.write(text)
            except OSError as error:
                self._give_up(error)
            except RuntimeError:
                pass  # the note of a signal that came in the middle of a write: there is no way to write it now
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, if that still works."""
        if not self._broken:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)
            except RuntimeError:
                pass

    def _give_up(self, failure: OSError) -> None:
        """Sends all that follows to nowhere, what the interpreter flushes at its end included."""
        self._broken = True
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass  # a stream without a file
        if failure.errno in _NO_ROOM and not self.may_lose_output:
            raise EvoconnError(f"the output cannot be written: {failure.strerror}.") from None
