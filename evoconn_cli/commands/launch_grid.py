"""`evoconn launch-grid`: many runs, on the devices of a machine or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evoconn_cli.commands.completion import complete_launch, one_of
from evoconn_cli.commands.options import PLACES
from evoconn_cli.config.shipped import grid_names


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
        bool, typer.Option("--retry-failed", help="Try cells again that have failed too often.")
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
    from evoconn_cli.commands.launching import launch, print_script, show_plan, show_status
    from evoconn_cli.commands.opened_grid import open_grid
    from evoconn_cli.commands.places import PlaceOptions
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
    options = PlaceOptions(on, devices, wait, address)
    options.check()
    if has_runs and (on == "slurm" or devices == "cpu"):
        raise ConfigError("--runs-per-device is for GPUs that launch-grid or Ray shares out.")
    own = [f"launch.runs_per_device={runs_per_device}"] if has_runs else []
    opened = open_grid(grid, grid_dir, [*own, *(overrides or [])])
    if status:
        show_status(opened, watch=watch)
    elif report:
        from evoconn_cli.commands.grid_report import write_grid_report

        write_grid_report(opened)
    elif print_:
        print_script(opened)
    elif dry_run:
        show_plan(opened, options)
    else:
        launch(opened, options, retry_failed=retry_failed)
