"""`evoconn evaluate`: how good a saved policy is, how much it computes, how robust it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evoconn_cli.commands.completion import complete_run, keys_of, one_of, steps_of
from evoconn_cli.commands.options import Devices, Policy
from evoconn_cli.config.names import BRAX_V1_TASKS
from evoconn_cli.config.perturbations import KINDS

AXES = ("generations", "env-steps", "time")


def evaluate(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR|CKPT_DIR",
            help="Run directories, their checkpoints directories, single steps in there, or exported bundles.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    step: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]|latest|best|all",
            help="Checkpoints: the numbers of generations, the latest, the best of those saved, or all.",
            autocompletion=steps_of("latest", "best", "all", several=True),
            show_default="latest",
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=0, help="Episodes of each run; 0 only draws --plot.")] = 128,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the episodes; no draw is one of training's.")
    ] = 0,
    policy: Policy = "deterministic",
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help=f"{', '.join(KINDS)}. Several values, as in mass=0.8,1.2, make a sweep.",
            autocompletion=keys_of(KINDS),
            show_default=False,
        ),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Plot of a sweep, plots/NAME-sweep.png in the first run by default; or of several checkpoints.",
            show_default=False,
        ),
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(
            metavar="45nm",
            help="Estimate the energy of the arithmetic.",
            autocompletion=one_of("45nm"),
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=RETURN",
            help="Divide mean returns by it to compare tasks.",
            autocompletion=keys_of(BRAX_V1_TASKS),
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="All results as JSON; - to the terminal.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="One line for each episode.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Learning curves of the runs, .png, .pdf or .svg.",
            show_default=False,
        ),
    ] = None,
    plot_x: Annotated[
        str,
        typer.Option(
            metavar="AXIS", help="Axis of --plot: generations, env-steps or time.", autocompletion=one_of(*AXES)
        ),
    ] = "generations",
    devices: Devices = None,
) -> None:
    """Evaluate saved policies: returns, spikes and operations, robustness, learning curves.

    [bold]Examples[/bold]

      evoconn evaluate runs/hopper-ec

      evoconn evaluate runs/hopper-ec --step best --policy sampled --json -

      evoconn evaluate runs/hopper-ec --perturb obs-noise=0,0.1,0.2,0.4

      evoconn evaluate runs/hopper-ec --step all --curve over-training.png

      evoconn evaluate runs/hopper-* --plot curves.png
    """
    from evoconn_cli.commands.evaluation import run_evaluation
    from evoconn_cli.commands.evaluation_request import Request

    run_evaluation(
        Request(
            runs=runs,
            step=step,
            episodes=episodes,
            seed=seed,
            policy=policy,
            perturb=perturb or [],
            curve=curve,
            energy=energy,
            reference=reference or [],
            json=json,
            csv=csv,
            plot=plot,
            plot_x=plot_x,
            devices=devices,
        )
    )
