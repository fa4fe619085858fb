"""The cells of a grid and their states, as a table for the terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from evoconn_cli.grid.cells import Cell, Settings
from evoconn_cli.grid.states import CellProgress, CellStatus, State, read_progress, read_status
from evoconn_cli.progress.formatting import count, duration, encodable, fitness

_STYLES = {
    State.RUNNING: "bold cyan",
    State.FAILED: "bold red",
    State.SAVED: "yellow",
    State.WAITING: "dim",
    State.PRUNED: "magenta",
    State.FINISHED: "green",
}
"""In the order of importance to the user."""

_FIGURES = ("trial", "seed", "generation", "evaluation", "steps/s", "left", "expected", "failures")
"""Columns with numbers, aligned to the right."""

_MAY_BE_MISSING = ("steps/s", "on", "settings", "left", "failures")
"""Columns that a narrow terminal leaves out, in this order."""

_MAY_BE_MISSING_IN_SEARCHES = ("steps/s", "on", "cell", "left", "settings", "failures")
"""The same for trials, which have numbers and differ in their settings."""

_Column: TypeAlias = tuple[str, Callable[["CellRow"], str]]
"""Name and text of a column."""

_AROUND_THE_ROWS = 6
"""Lines of title, head and foot."""


class CellRow(NamedTuple):
    """A cell with its state and progress."""

    cell: Cell
    status: CellStatus
    progress: CellProgress

    @property
    def is_running(self) -> bool:
        """Whether a process trains the cell now."""
        return self.status.state is State.RUNNING


def read_rows(cells: Sequence[Cell]) -> list[CellRow]:
    """Returns the current rows of cells."""
    return [CellRow(cell, read_status(cell), read_progress(cell)) for cell in cells]


class Rows:
    """Rows that are read repeatedly, except those of finished cells.

    Args:
        cells: Cells of a grid; a search adds to them.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._finished: dict[Cell, CellRow] = {}

    def read(self) -> list[CellRow]:
        """Returns the current rows."""
        rows = [self._finished.get(cell) or read_rows([cell])[0] for cell in list(self._cells)]
        self._finished = {row.cell: row for row in rows if row.status.state.is_final}
        return rows


@dataclass(frozen=True)
class GridTable:
    """A table of cells, a renderable of Rich.

    Attributes:
        title: Title of the table.
        rows: Rows of the cells.
        plan: Where some of the cells would run, by name of the cell.
        expected: Expected time of some of them in words, by name of the cell.
        max_lines: Most lines of the table; rows that do not fit are counted below it. None for no limit.
    """

    title: str
    rows: Sequence[CellRow]
    plan: dict[str, str] | None = None
    expected: dict[str, str] | None = None
    max_lines: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the table, and below it the number of cells in each state."""
        columns = self._columns(options.max_width)
        table = Table(title=self.title, title_justify="left", title_style="bold", header_style="dim", box=None)
        for name, _ in columns:
            is_figure = name in _FIGURES
            table.add_column(name, justify="right" if is_figure else "left", no_wrap=is_figure, overflow="fold")
        for row in self._shown():
            style = _STYLES[row.status.state]
            table.add_row(
                *(
                    Text(encodable(text(row), ascii_only=options.ascii_only), style if name == "state" else "")
                    for name, text in columns
                ),
                style="dim" if row.status.state is State.WAITING else "",
            )
        yield table
        yield Text(self._foot(), style="dim")

    def _columns(self, width: int) -> list[_Column]:
        """Returns name and text of each column that is not empty and fits into `width`."""
        columns: list[_Column] = [
            ("cell", lambda row: row.cell.group),
            ("seed", lambda row: str(row.cell.seed)),
            ("state", _state),
            ("on", lambda row: row.status.place),
            ("generation", lambda row: f"{count(row.progress.generation)}/{count(row.cell.config.algo.generations)}"),
            ("evaluation", lambda row: fitness(row.progress.eval_fitness)),
        ]
        varying = varying_keys([row.cell for row in self.rows])
        if varying:
            columns.insert(2, ("settings", lambda row: settings_text(row.cell.settings, varying)))
        if any(row.cell.trial is not None for row in self.rows):
            columns.insert(0, ("trial", lambda row: count(row.cell.trial)))
        if self.plan is not None:
            plan = self.plan
            columns[-3] = ("would run on", lambda row: plan.get(row.cell.name, ""))
        if expected := self.expected:
            columns.append(("expected", lambda row: expected.get(row.cell.name, duration(None))))
        if any(row.is_running for row in self.rows):
            columns.append(("steps/s", lambda row: count(row.progress.steps_per_second if row.is_running else None)))
            columns.append(("left", _time_left))
        if any(row.status.failures for row in self.rows):
            columns.append(("failures", lambda row: count(row.status.failures)))
        return self._that_fit(columns, width)

    def _that_fit(self, columns: list[_Column], width: int) -> list[_Column]:
        """Returns the columns without the least important ones if names would be folded."""
        shown = self._shown()
        widths = {name: max([len(name), *(len(text(row)) for row in shown)]) for name, text in columns}
        for name in _MAY_BE_MISSING_IN_SEARCHES if "trial" in widths else _MAY_BE_MISSING:
            if sum(widths.values()) + 2 * len(widths) <= width:
                break
            widths.pop(name, None)
        return [column for column in columns if column[0] in widths]

    def _shown(self) -> Sequence[CellRow]:
        if self.max_lines is None or len(self.rows) <= self.max_lines - _AROUND_THE_ROWS:
            return self.rows
        order = list(_STYLES)
        by_interest = sorted(self.rows, key=lambda row: order.index(row.status.state))
        return by_interest[: max(1, self.max_lines - _AROUND_THE_ROWS)]

    def _foot(self) -> str:
        states = Counter(row.status.state for row in self.rows)
        known = [f"{states[state]} {state.value}" for state in reversed(State) if states[state]]
        hidden = len(self.rows) - len(self._shown())
        if not known:
            return "no trial has begun"
        return f"{len(self.rows)} cells: {', '.join(known)}{f'; {hidden} not shown' if hidden else ''}"


def settings_text(settings: Settings, keys: Set[str]) -> str:
    """Returns the settings of some keys as text, such as `learning_rate=0.1 num_neurons=64`."""
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings if key in keys)


def varying_keys(cells: Sequence[Cell]) -> set[str]:
    """Returns the keys that have several values among the settings of cells."""
    values: dict[str, set[str]] = {}
    for cell in cells:
        for key, value in cell.settings:
            values.setdefault(key, set()).add(repr(value))
    return {key for key, chosen in values.items() if len(chosen) > 1}


def _state(row: CellRow) -> str:
    """Returns the state, and what a cell has ended by that is finished early.

    Until the first new generation, it is how long the cell has been starting, since it compiles.
    """
    attempt = row.status.last_attempt
    if row.is_running and attempt is not None and row.progress.generation <= attempt.from_generation:
        return f"starting {duration(time.time() - attempt.started)}"
    ended_by = row.status.ended_by
    return row.status.state.value + (f": {ended_by.removeprefix('algo.')}" if ended_by else "")


def _time_left(row: CellRow) -> str:
    left = row.progress.time_left if row.is_running else None
    return left.text() if left else duration(None)
