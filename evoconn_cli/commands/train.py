"""`evoconn train`: a new run."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoconn_cli.commands.hints import check_entries
from evoconn_cli.commands.options import (
    TrainingOptions,
    complete_algo,
    complete_network,
    complete_saved,
    complete_task,
    entries_argument,
    flag,
    one_of,
    option,
    takes,
    to_overrides,
)
from evoconn_cli.commands.terminal import make_console, show_failure, show_notice
from evoconn_cli.config.registry import names, pairs, preset_names
from evoconn_cli.errors import ExitCode, program
from evoconn_cli.progress.formatting import say

if TYPE_CHECKING:
    from evoconn_cli.config.schema import RunConfig
    from evoconn_cli.progress.display import Progress
    from evoconn_cli.runs.signals import Deadline, Interrupts
    from evoconn_cli.training.opening import TrainingRun
    from evoconn_cli.training.processes import Processes

DEFAULTS = {"seed": "0", "algo.population": "10240", "algo.generations": "1000"}
"""Defaults of the schema for the keys that options set; the schema takes too long to import for `--help`."""

_TASKS, _ALGOS = (names(kind, hidden=False, installed=False) for kind in ("task", "strategy"))
_NETWORKS = "; ".join(f"{', '.join(networks)} for {algo}" for algo, networks in pairs().items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainingOptions):
    """Arguments and options of `evoconn train`."""

    overrides: Annotated[
        list[str], entries_argument("Any key of the configuration, such as algo.learning_rate=0.1; the last one wins.")
    ] = dataclasses.field(default_factory=list)
    task: Annotated[str | None, option("NAME", f"Task to learn: {', '.join(_TASKS)}.", complete=complete_task)] = None
    algo: Annotated[
        str | None,
        option("NAME", f"Strategy: {', '.join(_ALGOS)}.", complete=complete_algo, default="ec, or that of the network"),
    ] = None
    network: Annotated[
        str | None, option("NAME", f"Network: {_NETWORKS}.", complete=complete_network, default="first of its strategy")
    ] = None
    config: Annotated[
        str | None,
        option(
            "NAME|FILE",
            f"Preset ({', '.join(preset_names())}) or path of a YAML file.",
            complete=one_of(*preset_names()),
        ),
    ] = None
    init: Annotated[
        Path | None,
        option(
            "RUN|zoo:NAME",
            "Start from the connectome, task and network of a run, checkpoint, bundle or zoo:NAME.",
            complete=complete_saved,
        ),
    ] = None
    seed: Annotated[int | None, option("N", "Random seed.", default=DEFAULTS["seed"])] = None
    run_dir: Annotated[
        Path | None, option("DIR", "New or empty directory of the run.", default="a new one under runs/")
    ] = None
    population: Annotated[int | None, option("N", "Members per generation.", default=DEFAULTS["algo.population"])] = (
        None
    )
    generations: Annotated[int | None, option("N", "Generations to train.", default=DEFAULTS["algo.generations"])] = (
        None
    )
    dry_run: Annotated[
        bool, flag("--dry-run", "Show sizes, expected time and memory and the changed keys, and write nothing.")
    ] = False


@takes(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a network in a new run directory. A preset replaces the defaults shown here.

    [bold]Examples[/bold]

      evoconn train --config laptop

      evoconn train --config laptop --init zoo:humanoid

      evoconn train --task humanoid --algo ec --population 1024

      evoconn train --config paper --task walker2d network.num_neurons=128

      evoconn train --config paper --task walker2d --dry-run
    """
    from evoconn_cli.config.loading import load_config
    from evoconn_cli.config.reading import read_base
    from evoconn_cli.runs.source import config_from, find_source

    keys = {
        "task.name": options.task,
        "algo.name": options.algo,
        "network.name": options.network,
        "seed": options.seed,
        "algo.population": options.population,
        "algo.generations": options.generations,
        "engine.devices": options.devices,
        "tracking.wandb": options.wandb,
    }
    check_entries(options.overrides)
    given = [*to_overrides(keys), *options.overrides]
    source = None if options.init is None else find_source(options.init)
    if source is None:
        loaded = load_config(options.config, given)
    else:
        loaded = config_from(source, read_base(options.config), given)
    if options.dry_run:
        _show_plan(loaded, options)
        return

    def create(processes: Processes) -> TrainingRun:
        from evoconn_cli.training.opening import create_run

        if source is None:
            return create_run(loaded, options.run_dir, processes)
        from evoconn_cli.evaluation.starting import read_start

        read = functools.partial(read_start, source, note=show_notice)
        return create_run(loaded, options.run_dir, processes, read_start=read)

    run_training(create, options)


def _show_plan(config: RunConfig, options: TrainOptions) -> None:
    """Prints what a run would be, without starting JAX or writing anything.

    Raises:
        RunDirectoryError: Its directory cannot be made.
    """
    from rich.table import Column, Table
    from rich.text import Text

    from evoconn_cli.limits import usable_cores
    from evoconn_cli.progress.estimate import plan
    from evoconn_cli.runs.directory import RunDirectory, default_run_dir

    path = options.run_dir or default_run_dir(config)
    RunDirectory(path).check_new()
    table = Table.grid(Column(style="dim", no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    rows = plan(config, config.engine.devices or len(usable_cores()))
    start = [("starts from", f"{options.init}: connections, normaliser")] if options.init is not None else []
    for label, value in [*rows, *start, ("run", f"{path} (not created)")]:
        table.add_row(label, Text(value))
    make_console().print(table)


def run_training(
    open_run: Callable[[Processes], TrainingRun], options: TrainingOptions, interrupts: Interrupts | None = None
) -> None:
    """Trains a run, and ends the process with the exit code of the result.

    Args:
        open_run: Function that creates or opens the run.
        options: Options of the command: its time limit, and the cluster to train on.
        interrupts: Signal handlers, if they are installed already.
    """
    from evoconn_cli.config.launch import parse_duration
    from evoconn_cli.progress.display import make_progress
    from evoconn_cli.runs.signals import Deadline, Interrupts

    deadline = Deadline(parse_duration(options.max_time)) if options.max_time is not None else Deadline()
    progress = make_progress(make_console(may_lose_output=True))
    with ExitStack() as stack:
        stack.callback(progress.stop)
        interrupts = stack.enter_context(interrupts or Interrupts())
        progress.starting("starting JAX")
        from evoconn_cli.training.cluster import choose_cluster, join

        processes = join(
            choose_cluster(options.distributed, options.coordinator, options.num_processes, options.process_id)
        )
        try:
            if processes.is_writer:
                exit_code = _train(open_run, processes, progress, interrupts=interrupts, deadline=deadline)
            else:
                progress.stop()
                exit_code = _follow(processes, interrupts, deadline)
            if exit_code == ExitCode.QUIT:
                raise typer.Exit(exit_code)
        except BaseException as failure:
            progress.stop()
            if processes.count > 1:
                processes.abandon(*show_failure(failure))
            raise
        processes.close()
    if exit_code:
        raise typer.Exit(exit_code)


def _train(
    open_run: Callable[[Processes], TrainingRun],
    processes: Processes,
    progress: Progress,
    *,
    interrupts: Interrupts,
    deadline: Deadline,
) -> ExitCode:
    """Trains in the process that writes the run, shows the result, and returns the exit code."""
    from evoconn_cli.config.plugins import plugin_options
    from evoconn_cli.progress.display import print_summary, summary_rows
    from evoconn_cli.runs.directory import saved_generations
    from evoconn_cli.runs.ending import what_to_change
    from evoconn_cli.training.train import train

    console = make_console(may_lose_output=True)
    run, where = None, ""
    try:
        run = open_run(processes)
        where = shlex.quote(run.directory.short_path()) + plugin_options()
        outcome = train(run, progress, interrupts=interrupts, deadline=deadline)
    except KeyboardInterrupt:
        progress.stop()
        message = "Quit."
        if run is not None:
            saved = run.directory.last_saved_generation() > 0
            kept = "The latest checkpoint is kept" if saved else "Nothing is saved yet; to start it again"
            message = f"Quit. {kept}: {program()} resume {where}"
        say(console, message)
        return ExitCode.QUIT
    if outcome.history:
        title = "finished" if outcome.finished else "saved"
        saved = outcome.best and outcome.best.generation in saved_generations(run.directory.checkpoints)
        best = outcome.best if saved else None
        print_summary(console, summary_rows(outcome.history, best=best, ended=outcome.ending.reason), title)
    if not outcome.finished:
        say(console, f"To resume: {program()} resume {where}")
        return ExitCode.SAVED_EARLY
    more = what_to_change(outcome.ending.by, run.config.algo)
    say(console, f"To train it further: {program()} resume {where} {more}")
    return ExitCode.DONE


def _follow(processes: Processes, interrupts: Interrupts, deadline: Deadline) -> ExitCode:
    """Trains in a process that writes nothing."""
    from evoconn_cli.training.train import follow

    typer.echo(f"process {processes.index} of {processes.count}: process 0 shows the run and writes it")
    interrupts.notify = typer.echo
    try:
        finished = follow(processes, interrupts=interrupts, deadline=deadline)
    except KeyboardInterrupt:
        typer.echo("Quit.")
        return ExitCode.QUIT
    return ExitCode.DONE if finished else ExitCode.SAVED_EARLY


def says_finished(path: Path, overrides: Sequence[str]) -> bool:
    """Returns whether a run has nothing left to train, and says so, without starting JAX or writing anything.

    Raises:
        EvoconnError: There is no run, or an override cannot be read.
    """
    from evoconn_cli.config.plugins import plugin_options
    from evoconn_cli.runs.directory import RunDirectory
    from evoconn_cli.runs.ending import what_to_change
    from evoconn_cli.training.checkpoint_facts import nothing_left

    run = RunDirectory.open(path)
    ending = nothing_left(run, overrides)
    if ending is None:
        return False
    done = run.last_saved_generation()
    why = f"The run is finished at generation {done}{f': {ending.reason}' if ending.reason else ''}."
    where = shlex.quote(run.short_path()) + plugin_options()
    more = what_to_change(ending.by, run.read_config().algo)
    say(make_console(), f"{why} To train it further: {program()} resume {where} {more}")
    return True
