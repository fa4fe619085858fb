"""How a command says something in the terminal, and the exit code of whatever happened."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import typer

from evoconn_cli.errors import EvoconnError, ExitCode

if TYPE_CHECKING:
    from rich.console import Console

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
    from evoconn_cli.runs.progress.terminal import escaping_stdout

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
    from evoconn_cli.runs.training.interrupts import is_computing

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
