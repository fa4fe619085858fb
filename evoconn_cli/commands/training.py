"""What `train` and `resume` share: running a training in the terminal, and what is said at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evoconn_cli.commands.ending import say, show_failure, stream_console
from evoconn_cli.config.durations import parse_duration
from evoconn_cli.errors import ExitCode, program
from evoconn_cli.runs.processes.cluster import Cluster, join
from evoconn_cli.runs.processes.protocol import Processes
from evoconn_cli.runs.training.deadline import Deadline
from evoconn_cli.runs.training.interrupts import Interrupts

if TYPE_CHECKING:
    from evoconn_cli.runs.training.opening import Run


_ONLY_WHILE_TRAINING = ("engine.devices", "engine.kernel", "checkpoint.", "tracking.wandb")
"""Keys, or beginnings of keys, that mean nothing to a run that is not trained."""


def run_training(
    open_run: Callable[[Processes], Run],
    *,
    cluster: Cluster | None = None,
    max_time: str | None = None,
    from_step: int | None = None,
    discard_later: bool = False,
    interrupts: Interrupts | None = None,
) -> None:
    """Trains the run that `open_run` gives, and ends the process with the exit code that says how it went."""
    deadline = Deadline(parse_duration(max_time)) if max_time is not None else Deadline()
    with interrupts or Interrupts() as interrupts:
        processes = join(cluster)
        try:
            if processes.is_writer:
                exit_code = _train(
                    open_run,
                    processes,
                    interrupts,
                    deadline,
                    from_step=from_step,
                    discard_later=discard_later,
                )
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
    open_run: Callable[[Processes], Run],
    processes: Processes,
    interrupts: Interrupts,
    deadline: Deadline,
    *,
    from_step: int | None,
    discard_later: bool,
) -> ExitCode:
    """Trains in the process that writes the run, and says how it went."""
    from evoconn_cli.runs.checkpoints.saved import saved_generations
    from evoconn_cli.runs.progress.protocol import make_progress, summary_table
    from evoconn_cli.runs.progress.terminal import lasting_stdout
    from evoconn_cli.runs.training.training import train

    console = stream_console(file=lasting_stdout())
    run, where = None, ""
    try:
        run = open_run(processes)
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
            processes=processes,
        )
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
    from evoconn_cli.runs.checkpoints.facts import is_whole
    from evoconn_cli.runs.directory import RunDirectory

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
    from evoconn_cli.runs.processes.following import follow

    typer.echo(f"process {processes.index} of {processes.count}: process 0 shows the run and writes it")
    interrupts.notify = typer.echo
    try:
        finished = follow(processes, interrupts=interrupts, deadline=deadline)
    except KeyboardInterrupt:
        typer.echo("Quit.")
        return ExitCode.QUIT
    return ExitCode.DONE if finished else ExitCode.SAVED_EARLY
