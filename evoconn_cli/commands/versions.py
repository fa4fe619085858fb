"""What `--version` and `--versions` show."""

from __future__ import annotations

import typer

from evoconn_cli import __version__
from evoconn_cli.errors import ConfigError


def show_version(asked: bool) -> None:
    """Shows the version of evoconn and ends, if that is asked for."""
    if asked:
        typer.echo(f"evoconn {__version__}")
        raise typer.Exit


def show_versions(asked: bool) -> None:
    """Shows the versions that a run records, and the devices that it would find; then ends, if that is asked for."""
    if not asked:
        return
    import sys

    from evoconn_cli.runs.devices import describe_devices, start_jax
    from evoconn_cli.runs.provenance import versions

    try:
        devices = describe_devices(start_jax(None))
    except ConfigError as error:  # JAX finds a platform that it cannot start
        devices = f"none: {error}"
    rows = {**versions(), "python": sys.version.split()[0], "devices": devices}
    for name, value in rows.items():
        typer.echo(f"{name:<18}{value or 'not installed'}")
    raise typer.Exit
