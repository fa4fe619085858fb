"""The report of a grid: its table in the terminal, its files, and the learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from evoconn_cli.commands.ending import show_notice, table_console
from evoconn_cli.commands.opened_grid import OpenedGrid
from evoconn_cli.errors import ConfigError, EvoconnError, RunDirectoryError, first_line

if TYPE_CHECKING:
    from evoconn_cli.grid.report import GroupResult

_MOST_GROUPS = 7
"""Settings of a task that a plot can tell apart."""

_COST_COLUMNS = 2
"""Columns at the end of the table: steps and time of a run."""


def write_grid_report(opened: OpenedGrid) -> None:
    """Prints what the cells of a grid have reached, and writes it to files in the directory of the grid.

    Raises:
        EvoconnError: no cell has a generation yet, or a file cannot be written.
    """
    from evoconn_cli.grid.report import read_results
    from evoconn_cli.grid.report_files import table_of, write_report_files

    groups = read_results(opened.cells, opened.file.published)
    drawn = _best_of_each_task(groups)
    if not drawn:
        raise EvoconnError(
            f"there is nothing to report: no cell in {opened.directory} has an evaluation fitness yet. Run the grid "
            "first, or name its --grid-dir."
        )
    hidden = sum(group.iqm is not None for group in groups) - len(drawn)
    try:
        curves = _draw(opened, drawn)
    except ModuleNotFoundError as error:
        show_notice(f"learning curves are not drawn: {first_line(error)}")
        curves = []
    note = f"Drawn are the {_MOST_GROUPS} best settings of each task; {hidden} are not." if hidden else ""
    files = write_report_files(opened.directory, opened.file, groups, note)
    table_console().print(_table(opened.file.name, *table_of(groups)))
    for file in [*files, *curves]:
        typer.echo(file)


def _table(title: str, head: list[str], rows: list[list[str]]) -> Table:
    """Returns the table without its last columns, the cost of the runs, for which a terminal has no room."""
    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=None, collapse_padding=True
    )
    for name in head[:-_COST_COLUMNS]:
        is_figure = name not in ("set", "task", "settings")
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=name != "settings")
    for row in rows:
        table.add_row(*row[:-_COST_COLUMNS])
    return table


def _best_of_each_task(groups: Sequence[GroupResult]) -> list[GroupResult]:
    """Returns the groups to draw, in the order of the grid."""
    drawn = []
    for task in dict.fromkeys(group.cell.task for group in groups):
        here = [group for group in groups if group.cell.task == task and group.iqm is not None]
        drawn += sorted(here, key=lambda group: group.iqm or 0.0, reverse=True)[:_MOST_GROUPS]
    return [group for group in groups if group in drawn]


def _draw(opened: OpenedGrid, groups: Sequence[GroupResult]) -> list[Path]:
    """Writes the learning curves as PNG and SVG, and returns the files."""
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.grid.report_files import CURVES
    from evoconn_cli.grid.table import settings_text, varying_keys
    from evoconn_cli.runs.directory import RunDirectory
    from evoconn_cli.runs.learning_curves import learning_figure, read_curve

    varying = varying_keys(opened.cells)
    curves = []
    for cell in (result.cell for group in groups for result in group.results):
        name = f"{cell.set_name} {settings_text(cell.settings, varying)}".strip()
        if not RunDirectory(cell.path).metrics_file.exists():
            continue  # a seed that has not begun
        try:
            curves.append(read_curve(RunDirectory(cell.path), "env-steps", name))
        except (ConfigError, RunDirectoryError) as error:
            show_notice(f"{cell.name} is not drawn: {error}")
    if not curves:
        return []
    figure = learning_figure(curves, "env-steps")
    files = [opened.directory / f"{CURVES}{suffix}" for suffix in (".png", ".svg")]
    for file in files:
        save_figure(figure, file)
    return files
