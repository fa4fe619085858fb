"""What `evoconn evaluate` does: check the request, evaluate, show, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from evoconn_cli.commands.ending import say, show_notice, stream_console, table_console
from evoconn_cli.commands.evaluation_request import Request
from evoconn_cli.commands.evaluation_results import curve_path, show_results, write_results
from evoconn_cli.config.perturbations import parse_perturbations, swept_name
from evoconn_cli.errors import ExitCode, NoRunError, NothingYetError

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.runs.evaluation.evaluating import Evaluated
    from evoconn_cli.runs.opened import OpenedRun

Found = TypeVar("Found")


def run_evaluation(request: Request) -> None:
    """Evaluates runs, shows the results and writes what is asked for.

    Raises:
        EvoconnError: anything the user can act on, before the episodes where it can be known.
    """
    request = request.checked()
    console = table_console(stderr=request.json == "-")
    if request.plot is not None:
        _draw_learning_curves(request, console)
    if request.episodes == 0:
        return
    try:
        _evaluate(request, console)
    except KeyboardInterrupt:
        say(console, "Quit.")
        raise typer.Exit(ExitCode.QUIT) from None


def _draw_learning_curves(request: Request, console: Console) -> None:
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.runs.directory import RunDirectory
    from evoconn_cli.runs.learning_curves import Curve, distinct_curves, learning_figure, read_curve
    from evoconn_cli.runs.locating import locate

    assert request.plot is not None

    def read(path: Path) -> tuple[Path, Curve]:
        run = RunDirectory.open(locate(path)[0])
        return run.path, read_curve(run, request.plot_x)

    curves = list(dict(_of_each_run(request.runs, read, "drawn")).values())
    save_figure(learning_figure(curves, request.plot_x), request.plot)
    say(console, f"learning curves: {request.plot}")
    if again := len(curves) - len(distinct_curves(curves)):
        say(console, f"{again} of the {len(curves)} runs have the configuration and seed of another: drawn once.")


def _evaluate(request: Request, console: Console) -> None:
    from evoconn_cli.runs.evaluation.comparison import check_references, compare, parse_references

    settings, references = parse_perturbations(request.perturb), parse_references(request.reference)
    opened = _open_runs(request)
    check_references(references, {one.config.task.name for one in opened})
    curve = curve_path(request, opened, swept_name(settings))
    evaluated = _run_episodes(request, opened, settings)
    aggregates = compare(evaluated, references, request.seed)
    written = write_results(request, evaluated, aggregates, curve)  # before anything that a closed pipe could end
    show_results(request, console, evaluated, aggregates)
    for line in written:
        say(console, line)


def _open_runs(request: Request) -> list[OpenedRun]:
    from evoconn_cli.runs.devices import start_jax
    from evoconn_cli.runs.opened import open_checkpoints

    workers = start_jax(request.devices)

    def open_one(path: Path) -> list[OpenedRun]:
        return open_checkpoints(path, request.step, workers, note=show_notice)

    found = _of_each_run(request.runs, open_one, "evaluated")
    return list({(one.directory.path, one.generation): one for run in found for one in run}.values())


def _of_each_run(paths: Sequence[str], read: Callable[[Path], Found], done: str) -> list[Found]:
    """Returns what `read` finds at each path; of several paths those without a trained run are left out with a notice.

    Args:
        paths: As the user names them, such as what the shell makes of `runs/*`.
        read: Function of a path.
        done: What is not done with a path that is left out, such as `drawn`.

    Raises:
        EvoconnError: what `read` raises for a path that is the only one, or for any other reason.
        NoRunError: no path is a trained run.
    """
    found = []
    for path in paths:
        try:
            found.append(read(Path(path)))
        except (NoRunError, NothingYetError) as error:
            if len(paths) == 1:
                raise
            show_notice(f"not {done}: {error}")
    if not found:
        raise NoRunError(
            f"none of the {len(paths)} paths is a run that was trained. Name those that `evoconn train` made."
        )
    return found


def _run_episodes(
    request: Request, opened: Sequence[OpenedRun], settings: Sequence[dict[str, float]]
) -> list[Evaluated]:
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from evoconn_cli.runs.evaluation.evaluating import evaluate

    errors = stream_console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_interactive) as progress:
        task = progress.add_task("", total=len(opened) * len(settings))
        results = evaluate(
            opened,
            settings,
            num_episodes=request.episodes,
            seed=request.seed,
            sampled=request.policy == "sampled",
            tell=lambda what: progress.update(task, description=what),
        )
        return list(progress.track(results, task_id=task))
