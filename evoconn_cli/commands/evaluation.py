"""What `evoconn evaluate` does: check the request, evaluate, show, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evoconn_cli.commands.ending import say, show_notice, stream_console, table_console
from evoconn_cli.commands.evaluation_request import Request
from evoconn_cli.commands.evaluation_results import curve_path, show_results, write_results
from evoconn_cli.config.perturbations import parse_perturbations, swept_name
from evoconn_cli.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.runs.evaluation.evaluating import Evaluated
    from evoconn_cli.runs.opened import OpenedRun


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
    from evoconn_cli.runs.learning_curves import learning_figure, read_curve
    from evoconn_cli.runs.locating import locate

    assert request.plot is not None
    paths = dict.fromkeys(locate(Path(run))[0] for run in request.runs)
    curves = [read_curve(RunDirectory.open(path), request.plot_x) for path in paths]
    save_figure(learning_figure(curves, request.plot_x), request.plot)
    say(console, f"learning curves: {request.plot}")


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
    found = [open_checkpoints(Path(run), request.step, workers, note=show_notice) for run in request.runs]
    return list({(one.directory.path, one.generation): one for run in found for one in run}.values())


def _run_episodes(
    request: Request, opened: Sequence[OpenedRun], settings: Sequence[dict[str, float]]
) -> list[Evaluated]:
    from rich.progress import track

    from evoconn_cli.runs.evaluation.evaluating import evaluate

    results = evaluate(
        opened, settings, num_episodes=request.episodes, seed=request.seed, sampled=request.policy == "sampled"
    )
    errors = stream_console(stderr=True)
    total = len(opened) * len(settings)
    what = f"{request.episodes} episodes"
    return list(track(results, what, total, console=errors, transient=True, disable=not errors.is_interactive))
