"""`evoconn resume`: a run goes on from its latest checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evoconn_cli.commands.options import (
    Coordinator,
    Devices,
    Distributed,
    MaxTime,
    NumProcesses,
    ProcessId,
    Wandb,
    complete_override,
    complete_run,
    steps_of,
    to_overrides,
)


def resume(
    run_dir: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="Directory of the run.", autocompletion=complete_run, show_default=False
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Keys of checkpoint and tracking, algo.generations, engine.devices or engine.kernel.",
            autocompletion=complete_override,
            show_default=False,
        ),
    ] = None,
    generations: Annotated[
        int | None,
        typer.Option(help="Train up to this generation.", show_default="as the run is configured"),
    ] = None,
    from_step: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Go on from this saved generation (0: the beginning); what came later goes to set-aside/.",
            autocompletion=steps_of("0"),
            show_default="latest",
        ),
    ] = None,
    discard_later: Annotated[
        bool, typer.Option("--discard-later", help="With --from-step: delete what came later.")
    ] = False,
    devices: Devices = None,
    wandb: Wandb = None,
    max_time: MaxTime = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Go on with a run from its latest checkpoint, as if it had never stopped.

    [bold]Examples[/bold]

      evoconn resume runs/hopper-ec

      evoconn resume runs/hopper-ec --generations 500

      evoconn resume runs/hopper-ec --from-step 200 checkpoint.every=10
    """
    from evoconn_cli.commands.train import run_training, says_finished
    from evoconn_cli.errors import ConfigError
    from evoconn_cli.training.cluster import choose_cluster

    if discard_later and from_step is None:
        raise ConfigError("--discard-later goes with --from-step, which says what is later.")
    options = {"algo.generations": generations, "engine.devices": devices, "tracking.wandb": wandb}
    entries = [*to_overrides(options), *(overrides or [])]
    cluster = choose_cluster(distributed, coordinator, num_processes, process_id)
    if cluster is None and from_step is None and says_finished(run_dir, entries):
        return
    from evoconn_cli.training.opening import reopen_run

    run_training(
        lambda processes: reopen_run(
            run_dir, entries, from_step=from_step, discard_later=discard_later, processes=processes
        ),
        cluster=cluster,
        max_time=max_time,
    )
