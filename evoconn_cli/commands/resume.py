"""`evoconn resume`: a run goes on from its latest checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def resume(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Directory of the run.", show_default=False)],
    generations: Annotated[
        Optional[int],
        typer.Option(help="Train up to this generation instead of the configured one.", show_default=False),
    ] = None,
    devices: Annotated[
        Optional[int], typer.Option(help="GPUs, or cores of a CPU; all by default.", show_default=False)
    ] = None,
    wandb: Annotated[
        Optional[str],
        typer.Option(metavar="MODE", help="W&B: auto, online, offline, disabled.", show_default=False),
    ] = None,
) -> None:
    """Go on with a run from its latest checkpoint, as if it had never stopped.

    [bold]Examples[/bold]

      evoconn resume runs/hopper-ec

      evoconn resume runs/hopper-ec --generations 500
    """
    from evoconn_cli.commands.training import run_training
    from evoconn_cli.runs.new import reopen_run

    options = {"algo.generations": generations, "engine.devices": devices, "tracking.wandb": wandb}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    run_training(lambda: reopen_run(run_dir, given))
