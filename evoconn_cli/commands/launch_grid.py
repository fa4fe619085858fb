"""`evoconn launch-grid`: many runs, on the devices of a machine or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from evoconn_cli.commands.options import PLACES, complete_launch, one_of
from evoconn_cli.commands.terminal import lasting_stdout, say, show_notice, table_console
from evoconn_cli.config.grid import GridFile, read_grid
from evoconn_cli.config.registry import grid_names
from evoconn_cli.errors import ConfigError, EvoconnError, ExitCode, RunDirectoryError, first_line, unknown_name
from evoconn_cli.grid import Note
from evoconn_cli.grid.attempts import forgive
from evoconn_cli.grid.cells import Cell, expand, prepare
from evoconn_cli.grid.states import State, last_log_lines, read_status
from evoconn_cli.grid.table import CellRow, GridTable, Rows, read_rows
from evoconn_cli.progress.live import ReflowedLive

if TYPE_CHECKING:
    from evoconn_cli.grid.report import GroupResult
    from evoconn_cli.grid.scheduler import Scheduler
    from evoconn_cli.grid.slurm import SlurmQueue


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


class ExecutorOptions(NamedTuple):
    """Options of the command line for the executor."""

    on: str
    devices: str | None  # of local
    wait: bool  # of slurm
    address: str | None  # of ray

    def check(self) -> None:
        """Checks that the executor exists and has the given options.

        Raises:
            ConfigError: It does not.
        """
        if self.on not in PLACES:
            raise unknown_name("executor:", self.on, PLACES)
        if self.devices is not None and self.on != "local":
            raise ConfigError("--devices goes with --on local: elsewhere the scheduler chooses them.")
        if self.wait and self.on != "slurm":
            raise ConfigError("--wait goes with --on slurm: launch-grid waits elsewhere anyway.")
        if self.address is not None and self.on != "ray":
            raise ConfigError("--address goes with --on ray.")

    @property
    def hands_over(self) -> bool:
        """Whether the cells go on when launch-grid has ended."""
        return self.on == "slurm" and not self.wait


def open_runner(opened: OpenedGrid, options: ExecutorOptions, note: Note) -> Scheduler | SlurmQueue:
    """Returns what runs the cells of a grid on the executor that the options name."""
    launch = opened.file.launch
    if options.on == "slurm":
        from evoconn_cli.grid.slurm import SlurmQueue

        return SlurmQueue(opened.file.name, opened.directory, launch, note, wait=options.wait)
    from evoconn_cli.grid.scheduler import Scheduler

    if options.on == "ray":
        from evoconn_cli.grid.ray_executor import RayExecutor

        return Scheduler(RayExecutor(launch, note, options.address), launch, note)
    from evoconn_cli.grid.devices import find_devices
    from evoconn_cli.grid.local_executor import LocalExecutor

    return Scheduler(LocalExecutor(launch, find_devices(launch, options.devices, note), note), launch, note)


_REDRAWN_EVERY = 1.0  # [s]

_MOST_LOGS = 5
"""So many failed cells are shown with the end of their logs."""


def launch(opened: OpenedGrid, options: ExecutorOptions, *, retry_failed: bool) -> None:
    """Runs what is left of a grid, and ends the process with the exit code that says how it went."""
    console = table_console(file=lasting_stdout())
    note = partial(say, console)

    runner = open_runner(opened, options, note)
    refused = _prepare(opened, note)
    if retry_failed:
        _forgive(opened, note)
    to_run = _to_run(opened, refused)
    try:
        if to_run:
            with _display(opened, console):
                refused |= runner.run(to_run)
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
    from evoconn_cli.grid.slurm import SlurmQueue

    def note(message: str) -> None:
        typer.echo(message, err=True)

    refused = _prepare(opened, note)
    slurm = SlurmQueue(opened.file.name, opened.directory, opened.file.launch, note)
    script = slurm.write_script(_to_run(opened, refused))
    if script is None:
        note("there is nothing to submit: no cell is left for SLURM.")
    else:
        typer.echo(script.read_text(encoding="utf-8"), nl=False)
        note(f"It is in {script}, too. Submitted by hand, it is found in the queue by its job name.")


def show_plan(opened: OpenedGrid, options: ExecutorOptions) -> None:
    """Prints the cells, their states, and where those that are left would run; nothing is written."""
    console = table_console()
    runner = open_runner(opened, options, typer.echo)
    rows = read_rows(opened.cells)
    due = [row.cell for row in rows if row.status.is_due(opened.file.launch.retries)]
    plan = dict(zip((cell.name for cell in due), runner.plan(due), strict=True))
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


def _end(rows: list[CellRow], refused: dict[Cell, str], retries: int, note: Note) -> ExitCode:
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


_MOST_GROUPS = 7
"""Settings of a task that a plot can tell apart."""

_COST_COLUMNS = 2
"""Columns at the end of the table: steps and time of a run."""


def write_grid_report(opened: OpenedGrid) -> None:
    """Prints what the cells of a grid have reached, and writes it to files in the directory of the grid.

    Raises:
        EvoconnError: no cell has a generation yet, or a file cannot be written.
    """
    from evoconn_cli.grid.report import read_results, table_of, write_report_files

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
    from evoconn_cli.evaluation.curves import learning_figure, read_curve
    from evoconn_cli.grid.report import CURVES
    from evoconn_cli.grid.table import settings_text, varying_keys
    from evoconn_cli.runs.directory import RunDirectory

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


def launch_grid(
    grid: Annotated[
        str,
        typer.Argument(
            metavar="GRID",
            help=f"A YAML file, or {', '.join(grid_names())}.",
            autocompletion=one_of(*grid_names()),
            show_default=False,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="launch.KEY=VALUE",
            help="Any key of the file's section launch, such as launch.retries=0.",
            autocompletion=complete_launch,
            show_default=False,
        ),
    ] = None,
    grid_dir: Annotated[
        Path | None, typer.Option(help="Directory of the grid; runs/NAME by default.", show_default=False)
    ] = None,
    on: Annotated[
        str,
        typer.Option("--on", metavar="PLACE", help="local, slurm or ray.", autocompletion=one_of(*PLACES)),
    ] = "local",
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="0,1", help="local: GPUs by number or UUID, or cpu; all idle ones by default.", show_default=False
        ),
    ] = None,
    runs_per_device: Annotated[
        int | None,
        typer.Option(help="local, ray: runs that share a GPU.", show_default="launch.runs_per_device of the file"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry cells that used up their retries.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="slurm: go on until the cells have ended.")] = False,
    print_: Annotated[
        bool, typer.Option("--print", help="slurm: print the script for sbatch, submit nothing.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="ray: a running cluster; RAY_ADDRESS, or else this machine alone, by default.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and what would run where.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write REPORT.md, results and learning curves.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what state the cells are in.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="With --status: go on showing it.")] = False,
) -> None:
    """Run every cell of a grid: sets of overrides on tasks, with seeds. Running it again goes on with what is left.

    [bold]Examples[/bold]

      evoconn launch-grid ec_brax

      evoconn launch-grid my-grid.yaml --devices 0,1 --runs-per-device 2

      evoconn launch-grid my-grid.yaml --status --watch

      evoconn launch-grid my-grid.yaml --report

      evoconn launch-grid ec_brax --on slurm launch.slurm.partition=gpu launch.slurm.gres=gpu:1

      evoconn launch-grid ec_brax --on ray --address auto
    """
    from evoconn_cli.errors import ConfigError

    asks = {"--dry-run": dry_run, "--status": status, "--report": report, "--print": print_}
    asked = [name for name, given in asks.items() if given]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)}: ask for one at a time.")
    if watch and not status:
        raise ConfigError("--watch goes with --status.")
    if print_ and on != "slurm":
        raise ConfigError("--print goes with --on slurm.")
    has_runs = runs_per_device is not None
    started = {"--retry-failed": retry_failed, "--wait": wait}
    placed = {"--devices": devices is not None, "--address": address is not None, "--runs-per-device": has_runs}
    idle = started if dry_run else {**started, **placed} if asked else {}
    for name in (name for name, given in idle.items() if given):
        raise ConfigError(f"{name} does nothing with {asked[0]}: leave it out.")
    options = ExecutorOptions(on, devices, wait, address)
    options.check()
    if has_runs and (on == "slurm" or devices == "cpu"):
        raise ConfigError("--runs-per-device is for GPUs that launch-grid or Ray shares out.")
    own = [f"launch.runs_per_device={runs_per_device}"] if has_runs else []
    opened = open_grid(grid, grid_dir, [*own, *(overrides or [])])
    if status:
        show_status(opened, watch=watch)
    elif report:
        write_grid_report(opened)
    elif print_:
        print_script(opened)
    elif dry_run:
        show_plan(opened, options)
    else:
        launch(opened, options, retry_failed=retry_failed)
