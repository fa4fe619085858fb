"""`evoconn train`: a new run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evoconn_cli.commands.completion import complete_algo, complete_network, complete_override, one_of
from evoconn_cli.commands.hints import check_entries
from evoconn_cli.commands.options import (
    Coordinator,
    Devices,
    Distributed,
    MaxTime,
    NumProcesses,
    ProcessId,
    Wandb,
    to_overrides,
)
from evoconn_cli.config.names import BRAX_V1_TASKS, PAIRS
from evoconn_cli.config.shipped import preset_names

DEFAULTS = {"seed": "0", "algo.population": "10240", "algo.generations": "1000"}
"""Defaults of the keys that options set, as the schema has them, which takes longer to import than help may take."""

_NETWORKS = "; ".join(f"{', '.join(networks)} for {algo}" for algo, networks in PAIRS.items())


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
            help=f"What to learn: {', '.join(BRAX_V1_TASKS)}.",
            autocompletion=one_of(*BRAX_V1_TASKS),
            show_default=False,
        ),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Strategy: {', '.join(PAIRS)}.",
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
    from evoconn_cli.commands.training import run_training
    from evoconn_cli.config.loading import load_config
    from evoconn_cli.runs.processes.cluster import choose_cluster
    from evoconn_cli.runs.training.opening import create_run

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
