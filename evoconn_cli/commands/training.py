"""What `train` and `resume` share: running a training in the terminal, and what is said at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from evoconn_cli.errors import ExitCode

if TYPE_CHECKING:
    from evoconn_cli.runs.new import Run


def run_training(open_run: Callable[[], Run]) -> None:
    """Trains the run that `open_run` gives, and ends the process with the exit code that says how it went."""
    from rich.console import Console

    from evoconn_cli.runs.loop import train
    from evoconn_cli.runs.progress import best_evaluation, make_progress, summary_table

    console = Console()
    run = open_run()
    progress = make_progress(console)
    where = shlex.quote(run.directory.short_path())
    try:
        outcome = train(run.directory, run.config, run.workers, progress)
    except KeyboardInterrupt:
        console.print(f"Quit. The latest checkpoint is kept: evoconn resume {where}", highlight=False, soft_wrap=True)
        raise typer.Exit(ExitCode.QUIT) from None
    if outcome.history:
        title = "finished" if outcome.finished else "saved"
        console.print(summary_table(outcome.history[-1], best=best_evaluation(outcome.history), title=title))
    if not outcome.finished:
        console.print(f"To go on: evoconn resume {where}", highlight=False, soft_wrap=True)
        raise typer.Exit(ExitCode.SAVED_EARLY)
    more = run.config.algo.generations * 2
    console.print(f"To train it further: evoconn resume {where} --generations {more}", highlight=False, soft_wrap=True)
