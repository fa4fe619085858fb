"""`evoconn resume`: a run goes on from its latest checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from evoconn_cli.commands.options import Devices, Wandb, to_overrides


def resume(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Directory of the run.", show_default=False)],
    generations: Annotated[
        Optional[int],
        typer.Option(help="Train up to this generation instead of the configured one.", show_default=False),
    ] = None,
    devices: Devices = None,
    wandb: Wandb = None,
) -> None:
    """Go on with a run from its latest checkpoint, as if it had never stopped.

    [bold]Examples[/bold]

      evoconn resume runs/hopper-ec

      evoconn resume runs/hopper-ec --generations 500
    """
    from evoconn_cli.commands.training import run_training
    from evoconn_cli.runs.new import reopen_run

    options = {"algo.generations": generations, "engine.devices": devices, "tracking.wandb": wandb}
    run_training(lambda: reopen_run(run_dir, to_overrides(options)))
