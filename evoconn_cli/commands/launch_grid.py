"""`evoconn launch-grid`: many runs, on the devices of this machine or on a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evoconn_cli.commands.options import Plugins, argument, complete_launch, flag, one_of, option, takes
from evoconn_cli.commands.terminal import make_console, show_notice
from evoconn_cli.config.registry import grid_names
from evoconn_cli.errors import ConfigError, EvoconnError, ExitCode
from evoconn_cli.grid import Note
from evoconn_cli.limits import usable_cores
from evoconn_cli.progress.formatting import duration, say

if TYPE_CHECKING:
    from evoconn_cli.config.grid import GridFile
    from evoconn_cli.grid.cells import Cell, Grid
    from evoconn_cli.grid.scheduler import Scheduler
    from evoconn_cli.grid.search import GridSearch
    from evoconn_cli.grid.slurm import SlurmQueue


@dataclasses.dataclass(frozen=True)
class LaunchGridOptions:
    """Arguments and options of `evoconn launch-grid`."""

    grid: Annotated[
        str, argument("GRID", f"A YAML file, or {', '.join(grid_names())}.", complete=one_of(*grid_names()))
    ]
    overrides: Annotated[
        list[str],
        argument(
            "launch.KEY=VALUE",
            "Keys of the file's sections launch and search, such as search.trials=50.",
            complete=complete_launch,
        ),
    ] = dataclasses.field(default_factory=list)
    grid_dir: Annotated[Path | None, option("DIR", "Directory of the grid; runs/NAME by default.")] = None
    on: Annotated[
        Literal["local", "slurm", "ray"], typer.Option("--on", metavar="EXECUTOR", help="local, slurm or ray.")
    ] = "local"
    devices: Annotated[
        str | None, option("0,1", "local: GPUs by number or UUID, or cpu; all idle GPUs by default.")
    ] = None
    runs_per_device: Annotated[
        int | None, option("N", "local, ray: runs that share a GPU.", default="launch.runs_per_device")
    ] = None
    plugin: Plugins = dataclasses.field(default_factory=list)
    retry_failed: Annotated[bool, flag("--retry-failed", "Retry cells that used up their retries.")] = False
    wait: Annotated[bool, flag("--wait", "slurm: wait until the cells have ended.")] = False
    print_: Annotated[bool, flag("--print", "slurm: print the script for sbatch and submit nothing.")] = False
    address: Annotated[
        str | None, option("HOST:PORT", "ray: a running cluster; RAY_ADDRESS or this machine alone by default.")
    ] = None
    dry_run: Annotated[bool, flag("--dry-run", "Show the cells and where they would run.")] = False
    report: Annotated[bool, flag("--report", "Write REPORT.md, results and learning curves.")] = False
    status: Annotated[bool, flag("--status", "Show the states of the cells.")] = False
    watch: Annotated[bool, flag("--watch", "With --status: keep showing them.")] = False


@takes(LaunchGridOptions)
def launch_grid(options: LaunchGridOptions) -> None:
    """Run every cell of a grid: sets of overrides on tasks, with seeds. The same command continues unfinished cells.

    A grid file with a section search is a hyper-parameter search, whose trials are cells.

    [bold]Examples[/bold]

      evoconn launch-grid ec_brax

      evoconn launch-grid my-grid.yaml --devices 0,1 --runs-per-device 2

      evoconn launch-grid my-grid.yaml --status --watch

      evoconn launch-grid my-grid.yaml --report

      evoconn launch-grid ec_brax --on slurm launch.slurm.partition=gpu launch.slurm.gres=gpu:1

      evoconn launch-grid ec_brax --on ray --address auto
    """
    from evoconn_cli.grid.cells import open_grid

    _check(options)
    runs = options.runs_per_device
    own = [] if runs is None else [f"launch.runs_per_device={runs}"]
    grid = open_grid(options.grid, options.grid_dir, [*own, *options.overrides])
    if options.status:
        _show_status(grid, watch=options.watch)
    elif options.report:
        from evoconn_cli.grid.report import write_report

        for file in write_report(grid, make_console(), show_notice):
            typer.echo(file)
    elif options.print_:
        _print_script(grid)
    elif options.dry_run:
        _show_plan(grid, options)
    else:
        _launch(grid, options)


def _check(options: LaunchGridOptions) -> None:
    """Checks that the options go together.

    Raises:
        ConfigError: They do not.
    """
    only_show = {
        "--dry-run": options.dry_run,
        "--status": options.status,
        "--report": options.report,
        "--print": options.print_,
    }
    asked = [name for name, given in only_show.items() if given]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)}: ask for one at a time.")
    if options.watch and not options.status:
        raise ConfigError("--watch goes with --status.")
    if options.print_ and options.on != "slurm":
        raise ConfigError("--print goes with --on slurm.")
    useless = {"--retry-failed": options.retry_failed, "--wait": options.wait} if asked else {}
    if asked and not options.dry_run:
        useless["--devices"] = options.devices is not None
        useless["--address"] = options.address is not None
        useless["--runs-per-device"] = options.runs_per_device is not None
    for name in (name for name, given in useless.items() if given):
        raise ConfigError(f"{name} does nothing with {asked[0]}: leave it out.")
    if options.devices is not None and options.on != "local":
        raise ConfigError("--devices goes with --on local: elsewhere the scheduler chooses them.")
    if options.wait and options.on != "slurm":
        raise ConfigError("--wait goes with --on slurm: launch-grid waits elsewhere anyway.")
    if options.address is not None and options.on != "ray":
        raise ConfigError("--address goes with --on ray.")
    if options.runs_per_device is not None and (options.on == "slurm" or options.devices == "cpu"):
        raise ConfigError("--runs-per-device is for GPUs that launch-grid or Ray shares out.")


def _open_runner(grid: Grid, options: LaunchGridOptions, note: Note) -> Scheduler | SlurmQueue:
    """Returns the runner of the cells on the chosen executor."""
    from evoconn_cli.grid.scheduler import Scheduler

    launch = grid.file.launch
    if options.on == "slurm":
        from evoconn_cli.grid.slurm import SlurmExecutor, SlurmQueue

        queue = SlurmQueue(grid.file.name, grid.directory, launch, note, wait=options.wait)
        if grid.search is None:
            return queue
        executor = SlurmExecutor(queue)
    elif options.on == "ray":
        from evoconn_cli.grid.ray_executor import RayExecutor

        executor = RayExecutor(launch, note, options.address)
    else:
        from evoconn_cli.grid.devices import choose_devices
        from evoconn_cli.grid.gpus import start_nvml
        from evoconn_cli.grid.local_executor import LocalExecutor

        executor = LocalExecutor(launch, choose_devices(launch, options.devices, start_nvml(note), note), note)
    return Scheduler(executor, launch, note, grid.search)


def _launch(grid: Grid, options: LaunchGridOptions) -> None:
    """Runs the unfinished cells of a grid, and ends the process with the exit code of the result."""
    from evoconn_cli.grid.display import live_table, show_end
    from evoconn_cli.grid.table import Rows

    console = make_console(may_lose_output=True)
    note = partial(say, console)
    runner = _open_runner(grid, options, note)
    left_out = _prepare(grid, note)
    if options.retry_failed:
        _forgive_failures(grid, note)
    to_run = _cells_to_run(grid, left_out)
    try:
        if to_run or (grid.search is not None and grid.search.wants_more):
            with live_table(grid, console, Rows(grid.cells), transient=True):
                left_out |= runner.run(to_run)
    except KeyboardInterrupt:
        note("Quit. The latest checkpoints are kept; the same command resumes.")
        raise typer.Exit(ExitCode.QUIT) from None
    exit_code = show_end(grid, console, left_out, note)
    is_waiting = options.wait or grid.search is not None
    is_handed_over = options.on == "slurm" and not is_waiting and exit_code == ExitCode.SAVED_EARLY
    raise typer.Exit(ExitCode.DONE if is_handed_over else exit_code)


def _print_script(grid: Grid) -> None:
    """Prints the sbatch script of the unfinished cells, which is also written into the grid's directory."""
    if grid.search is not None:
        raise ConfigError("--print: a search submits its trials one after another. Leave --print out.")
    from evoconn_cli.grid.slurm import SlurmQueue

    note = partial(typer.echo, err=True)
    left_out = _prepare(grid, note)
    slurm = SlurmQueue(grid.file.name, grid.directory, grid.file.launch, note)
    script = slurm.write_script(_cells_to_run(grid, left_out))
    if script is None:
        note("there is nothing to submit: no cell is left for SLURM.")
    else:
        typer.echo(script.read_text(encoding="utf-8"), nl=False)
        note(f"It is in {script}, too. Submitted by hand, it is found in the queue by its job name.")


def _show_plan(grid: Grid, options: LaunchGridOptions) -> None:
    """Prints the cells, their states, and where the unfinished ones would run; nothing is written."""
    from evoconn_cli.grid.display import show_search
    from evoconn_cli.grid.table import GridTable, read_rows
    from evoconn_cli.progress.estimate import expected, expected_in_all

    runner = _open_runner(grid, options, typer.echo)
    if grid.search is not None:
        show_search(grid.search, make_console())
        if options.on == "local":
            _show_time_of_search(grid.search, runner, options)
        if not grid.cells:
            return
    rows = read_rows(grid.cells)
    due = [row.cell for row in rows if row.status.is_due(grid.file.launch.retries)]
    plan = dict(zip((cell.name for cell in due), runner.plan(due), strict=True))
    console = make_console()
    cores = _cores_per_cell(grid.file, options, plan.values())
    if cores is None:
        console.print(GridTable(grid.title, rows, plan))
        return
    generations = {row.cell: row.progress.generation for row in rows}
    times = {cell.name: expected(cell.config, cores, generations[cell]) for cell in due}
    known = {name: time for name, time in times.items() if time is not None}
    in_words = {name: f"< {duration(time.seconds)}" for name, time in known.items()}
    console.print(GridTable(grid.title, rows, plan, in_words))
    if known and grid.search is None:
        say(console, expected_in_all(known.values(), len(due), cores, len(usable_cores()) // cores))


def _show_time_of_search(search: GridSearch, runner: Scheduler | SlurmQueue, options: LaunchGridOptions) -> None:
    """Prints how long the trials to come would take if each had the values of the grid's sets."""
    from evoconn_cli.grid.cells import cells_at
    from evoconn_cli.progress.estimate import expected, expected_in_all

    to_come = []
    for one in search.searches:
        left = search.keys.num_trials - sum(not trial.is_open for trial in one.trials)
        to_come += left * cells_at(one.file, one.point, one.directory)
    cores = _cores_per_cell(search.file, options, runner.plan(to_come))
    if cores is None:
        return
    known = [time for cell in to_come if (time := expected(cell.config, cores)) is not None]
    if known:
        at_once = min(len(usable_cores()) // cores, search.keys.parallel * len(search.file.seeds))
        say(make_console(), expected_in_all(known, len(to_come), cores, at_once))


def _cores_per_cell(file: GridFile, options: LaunchGridOptions, places: Iterable[str]) -> int | None:
    """Returns the CPU cores that train each cell; None if that is a GPU, or up to SLURM or Ray."""
    if options.on != "local" or any(place.startswith("gpu") for place in places):
        return None
    return min(file.launch.cores_per_run, len(usable_cores()))


def _show_status(grid: Grid, *, watch: bool) -> None:
    """Prints the states of the cells; with `watch` until all are finished, or Ctrl-C."""
    from evoconn_cli.grid.display import show_until_finished
    from evoconn_cli.grid.table import GridTable, read_rows

    if not grid.directory.exists():
        show_notice(
            f"there is no {grid.directory} in the current directory, so nothing has run. If it is elsewhere, name "
            "it with --grid-dir."
        )
    if watch:
        show_until_finished(grid, make_console())
    else:
        make_console().print(GridTable(grid.title, read_rows(grid.cells)))


def _cells_to_run(grid: Grid, left_out: Container[Cell]) -> list[Cell]:
    """Returns the cells that are due or running, except those in `left_out`."""
    from evoconn_cli.grid.states import State, read_status

    statuses = {cell: read_status(cell) for cell in grid.cells if cell not in left_out}
    retries = grid.file.launch.retries
    return [cell for cell, status in statuses.items() if status.is_due(retries) or status.state is State.RUNNING]


def _forgive_failures(grid: Grid, note: Note) -> None:
    """Resets the retries of the cells that have failed."""
    from evoconn_cli.grid.attempts import forgive
    from evoconn_cli.grid.states import State, read_status

    for cell in grid.cells:
        if read_status(cell).state is State.FAILED:
            try:
                forgive(cell.path)
            except EvoconnError as error:
                note(str(error))


def _prepare(grid: Grid, note: Note) -> dict[Cell, str]:
    """Makes the directories of all cells; returns the reasons why some cannot be made."""
    from evoconn_cli.grid.cells import prepare

    left_out = {}
    for cell in grid.cells:
        try:
            prepare(cell, grid.file.name)
        except EvoconnError as error:
            left_out[cell] = str(error)
            note(f"{cell.name} is left out: {error}")
    return left_out
