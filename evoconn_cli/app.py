"""The Typer application."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from evoconn_cli import __version__
from evoconn_cli.commands.evaluate import evaluate
from evoconn_cli.commands.export_connectivity import export_connectivity
from evoconn_cli.commands.hints import Command, Group
from evoconn_cli.commands.launch_grid import launch_grid
from evoconn_cli.commands.render import render
from evoconn_cli.commands.resume import resume
from evoconn_cli.commands.run_cell import run_cell
from evoconn_cli.commands.runs import runs
from evoconn_cli.commands.terminal import check_current_directory, leave, show_failure, usable_environment
from evoconn_cli.commands.train import train
from evoconn_cli.config.plugin_errors import plugin_failure
from evoconn_cli.errors import ConfigError, EvoconnError, missing_package


def show_version(asked: bool) -> None:
    """Shows the version of evoconn and exits, if `asked`."""
    if asked:
        typer.echo(f"evoconn {__version__}")
        raise typer.Exit


def show_versions(asked: bool) -> None:
    """Shows the versions that a run records and the devices it would use, and exits, if `asked`."""
    if not asked:
        return
    from evoconn_cli.engine.devices import describe_devices, start_jax
    from evoconn_cli.runs.provenance import versions

    try:
        devices = describe_devices(start_jax(None))
    except ConfigError as error:  # JAX finds a platform that does not start
        devices = f"none: {error}"
    rows = {**versions(), "python": sys.version.split()[0], "devices": devices}
    for name, value in rows.items():
        typer.echo(f"{name:<18}{value or 'not installed'}")
    raise typer.Exit


app = typer.Typer(
    name="evoconn",
    cls=Group,
    help="Train recurrent spiking neural networks by evolving their connectivity.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, resume, runs, evaluate, render, export_connectivity, launch_grid, run_cell):
    app.command(cls=Command, hidden=command is run_cell)(command)


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    versions: Annotated[
        bool,
        typer.Option(
            "--versions",
            callback=show_versions,
            is_eager=True,
            help="Show the versions of JAX, Brax and others and the devices that JAX finds, and exit.",
        ),
    ] = False,
) -> None:
    """Train recurrent spiking neural networks by evolving their connectivity."""
    check_current_directory()


def main() -> None:
    """Runs the command line; an `EvoconnError`, or an error of a plug-in, ends it with one message and an exit code."""
    try:
        with usable_environment():
            app()
    except EvoconnError as error:
        sys.exit(show_failure(error)[1])
    except Exception as error:
        missing = missing_package(error)
        if missing is None and plugin_failure(error) is None:
            raise
        sys.exit(show_failure(error if missing is None else EvoconnError(missing))[1])
    except SystemExit as end:
        leave(end.code)
        raise
