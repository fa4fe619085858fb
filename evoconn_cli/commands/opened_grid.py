"""A grid as the commands see it: its file, its cells, its directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.grid import GridFile, read_grid
from evoconn_cli.grid.cells import Cell, expand


class OpenedGrid(NamedTuple):
    """A grid file and what it expands to."""

    file: GridFile
    directory: Path
    cells: list[Cell]


def open_grid(source: str, directory: Path | None, overrides: Sequence[str] = ()) -> OpenedGrid:
    """Returns a grid; nothing is written.

    Args:
        source: name of a shipped grid, or path of a YAML file.
        directory: of the grid; runs/NAME by default.
        overrides: `launch.KEY=VALUE` entries.

    Raises:
        ConfigError: the file, or one of its cells, is wrong.
    """
    file = read_grid(source, overrides)
    directory = directory or Path("runs") / file.name
    return OpenedGrid(file, directory, expand(file, directory))
