"""Shows a grid on the terminal: while its cells run, and how they ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evoconn_cli.config.search import Range
from evoconn_cli.errors import ExitCode
from evoconn_cli.grid import Note
from evoconn_cli.grid.cells import Cell, Grid
from evoconn_cli.grid.search import GridSearch
from evoconn_cli.grid.states import State, last_log_lines
from evoconn_cli.grid.table import CellRow, GridTable, Rows, read_rows
from evoconn_cli.progress.formatting import count
from evoconn_cli.progress.live import ReflowedLive

_REDRAW_INTERVAL = 1.0  # [s]

_MOST_LOGS = 5
"""Failed cells whose last log lines are shown."""


def live_table(grid: Grid, console: Console, rows: Rows, *, transient: bool = False) -> AbstractContextManager:
    """Returns a context that shows the table of a grid, if the terminal can redraw it."""
    if not console.is_interactive:
        return nullcontext()

    def table() -> GridTable:
        return GridTable(grid.title, rows.read(), max_lines=console.height)

    rate = 1 / _REDRAW_INTERVAL
    return ReflowedLive(get_renderable=table, console=console, refresh_per_second=rate, transient=transient)


def show_until_finished(grid: Grid, console: Console) -> None:
    """Shows the table of a grid until all cells are finished or the user types Ctrl-C."""
    rows = Rows(grid.cells)
    try:
        with live_table(grid, console, rows):
            while not _is_done(grid, rows.read()):
                time.sleep(_REDRAW_INTERVAL)
                if grid.search is not None:
                    grid.search.refresh()
    except KeyboardInterrupt:
        return
    if not console.is_interactive:
        console.print(GridTable(grid.title, rows.read()))


def show_search(search: GridSearch, console: Console) -> None:
    """Shows how a grid is searched: sampler, pruner, trials, and the space."""
    keys = search.keys
    steps = ", ".join(dict.fromkeys(count(one.every) for one in search.searches))
    studies = f" for each of {len(search.searches)} searches" if len(search.searches) > 1 else ""
    facts = {
        "sampler": f"{keys.sampler}, seed {keys.seed}",
        "pruner": keys.pruner if keys.pruner == "none" else f"{keys.pruner}, every {steps} environment steps",
        "trials": f"{count(keys.num_trials)}{studies}, {keys.parallel} at a time",
        "told": search.summary,
        **{key: str(x) if isinstance(x, Range) else ", ".join(map(str, x)) for key, x in keys.space.items()},
    }
    table = Table(title=f"search of {search.file.name}", title_justify="left", title_style="bold", box=None)
    table.show_header = False
    for name, fact in facts.items():
        table.add_row(Text(name, style="" if name in keys.space else "dim"), Text(fact))
    console.print(table)


def show_end(grid: Grid, console: Console, left_out: Mapping[Cell, str], note: Note) -> ExitCode:
    """Shows the table of a grid and the cells that used up their retries; returns the exit code.

    Args:
        grid: Grid whose cells no longer run.
        console: Console of the table.
        left_out: Reasons why cells could not be run.
        note: Shows the user a sentence.
    """
    rows, retries = read_rows(grid.cells), grid.file.launch.retries
    console.print(GridTable(grid.title, rows))
    given_up = [row for row in rows if row.status.state is State.FAILED and not row.status.is_due(retries)]
    failed = [row for row in given_up if row.cell not in left_out]
    for row in failed[:_MOST_LOGS]:
        note(f"\n{row.cell.name} has failed; {row.status.log} ends with:")
        for line in last_log_lines(row.status.log):
            note(f"  {line}")
    if len(failed) > _MOST_LOGS:
        note(f"\n{len(failed) - _MOST_LOGS} more cells have failed; each has its own log.txt.")
    if failed:
        note("\nTo retry them: the same command with --retry-failed.")
    for cell, reason in left_out.items():
        note(f"\n{cell.name} was left out: {reason}")
    if grid.search is not None and grid.search.is_stuck:
        note("\nThe first trials have all failed, so no others were begun. Look at their logs first.")
    if failed or left_out:
        return ExitCode.ERROR
    return ExitCode.DONE if _is_done(grid, rows) else ExitCode.SAVED_EARLY


def _is_done(grid: Grid, rows: Sequence[CellRow]) -> bool:
    """Returns whether all cells have ended for good, and a search needs no more of them."""
    return all(row.status.state.is_final for row in rows) and (grid.search is None or grid.search.is_done)
