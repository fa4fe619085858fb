"""`evoconn export-connectivity`: an evolved network as files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evoconn_cli.commands.completion import complete_run, list_of, one_of, steps_of
from evoconn_cli.commands.options import Policy
from evoconn_cli.export.formats import FORMATS
from evoconn_cli.export.source import NIR_TAUS, PANELS, SORTS, STEPS_PANELS


def export_connectivity(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR|CKPT_DIR|BUNDLE_DIR",
            help="A run, its checkpoints, one step in there, or a bundle.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME[,NAME...]",
            help=f"{', '.join(FORMATS)}; bundle by default.",
            autocompletion=list_of({name: one.summary for name, one in FORMATS.items()}),
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="File or directory to write; with several formats or steps, the directory that holds them. In the "
            "run's exports/ by default.",
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]|latest|best|all",
            help="Checkpoints; formats that cannot compare several are written for each.",
            autocompletion=steps_of("latest", "best", "all", several=True),
            show_default="latest",
        ),
    ] = None,
    policy: Policy = "deterministic",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of sampled connections and of the recorded episode.")
    ] = 0,
    episode_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Cut the recorded episode after so many steps.", show_default="to its end"),
    ] = None,
    with_episode: Annotated[
        bool,
        typer.Option(
            "--with-episode", help="Write the recorded episode beside the tables of npz, csv, parquet, graphml."
        ),
    ] = False,
    nir_tau: Annotated[
        str,
        typer.Option(
            metavar="continuous|euler",
            help="Time constants of nir: the true ones, or those for forward Euler.",
            autocompletion=one_of(*NIR_TAUS),
        ),
    ] = "continuous",
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Replay the bundle in a process without jax, and compare spike by spike; without --format and --out, "
            "that of BUNDLE_DIR.",
        ),
    ] = False,
    sort: Annotated[
        str,
        typer.Option(
            metavar="|".join(SORTS),
            help="Order of the neurons of a type in html, and in png of a single step.",
            autocompletion=one_of(*SORTS),
        ),
    ] = "degree",
    random_graphs: Annotated[
        int, typer.Option(min=2, help="How many the statistics are compared with, in statistics, png and html.")
    ] = 20,
    width: Annotated[
        str,
        typer.Option(metavar="LENGTH", help="Width of png, pdf and svg, for text of 6 to 8 pt: such as 3.4in or 18cm."),
    ] = "7in",
    title: Annotated[
        bool, typer.Option("--title/--no-title", help="Write what the network is above png, pdf and svg.")
    ] = True,
    panel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LETTER[,LETTER...]",
            help=f"Panels of png, pdf and svg: {PANELS[0]} to {PANELS[-1]}; with several steps {STEPS_PANELS[0]} to "
            f"{STEPS_PANELS[-1]}.",
            show_default="all",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write an evolved network as files: a bundle that anyone can run again, edge lists, graphs, statistics, pictures.

    [bold]Examples[/bold]

      evoconn export-connectivity runs/hopper-ec

      evoconn export-connectivity runs/hopper-ec --step best --format bundle,csv,png --verify

      evoconn export-connectivity runs/hopper-ec --format pdf --width 3.4in --panel a,d --no-title --out figure.pdf

      evoconn export-connectivity runs/hopper-ec/exports/generation-120-bundle --verify
    """
    from evoconn_cli.commands.exporting import Request, parse_panels, parse_width, run_export
    from evoconn_cli.export.source import ExportOptions

    run_export(
        Request(
            path=path,
            formats=formats,
            out=out,
            step=step,
            policy=policy,
            seed=seed,
            episode_steps=episode_steps,
            verify=verify,
            force=force,
            options=ExportOptions(
                nir_tau=nir_tau,
                sort=sort,
                random_graphs=random_graphs,
                with_episode=with_episode,
                width=parse_width(width),
                title=title,
                panels=parse_panels(panel or []),
            ),
        )
    )
