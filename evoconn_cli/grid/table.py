"""The cells of a grid and what state they are in, as a table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from evoconn_cli.grid.cells import Cell, Settings
from evoconn_cli.grid.states import CellStatus, Progress, State, read_progress, read_status
from evoconn_cli.progress.formatting import count, duration, encodable, fitness

_STYLES = {
    State.RUNNING: "bold cyan",
    State.FAILED: "bold red",
    State.SAVED: "yellow",
    State.WAITING: "dim",
    State.FINISHED: "green",
}
"""In the order of what is worth looking at most."""

_FIGURES = ("seed", "generation", "evaluation", "steps/s", "left", "failures")
"""Columns of numbers."""

_MAY_BE_MISSING = ("steps/s", "on", "settings", "left", "failures")
"""Columns that a narrow terminal does without, the first one first."""

_AROUND_THE_ROWS = 6
"""Lines that title, head and foot take."""


class Row(NamedTuple):
    """A cell and what its files say."""

    cell: Cell
    status: CellStatus
    progress: Progress


def read_rows(cells: Sequence[Cell]) -> list[Row]:
    """Returns the cells with what their files say now."""
    return [Row(cell, read_status(cell), read_progress(cell)) for cell in cells]


class Rows:
    """Cells whose files are read again and again, but for those of cells that are finished.

    Args:
        cells: of a grid.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._finished: dict[Cell, Row] = {}

    def read(self) -> list[Row]:
        """Returns the cells with what their files say now."""
        rows = [self._finished.get(cell) or read_rows([cell])[0] for cell in self._cells]
        self._finished = {row.cell: row for row in rows if row.status.state is State.FINISHED}
        return rows

    @property
    def all_finished(self) -> bool:
        """Whether all cells were finished when they were read last."""
        return len(self._finished) == len(self._cells)


class GridTable:
    """A table of cells, to be printed by Rich.

    Args:
        title: of the table.
        rows: of the cells.
        plan: for some cells, by name, where they would run.
        max_lines: of the table; what does not fit is counted below it. None for any.
    """

    def __init__(
        self, title: str, rows: Sequence[Row], plan: dict[str, str] | None = None, max_lines: int | None = None
    ) -> None:
        self._title = title
        self._rows = rows
        self._plan = plan
        self._max_lines = max_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the table, and below it how many cells are in which state."""
        columns = self._columns(options.max_width)
        table = Table(title=self._title, title_justify="left", title_style="bold", header_style="dim", box=None)
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

    def _columns(self, width: int) -> list[tuple[str, Callable[[Row], str]]]:
        """Returns names and texts of the columns: those that have something to say, and room for it."""
        columns = [
            ("cell", lambda row: row.cell.group),
            ("seed", lambda row: str(row.cell.seed)),
            ("state", _state),
            ("on", lambda row: row.status.place),
            ("generation", _generation),
            ("evaluation", lambda row: fitness(row.progress.eval_fitness)),
        ]
        varying = varying_keys([row.cell for row in self._rows])
        if varying:
            columns.insert(2, ("settings", lambda row: settings_text(row.cell.settings, varying)))
        if self._plan is not None:
            plan = self._plan
            columns[-3] = ("would run on", lambda row: plan.get(row.cell.name, ""))
        if any(row.status.state is State.RUNNING for row in self._rows):
            columns.append(("steps/s", lambda row: count(_while_running(row, row.progress.steps_per_second))))
            columns.append(("left", lambda row: _time_left(row)))
        if any(row.status.failures for row in self._rows):
            columns.append(("failures", lambda row: count(row.status.failures)))
        return self._that_fit(columns, width)

    def _that_fit(
        self, columns: list[tuple[str, Callable[[Row], str]]], width: int
    ) -> list[tuple[str, Callable[[Row], str]]]:
        """Returns the columns without those that would have names folded, the least important ones first."""
        shown = self._shown()
        widths = {name: max([len(name), *(len(text(row)) for row in shown)]) for name, text in columns}
        for name in _MAY_BE_MISSING:
            if sum(widths.values()) + 2 * len(widths) <= width:
                break
            widths.pop(name, None)
        return [column for column in columns if column[0] in widths]

    def _shown(self) -> Sequence[Row]:
        if self._max_lines is None or len(self._rows) <= self._max_lines - _AROUND_THE_ROWS:
            return self._rows
        order = list(_STYLES)
        by_interest = sorted(self._rows, key=lambda row: order.index(row.status.state))
        return by_interest[: max(1, self._max_lines - _AROUND_THE_ROWS)]

    def _foot(self) -> str:
        states = Counter(row.status.state for row in self._rows)
        known = [f"{states[state]} {state.value}" for state in reversed(State) if states[state]]
        hidden = len(self._rows) - len(self._shown())
        return f"{len(self._rows)} cells: {', '.join(known)}{f'; {hidden} not shown' if hidden else ''}"


def settings_text(settings: Settings, keys: Set[str]) -> str:
    """Returns what axes and samples have chosen for some keys, such as `learning_rate=0.1 num_neurons=64`."""
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings if key in keys)


def varying_keys(cells: Sequence[Cell]) -> set[str]:
    """Returns the keys of which axes and samples have chosen several values."""
    values: dict[str, set[str]] = {}
    for cell in cells:
        for key, value in cell.settings:
            values.setdefault(key, set()).add(repr(value))
    return {key for key, chosen in values.items() if len(chosen) > 1}


def _generation(row: Row) -> str:
    return f"{count(row.progress.generation)}/{count(row.cell.config.algo.generations)}"


def _state(row: Row) -> str:
    """Returns the state, for a cell without a generation yet since when it has been starting: it compiles that long."""
    attempt = row.status.last_attempt
    if row.status.state is State.RUNNING and attempt is not None and row.progress.generation <= attempt.from_generation:
        return f"starting {duration(time.time() - attempt.started)}"
    return row.status.state.value


def _time_left(row: Row) -> str:
    left = row.progress.time_left if row.status.state is State.RUNNING else None
    return left.text() if left else duration(None)


def _while_running(row: Row, figure: float | None) -> float | None:
    return figure if row.status.state is State.RUNNING else None
