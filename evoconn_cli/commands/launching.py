"""Running a grid in the terminal: its places, its display, and what is said at its end."""

from __future__ import annotations

import time
from collections.abc import Container
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import typer
from rich.console import Console
from rich.live import Live

from evoconn_cli.commands.ending import say, show_notice, table_console
from evoconn_cli.commands.opened_grid import OpenedGrid
from evoconn_cli.commands.places import PlaceOptions, open_place
from evoconn_cli.errors import EvoconnError, ExitCode
from evoconn_cli.grid.attempts import forgive
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.devices import Note
from evoconn_cli.grid.log import last_log_lines
from evoconn_cli.grid.places import prepare
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.grid.table import GridTable, Row, Rows, read_rows
from evoconn_cli.runs.progress.live import ReflowedLive
from evoconn_cli.runs.progress.terminal import lasting_stdout

_REDRAWN_EVERY = 1.0  # [s]

_MOST_LOGS = 5
"""So many failed cells are shown with the end of their logs."""


def launch(opened: OpenedGrid, options: PlaceOptions, *, retry_failed: bool) -> None:
    """Runs what is left of a grid, and ends the process with the exit code that says how it went."""
    console = table_console(file=lasting_stdout())
    note = partial(say, console)

    place = open_place(opened, options, note)
    refused = _prepare(opened, note)
    if retry_failed:
        _forgive(opened, note)
    to_run = _to_run(opened, refused)
    try:
        if to_run:
            with _display(opened, console):
                refused |= place.run(to_run, note)
    except KeyboardInterrupt:
        note("Quit. The latest checkpoints are kept; the same command goes on.")
        raise typer.Exit(ExitCode.QUIT) from None
    rows = read_rows(opened.cells)
    console.print(GridTable(_title(opened), rows))
    exit_code = _end(rows, refused, opened.file.launch.retries, note)
    is_handed_over = options.hands_over and exit_code == ExitCode.SAVED_EARLY
    raise typer.Exit(ExitCode.DONE if is_handed_over else exit_code)


def print_script(opened: OpenedGrid) -> None:
    """Prints the script of what is left of a grid, for sbatch; it is in the directory of the grid, too."""
    from evoconn_cli.grid.slurm import Slurm

    def note(message: str) -> None:
        typer.echo(message, err=True)

    refused = _prepare(opened, note)
    slurm = Slurm(opened.file.name, opened.directory, opened.file.launch)
    script = slurm.write_script(_to_run(opened, refused), note)
    if script is None:
        note("there is nothing to submit: no cell is left for SLURM.")
    else:
        typer.echo(script.read_text(encoding="utf-8"), nl=False)
        note(f"It is in {script}, too. Submitted by hand, it is found in the queue by its job name.")


def show_plan(opened: OpenedGrid, options: PlaceOptions) -> None:
    """Prints the cells, their states, and where those that are left would run; nothing is written."""
    console = table_console()
    place = open_place(opened, options, typer.echo)
    rows = read_rows(opened.cells)
    due = [row.cell for row in rows if row.status.is_due(opened.file.launch.retries)]
    plan = dict(zip((cell.name for cell in due), place.plan(due), strict=True))
    console.print(GridTable(_title(opened), rows, plan))


def show_status(opened: OpenedGrid, *, watch: bool) -> None:
    """Prints what the files of a grid say; with `watch` until all cells are finished, or Ctrl-C."""
    console = table_console()
    if not opened.directory.exists():
        show_notice(
            f"there is no {opened.directory} in the current directory, so nothing has run. If it lies elsewhere, name "
            "it with --grid-dir."
        )
    if not watch:
        console.print(GridTable(_title(opened), read_rows(opened.cells)))
        return
    rows = Rows(opened.cells)
    try:
        with _live(opened, console, rows) if console.is_interactive else nullcontext():
            rows.read()
            while not rows.all_finished:
                time.sleep(_REDRAWN_EVERY)
                rows.read()
    except KeyboardInterrupt:
        return
    if not console.is_interactive:
        console.print(GridTable(_title(opened), rows.read()))


def _to_run(opened: OpenedGrid, refused: Container[Cell]) -> list[Cell]:
    """Returns the cells that are due or run already, but for those that are refused."""

    def is_left(cell: Cell) -> bool:
        status = read_status(cell)
        return status.is_due(opened.file.launch.retries) or status.state is State.RUNNING

    return [cell for cell in opened.cells if cell not in refused and is_left(cell)]


def _forgive(opened: OpenedGrid, note: Note) -> None:
    """Lets the failures so far not count any more."""
    for cell in opened.cells:
        if read_status(cell).state is State.FAILED:
            try:
                forgive(cell.path)
            except EvoconnError as error:
                note(str(error))


def _prepare(opened: OpenedGrid, note: Note) -> dict[Cell, str]:
    """Makes the directories of all cells; returns those that cannot be made, and why."""
    refused = {}
    for cell in opened.cells:
        try:
            prepare(cell, opened.file.name)
        except EvoconnError as error:
            refused[cell] = str(error)
            note(f"{cell.name} is left out: {error}")
    return refused


def _display(opened: OpenedGrid, console: Console) -> AbstractContextManager:
    """Returns a context that shows the table where the terminal can redraw it; elsewhere the notes are enough."""
    return _live(opened, console, Rows(opened.cells), transient=True) if console.is_interactive else nullcontext()


def _live(opened: OpenedGrid, console: Console, rows: Rows, *, transient: bool = False) -> Live:
    def table() -> GridTable:
        return GridTable(_title(opened), rows.read(), max_lines=console.height)

    rate = 1 / _REDRAWN_EVERY
    return ReflowedLive(get_renderable=table, console=console, refresh_per_second=rate, transient=transient)


def _title(opened: OpenedGrid) -> str:
    return f"{opened.file.name} in {opened.directory}"


def _end(rows: list[Row], refused: dict[Cell, str], retries: int, note: Note) -> ExitCode:
    """Says which cells have failed as often as they may, and why; returns the exit code."""
    has_failed = [row for row in rows if row.status.state is State.FAILED and not row.status.is_due(retries)]
    failed = [row for row in has_failed if row.cell not in refused]
    for row in failed[:_MOST_LOGS]:
        note(f"\n{row.cell.name} has failed; {row.status.log} ends with:")
        for line in last_log_lines(row.status.log):
            note(f"  {line}")
    if len(failed) > _MOST_LOGS:
        note(f"\n{len(failed) - _MOST_LOGS} more cells have failed; each has its own log.txt.")
    if failed:
        note("\nTo try them again: the same command with --retry-failed.")
    for cell, reason in refused.items():
        note(f"\n{cell.name} was left out: {reason}")
    if failed or refused:
        return ExitCode.ERROR
    return ExitCode.DONE if all(row.status.state is State.FINISHED for row in rows) else ExitCode.SAVED_EARLY
