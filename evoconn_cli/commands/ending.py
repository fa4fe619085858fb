"""How a command says something in the terminal, and the exit code of whatever happened."""

from __future__ import annotations

import traceback
from typing import IO, TYPE_CHECKING

import typer

from evoconn_cli.errors import EvoconnError, ExitCode

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, so that nothing is folded there."""


def table_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Returns a console for tables: wide in a file or a pipe, and without a character that its encoding lacks.

    Args:
        stderr: whether it prints on standard error.
        file: where it prints instead of standard output.
    """
    from rich.console import Console

    from evoconn_cli.runs.progress.terminal import escaping_stdout

    console = Console(stderr=True) if stderr else Console(file=file or escaping_stdout())
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    return console


def say(console: Console, text: str) -> None:
    """Prints a sentence or a path as it is: unfolded, and `[` or `:100:` in it mean nothing."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def show_error(error: EvoconnError) -> None:
    """Prints the message of an error."""
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(str(error), err=True)


def show_notice(text: str) -> None:
    """Prints what the user has to know and what stops nothing."""
    typer.secho("Notice: ", fg=typer.colors.YELLOW, bold=True, nl=False, err=True)
    typer.echo(text, err=True)


def show_failure(failure: BaseException) -> tuple[str, int]:
    """Prints why a command fails, as it would be where it ends by itself; returns that in a line, and the exit code."""
    if isinstance(failure, EvoconnError):
        show_error(failure)
        return str(failure), int(failure.exit_code)
    if isinstance(failure, typer.Exit):
        return "it was quit by hand", failure.exit_code
    traceback.print_exception(failure)
    return f"{type(failure).__name__}: {failure}", int(ExitCode.ERROR)
