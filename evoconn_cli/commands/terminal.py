"""The terminal: streams, messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

import typer

from evoconn_cli.errors import EvoconnError, ExitCode

if TYPE_CHECKING:
    from rich.console import Console

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


_FILE_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, so that nothing is folded there."""


def stream_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Returns a console that redraws nothing in a file or a pipe, whatever FORCE_COLOR says.

    Args:
        stderr: whether it prints on standard error.
        file: where it prints instead of standard output.
    """
    from rich.console import Console

    stream = file or (sys.stderr if stderr else sys.stdout)
    return Console(stderr=stderr, file=file, force_interactive=None if stream.isatty() else False)


def table_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Returns a console for tables: wide in a file or a pipe, and without a character that its encoding lacks.

    Args:
        stderr: as for `stream_console`.
        file: as for `stream_console`.
    """
    console = stream_console(stderr=True) if stderr else stream_console(file=file or escaping_stdout())
    if not console.file.isatty():
        console.width = max(console.width, _FILE_WIDTH)
    return console


def say(console: Console, text: str) -> None:
    """Prints a sentence or a path as it is: unfolded, and `[` or `:100:` in it mean nothing."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def show_error(error: EvoconnError) -> None:
    """Prints the message of an error."""
    _show("Error:", "bold red", str(error))


def show_notice(text: str) -> None:
    """Prints what the user has to know and what stops nothing."""
    _show("Notice:", "bold yellow", text)


def _show(label: str, style: str, text: str) -> None:
    from rich.text import Text

    console = stream_console(stderr=True)
    console.print(Text(label, "" if console.no_color else style), end=" ", soft_wrap=True)
    typer.echo(text, err=True)


def leave(code: object) -> None:
    """Ends the process if XLA still compiles for a training that was ended; otherwise the interpreter does that.

    Args:
        code: Exit code, as in a SystemExit.
    """
    from evoconn_cli.runs.signals import is_computing

    if is_computing():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def show_failure(failure: BaseException) -> tuple[str, int]:
    """Prints why a command fails, as it would be where it ends by itself; returns that in a line, and the exit code."""
    if isinstance(failure, EvoconnError):
        show_error(failure)
        return str(failure), int(failure.exit_code)
    if isinstance(failure, typer.Exit):
        return "it was quit by hand", failure.exit_code
    traceback.print_exception(failure)
    return f"{type(failure).__name__}: {failure}", int(ExitCode.ERROR)


_LEAST_SIZE = {"COLUMNS": 10, "LINES": 2}
"""A terminal that says less has no size, as in some containers, and nothing would be seen."""

_MOST_SIZE = 10_000
"""No terminal is larger, and tables are padded to its width in memory."""


@contextlib.contextmanager
def usable_surroundings() -> Iterator[None]:
    """Lets commands run with closed streams, a closed pipe, and variables of a notebook or of a terminal without size.

    Who reads the output may stop at any time: that is no failure of the work.

    Raises:
        EvoconnError: there is no current directory, or no room for the output.
    """
    _open_missing_streams()
    for name, least in _LEAST_SIZE.items():
        given = os.environ.get(name)
        if given is not None and not (given.isdecimal() and len(given) < 10 and least <= int(given) <= _MOST_SIZE):
            del os.environ[name]
    # Matplotlib fails on the backend of a notebook, and warns of what it finds in files of the user.
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    out = LastingStream(sys.stdout, may_lose_output=False)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(LastingStream(sys.stderr)):
        yield
        out.flush()


def check_current_directory() -> None:
    """Checks that there is a current directory.

    Raises:
        EvoconnError: it was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise EvoconnError(f"the current directory cannot be used: {error.strerror}. Change to another one.") from None


def _open_missing_streams() -> None:
    """Opens the standard streams that this process was started without, so that no other file takes their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))


_CACHE_ERROR = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)")


def mend_compilation_cache() -> None:
    """From now on a program that cannot be read from the cache is replaced; if that cannot be, one notice says so.

    JAX writes into the file that it later reads. What a full disk or a killed process left of one would be refused at
    every start and never be written again.
    """
    show_warning = warnings.showwarning
    noticed = False

    def show(message: Warning | str, *where: Any, **other: Any) -> None:
        nonlocal noticed
        error = _CACHE_ERROR.match(str(message))
        if error is None:
            show_warning(message, *where, **other)
        elif (error[1] == "writing" or not _delete(error[2])) and not noticed:
            noticed = True
            show_notice(f"compiled programs cannot be kept in {_directory()} ({error[3]}): each start compiles anew.")

    warnings.showwarning = show


def _delete(program: str) -> bool:
    """Deletes what is kept of the program for any shapes, as JAX does not say which; returns whether that helps.

    There may be nothing: another process has deleted it, or was just writing it.
    """
    try:
        for entry in _directory().glob(f"{glob.escape(program)}-*"):
            entry.unlink(missing_ok=True)
    except OSError:
        return False
    return _directory().is_dir()


def _directory() -> Path:
    import jax

    return Path(jax.config.values["jax_compilation_cache_dir"])
