"""Command lines that are written somewhere: they can be typed, and their values mean something."""

from __future__ import annotations

from typing import Any

import typer
from plugins import forgotten

from evoconn_cli.app import app
from evoconn_cli.commands.options import to_overrides
from evoconn_cli.config.formats import find_formats
from evoconn_cli.config.grid import read_grid
from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.config.perturbations import parse_perturbations
from evoconn_cli.config.registry import grid_names

COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


def check_command_line(name: str, arguments: list[str]) -> None:
    """Raises where a command would refuse its arguments before it looks at a run; what it would do is not done."""
    with forgotten():  # those of --plugin, which are relative to the repository
        _check_given(name, COMMANDS[name].make_context(name, arguments).params)


def _check_given(name: str, given: dict[str, Any]) -> None:
    if name == "train":
        options = {"task.name": given["task"], "algo.name": given["algo"], "network.name": given["network"]}
        load_config(given["config"], [*to_overrides(options), *(given["overrides"] or [])])
    elif name == "resume":
        override_config(load_config("laptop"), given["overrides"] or [])
    elif name == "evaluate":
        parse_perturbations(given["perturb"] or [])
    elif name == "export-connectivity":
        find_formats(given["formats"] or ["bundle"])
    elif name == "launch-grid":
        is_shipped = given["grid"] in grid_names()  # others are the reader's own
        read_grid(given["grid"] if is_shipped else "ec_search", given["overrides"] or [])
