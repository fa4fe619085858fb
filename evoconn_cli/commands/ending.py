"""What a command says on standard error, and the exit code of whatever happened."""

from __future__ import annotations

import traceback

import typer

from evoconn_cli.errors import EvoconnError, ExitCode


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
