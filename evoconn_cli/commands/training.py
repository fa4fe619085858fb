"""What `train` and `resume` share: running a training in the terminal, and what is said at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from evoconn_cli.errors import ExitCode
from evoconn_cli.runs.deadline import Deadline, parse_duration
from evoconn_cli.runs.interrupts import Interrupts

if TYPE_CHECKING:
    from evoconn_cli.runs.new import Run


def run_training(
    open_run: Callable[[], Run],
    *,
    max_time: str | None = None,
    from_step: int | None = None,
    discard_later: bool = False,
) -> None:
    """Trains the run that `open_run` gives, and ends the process with the exit code that says how it went."""
    deadline = Deadline(parse_duration(max_time)) if max_time is not None else Deadline()
    with Interrupts() as interrupts:
        from rich.console import Console

        from evoconn_cli.runs.loop import train
        from evoconn_cli.runs.progress import best_evaluation, make_progress, summary_table
        from evoconn_cli.runs.terminal import lasting_stdout

        console = Console(file=lasting_stdout())
        say = console.print
        run, where = None, ""
        try:
            run = open_run()
            where = shlex.quote(run.directory.short_path())
            outcome = train(
                run.directory,
                run.config,
                run.workers,
                make_progress(console),
                interrupts=interrupts,
                deadline=deadline,
                from_step=from_step,
                discard_later=discard_later,
            )
        except KeyboardInterrupt:
            saved = run is not None and run.directory.last_saved_generation() > 0
            kept = "The latest checkpoint is kept" if saved else "Nothing is saved yet; to start it again"
            say(
                f"Quit. {kept}: evoconn resume {where}" if run else "Quit.",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            raise typer.Exit(ExitCode.QUIT) from None
        if outcome.history:
            title = "finished" if outcome.finished else "saved"
            say(summary_table(outcome.history[-1], best=best_evaluation(outcome.history), title=title))
        if not outcome.finished:
            say(f"To go on: evoconn resume {where}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(ExitCode.SAVED_EARLY)
        more = run.config.algo.generations * 2
        further = f"To train it further: evoconn resume {where} --generations {more}"
        say(further, markup=False, highlight=False, soft_wrap=True)
