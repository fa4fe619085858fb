"""`evoconn train`: a new run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoconn_cli.commands.hints import check_entries
from evoconn_cli.commands.options import (
    Coordinator,
    Devices,
    Distributed,
    MaxTime,
    NumProcesses,
    ProcessId,
    Wandb,
    complete_algo,
    complete_network,
    complete_override,
    one_of,
    to_overrides,
)
from evoconn_cli.commands.terminal import say, show_failure, stream_console
from evoconn_cli.config.launch import parse_duration
from evoconn_cli.config.registry import names, pairs, preset_names
from evoconn_cli.errors import ExitCode, program
from evoconn_cli.runs.signals import Deadline, Interrupts

if TYPE_CHECKING:
    from evoconn_cli.training.cluster import Cluster
    from evoconn_cli.training.opening import TrainingRun
    from evoconn_cli.training.processes import Processes

_ONLY_WHILE_TRAINING = ("engine.devices", "engine.kernel", "checkpoint.", "tracking.wandb")
"""Keys, or beginnings of keys, that mean nothing to a run that is not trained."""


def run_training(
    open_run: Callable[[Processes], TrainingRun],
    *,
    cluster: Cluster | None = None,
    max_time: str | None = None,
    interrupts: Interrupts | None = None,
) -> None:
    """Trains the run that `open_run` gives, and ends the process with the exit code that says how it went."""
    from evoconn_cli.training.cluster import join

    deadline = Deadline(parse_duration(max_time)) if max_time is not None else Deadline()
    with interrupts or Interrupts() as interrupts:
        processes = join(cluster)
        try:
            if processes.is_writer:
                exit_code = _train(open_run, processes, interrupts, deadline)
            else:
                exit_code = _follow(processes, interrupts, deadline)
            if exit_code == ExitCode.QUIT:
                raise typer.Exit(exit_code)
        except BaseException as failure:
            if processes.count > 1:
                processes.abandon(*show_failure(failure))
            raise
        processes.close()
    if exit_code:
        raise typer.Exit(exit_code)


def _train(
    open_run: Callable[[Processes], TrainingRun], processes: Processes, interrupts: Interrupts, deadline: Deadline
) -> ExitCode:
    """Trains in the process that writes the run, and says how it went."""
    from evoconn_cli.commands.terminal import lasting_stdout
    from evoconn_cli.progress.display import make_progress, summary_table
    from evoconn_cli.runs.directory import saved_generations
    from evoconn_cli.training.train import train

    console = stream_console(file=lasting_stdout())
    run, where = None, ""
    try:
        run = open_run(processes)
        where = shlex.quote(run.directory.short_path())
        outcome = train(run, make_progress(console), interrupts=interrupts, deadline=deadline)
    except KeyboardInterrupt:
        message = "Quit."
        if run is not None:
            saved = run.directory.last_saved_generation() > 0
            kept = "The latest checkpoint is kept" if saved else "Nothing is saved yet; to start it again"
            message = f"Quit. {kept}: {program()} resume {where}"
        say(console, message)
        return ExitCode.QUIT
    if outcome.history:
        title = "finished" if outcome.finished else "saved"
        saved = saved_generations(run.directory.checkpoints)
        console.print(summary_table(outcome.history, saved=saved, title=title))
    if not outcome.finished:
        say(console, f"To go on: {program()} resume {where}")
        return ExitCode.SAVED_EARLY
    more = run.config.algo.generations * 2
    say(console, f"To train it further: {program()} resume {where} --generations {more}")
    return ExitCode.DONE


def says_finished(path: Path, overrides: Sequence[str]) -> bool:
    """Returns whether a run has nothing left to train, and says so; then JAX is not started and nothing is written.

    A key that changes the run or its logs is a reason to open it, and so is a damaged checkpoint.

    Raises:
        EvoconnError: there is no run, or an override cannot be read.
    """
    from evoconn_cli.config.loading import override_config
    from evoconn_cli.config.schema import walk
    from evoconn_cli.runs.directory import RunDirectory
    from evoconn_cli.training.checkpoint_facts import is_whole

    run = RunDirectory.open(path)
    before, done = run.read_config(), run.last_saved_generation()
    is_finished = run.read_facts().get("status") == "finished" and before.algo.generations == done
    asked = walk(override_config(before, overrides))
    changed = [key for (key, value, _), (_, was, _) in zip(asked, walk(before), strict=True) if value != was]
    is_asked_for_more = any(not key.startswith(_ONLY_WHILE_TRAINING) for key in changed)
    if not is_finished or is_asked_for_more or not is_whole(run.checkpoints / str(done)):
        return False
    more = f"{program()} resume {shlex.quote(run.short_path())} --generations {2 * done}"
    say(stream_console(), f"The run is at generation {done} already. To train it further: {more}")
    return True


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


DEFAULTS = {"seed": "0", "algo.population": "10240", "algo.generations": "1000"}
"""Defaults of the keys that options set, as the schema has them, which takes longer to import than help may take."""

_TASKS = names("task", hidden=False)
_NETWORKS = "; ".join(f"{', '.join(networks)} for {algo}" for algo, networks in pairs().items())


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Any key of the configuration, such as algo.learning_rate=0.1; the last one wins.",
            autocompletion=complete_override,
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"What to learn: {', '.join(_TASKS)}.",
            autocompletion=one_of(*_TASKS),
            show_default=False,
        ),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Strategy: {', '.join(names('strategy'))}.",
            autocompletion=complete_algo,
            show_default="ec, or that of the network",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Network: {_NETWORKS}.",
            autocompletion=complete_network,
            show_default="the first of its strategy",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help=f"Preset ({', '.join(preset_names())}) or path of a YAML file.",
            autocompletion=one_of(*preset_names()),
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.", show_default=DEFAULTS["seed"])] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Directory of the run, which must be new or empty.", show_default="a new one under runs/"),
    ] = None,
    population: Annotated[
        int | None, typer.Option(help="Members per generation.", show_default=DEFAULTS["algo.population"])
    ] = None,
    generations: Annotated[
        int | None, typer.Option(help="Generations to train.", show_default=DEFAULTS["algo.generations"])
    ] = None,
    devices: Devices = None,
    wandb: Wandb = None,
    max_time: MaxTime = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Train a network in a new run directory. What a preset sets replaces the defaults shown here.

    [bold]Examples[/bold]

      evoconn train --config laptop

      evoconn train --task humanoid --algo ec --population 1024

      evoconn train --config paper --task walker2d network.num_neurons=128
    """
    from evoconn_cli.config.loading import load_config
    from evoconn_cli.training.cluster import choose_cluster
    from evoconn_cli.training.opening import create_run

    options = {
        "task.name": task,
        "algo.name": algo,
        "network.name": network,
        "seed": seed,
        "algo.population": population,
        "algo.generations": generations,
        "engine.devices": devices,
        "tracking.wandb": wandb,
    }
    check_entries(overrides or [])
    loaded = load_config(config, [*to_overrides(options), *(overrides or [])])
    cluster = choose_cluster(distributed, coordinator, num_processes, process_id)
    run_training(lambda processes: create_run(loaded, run_dir, processes), cluster=cluster, max_time=max_time)
