"""The terminal: output streams, consoles, messages, and the environment that commands run in."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from evoconn_cli.config.plugin_errors import plugin_failure
from evoconn_cli.errors import EvoconnError, ExitCode, first_line

if TYPE_CHECKING:
    from rich.console import Console

# Streams

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LastingStream:
    """A text stream that discards everything after its first failure, such as a closed pipe.

    Args:
        stream: Stream to write to.
        may_lose_output: Whether a full disk is ignored too, instead of being an error.
    """

    def __init__(self, stream: TextIO, *, may_lose_output: bool = True) -> None:
        self._stream = stream
        self._broken = False
        self.may_lose_output = may_lose_output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `text`, unless the stream has failed."""
        if text != "":  # Typer probes streams with "" and hides what they raise
            self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes buffered text, unless the stream has failed."""
        self._attempt(self._stream.flush)

    def _attempt(self, write: Any) -> None:
        if self._broken:
            return
        try:
            write()
        except OSError as error:
            self._give_up(error)
        except RuntimeError:
            pass  # a signal handler prints during a write: its message is lost

    def _give_up(self, failure: OSError) -> None:
        """Redirects all later output to nowhere, including what the interpreter flushes at exit."""
        self._broken = True
        with contextlib.suppress(OSError, ValueError):  # a stream without a file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if failure.errno in _NO_ROOM and not self.may_lose_output:
            raise EvoconnError(f"the output cannot be written: {failure.strerror}.") from None


def _open_missing_streams() -> None:
    """Opens the standard streams that this process was started without, so that no other file gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))


# Consoles and messages

_FILE_WIDTH = 160
"""Columns of output to a file or a pipe, so that tables are not folded there."""


def make_console(*, stderr: bool = False, may_lose_output: bool = False) -> Console:
    """Returns a console; in a file or a pipe it redraws nothing, whatever FORCE_COLOR says, and does not fold tables.

    Args:
        stderr: Print on standard error.
        may_lose_output: Continue when the disk that holds the output is full.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # characters that the encoding lacks
    if may_lose_output and isinstance(stream, LastingStream):
        stream.may_lose_output = True
    is_terminal = stream.isatty()
    console = Console(stderr=stderr, force_interactive=None if is_terminal else False)
    if not is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    return console


def show_error(error: EvoconnError) -> None:
    """Prints the message of an error, and its notes."""
    _show("Error:", "bold red", str(error))
    for line in getattr(error, "__notes__", ()):
        typer.echo(line, err=True)


def show_notice(text: str) -> None:
    """Prints a non-fatal notice."""
    _show("Notice:", "bold yellow", text)


def _show(label: str, style: str, text: str) -> None:
    from rich.text import Text

    console = make_console(stderr=True)
    console.print(Text(label, "" if console.no_color else style), end=" ", soft_wrap=True)
    typer.echo(text, err=True)


def show_failure(failure: BaseException) -> tuple[str, int]:
    """Prints why a command fails; returns the reason in one line, and the exit code."""
    failure = plugin_failure(failure) or failure
    if isinstance(failure, EvoconnError):
        show_error(failure)
        return str(failure), int(failure.exit_code)
    if isinstance(failure, typer.Exit):
        return "it was quit by hand", failure.exit_code
    traceback.print_exception(failure)
    return f"{type(failure).__name__}: {first_line(failure)}", int(ExitCode.ERROR)


def leave(code: object) -> None:
    """Ends the process at once if XLA still compiles for an ended training; otherwise returns.

    Args:
        code: Exit code, as in a SystemExit.
    """
    from evoconn_cli.runs.signals import is_computing

    if is_computing():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


# The environment

_LEAST_SIZE = {"COLUMNS": 10, "LINES": 2}
"""Some containers report smaller terminals, in which nothing would be visible."""

_MOST_SIZE = 10_000
"""No terminal is larger, and tables are padded to its width in memory."""


@contextlib.contextmanager
def usable_environment() -> Iterator[None]:
    """Lets commands run with closed streams, a closed pipe, a terminal without size, or variables of a notebook.

    The reader of the output may stop at any time without making the work fail.

    Raises:
        EvoconnError: The disk that holds the output is full.
    """
    _open_missing_streams()
    for name, least in _LEAST_SIZE.items():
        given = os.environ.get(name)
        if given is not None and not (given.isdecimal() and len(given) < 10 and least <= int(given) <= _MOST_SIZE):
            del os.environ[name]
    # Matplotlib fails on the backend of a notebook, and warns about the user's own settings files.
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    mend_compilation_cache()
    out = LastingStream(sys.stdout, may_lose_output=False)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(LastingStream(sys.stderr)):
        yield
        out.flush()


def check_current_directory() -> None:
    """Checks that there is a current directory.

    Raises:
        EvoconnError: It was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise EvoconnError(f"the current directory cannot be used: {error.strerror}. Change to another one.") from None


_CACHE_ERROR = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)")


def mend_compilation_cache() -> None:
    """Makes JAX replace cached programs that cannot be read; if writing fails, one notice says so.

    JAX writes cache files in place. What a full disk or a killed process left incomplete would otherwise fail to load
    at every start and never be replaced.
    """
    show_warning = warnings.showwarning
    noticed = False

    def show(message: Warning | str, *where: Any, **other: Any) -> None:
        nonlocal noticed
        error = _CACHE_ERROR.match(str(message))
        if error is None:
            show_warning(message, *where, **other)
            return
        import jax

        cache = Path(jax.config.values["jax_compilation_cache_dir"])
        if (error[1] == "writing" or not _delete(cache, error[2])) and not noticed:
            noticed = True
            show_notice(f"compiled programs cannot be kept in {cache} ({error[3]}): each start compiles again.")

    warnings.showwarning = show


def _delete(cache: Path, program: str) -> bool:
    """Deletes all cached variants of a program, since JAX does not name the broken one; returns whether that helps.

    Another process may have deleted the file, or may be writing it.
    """
    try:
        for entry in cache.glob(f"{glob.escape(program)}-*"):
            entry.unlink(missing_ok=True)
    except OSError:
        return False
    return cache.is_dir()
