"""What `evoconn evaluate` does with its options: check them all, evaluate, show, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evoconn_cli.commands.ending import show_notice
from evoconn_cli.commands.options import POLICIES
from evoconn_cli.config.perturbations import KINDS, parse_perturbations, setting_text, swept_name
from evoconn_cli.errors import ConfigError, ExitCode, unknown_name

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.runs.evaluation.comparison import Aggregate
    from evoconn_cli.runs.evaluation.evaluating import Evaluated
    from evoconn_cli.runs.opened import OpenedRun

_FILE_WIDTH = 160
"""Columns for tables that go to a file or a pipe, so that nothing is folded there."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of `evoconn evaluate`, as its help describes them."""

    runs: list[str]
    step: str | None
    episodes: int
    seed: int
    policy: str
    perturb: list[str]
    curve: Path | None
    energy: str | None
    reference: list[str]
    json: str | None
    csv: Path | None
    plot: Path | None
    plot_x: str
    devices: int | None


def run_evaluation(request: Request) -> None:
    """Evaluates runs, shows the results and writes what is asked for.

    Raises:
        EvoconnError: anything the user can act on, before the episodes where it can be known.
    """
    from rich.console import Console

    request = _with_perturbations_among_runs(request)
    _check(request)
    console = Console(stderr=request.json == "-")
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    if request.plot is not None:
        _draw_learning_curves(request, console)
    if request.episodes == 0:
        return
    try:
        _evaluate(request, console)
    except KeyboardInterrupt:
        console.print("Quit.", highlight=False)
        raise typer.Exit(ExitCode.QUIT) from None


def _with_perturbations_among_runs(request: Request) -> Request:
    """Returns the request with `NAME=VALUE` arguments taken for what they are: more of `--perturb`."""

    def is_perturbation(text: str) -> bool:
        return "=" in text and text.partition("=")[0] in KINDS and not Path(text).exists()

    more = [text for text in request.runs if is_perturbation(text)]
    runs = [text for text in request.runs if not is_perturbation(text)]
    if not runs:
        raise ConfigError("no run is named. Add a run directory, or a directory of checkpoints.")
    return dataclasses.replace(request, runs=runs, perturb=[*request.perturb, *more])


def _check(request: Request) -> None:
    from evoconn_cli.drawing.canvas import FORMATS
    from evoconn_cli.output import check_output
    from evoconn_cli.runs.evaluation.comparison import parse_references
    from evoconn_cli.runs.evaluation.neurobench import ENERGY_PJ

    if request.policy not in POLICIES:
        raise unknown_name("policy", request.policy, POLICIES)
    if request.energy is not None and request.energy not in ENERGY_PJ:
        raise unknown_name("technology of --energy", request.energy, ENERGY_PJ)
    if request.episodes == 0 and request.plot is None:
        raise ConfigError("--episodes 0 without --plot leaves nothing to do.")
    parse_references(request.reference)
    swept = swept_name(parse_perturbations(request.perturb))
    if request.curve is not None and swept is None:
        raise ConfigError("--curve draws a sweep: give one perturbation several values, such as obs-noise=0,0.1,0.2.")
    for option, path, formats in (("--plot", request.plot, FORMATS), ("--curve", request.curve, FORMATS)):
        if path is not None:
            check_output(path, option, formats)
    for option, path in (("--csv", request.csv), ("--json", None if request.json == "-" else request.json)):
        if path is not None:
            check_output(Path(path), option)


def _draw_learning_curves(request: Request, console: Console) -> None:
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.runs.directory import RunDirectory
    from evoconn_cli.runs.learning_curves import learning_figure, read_curve
    from evoconn_cli.runs.opened import locate

    assert request.plot is not None
    paths = dict.fromkeys(locate(Path(run))[0] for run in request.runs)
    curves = [read_curve(RunDirectory.open(path), request.plot_x) for path in paths]
    save_figure(learning_figure(curves, request.plot_x), request.plot)
    _say_written(console, "learning curves", request.plot)


def _evaluate(request: Request, console: Console) -> None:
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.output import whole_file
    from evoconn_cli.runs.evaluation.comparison import check_references, compare, parse_references
    from evoconn_cli.runs.evaluation.files import to_csv, to_json
    from evoconn_cli.runs.evaluation.sweep_curve import sweep_figure

    settings, references = parse_perturbations(request.perturb), parse_references(request.reference)
    opened = _open_runs(request)
    check_references(references, {one.config.task.name for one in opened})
    swept = swept_name(settings)
    curve = _curve_path(request, opened[0], swept) if swept is not None else None
    evaluated = _run_episodes(request, opened, settings)
    aggregates = compare(evaluated, references, request.seed)
    _show(request, console, evaluated, aggregates)
    if request.json == "-":
        typer.echo(to_json(evaluated, aggregates, **_described(request)), nl=False)
    elif request.json is not None:
        with whole_file(Path(request.json)) as partial:
            partial.write_text(to_json(evaluated, aggregates, **_described(request)), encoding="utf-8")
        _say_written(console, "results", Path(request.json))
    if request.csv is not None:
        with whole_file(request.csv) as partial:
            partial.write_text(to_csv(evaluated, policy=request.policy, seed=request.seed), encoding="utf-8")
        _say_written(console, "episodes", request.csv)
    if swept is not None and curve is not None:
        save_figure(sweep_figure(evaluated, swept, request.seed), curve)
        _say_written(console, "curve", curve)


def _described(request: Request) -> dict[str, Any]:
    return {"policy": request.policy, "seed": request.seed, "energy": request.energy}


def _open_runs(request: Request) -> list[OpenedRun]:
    from evoconn_cli.runs.devices import start_jax
    from evoconn_cli.runs.opened import open_run

    workers = start_jax(request.devices)
    opened = [open_run(Path(run), request.step, workers, note=show_notice) for run in request.runs]
    return list({(one.directory.path, one.generation): one for one in opened}.values())


def _curve_path(request: Request, first: OpenedRun, swept: str) -> Path:
    from evoconn_cli.drawing.canvas import FORMATS
    from evoconn_cli.output import check_output

    path = request.curve or Path(first.directory.short_path()) / "plots" / f"{swept}-sweep.png"
    check_output(path, "--curve", FORMATS)
    return path


def _run_episodes(
    request: Request, opened: Sequence[OpenedRun], settings: Sequence[dict[str, float]]
) -> list[Evaluated]:
    from rich.console import Console
    from rich.progress import track

    from evoconn_cli.runs.evaluation.evaluating import evaluate

    results = evaluate(
        opened, settings, num_episodes=request.episodes, seed=request.seed, sampled=request.policy == "sampled"
    )
    errors = Console(stderr=True)
    total = len(opened) * len(settings)
    what = f"{request.episodes} episodes"
    return list(track(results, what, total, console=errors, transient=True, disable=not errors.is_terminal))


def _show(request: Request, console: Console, evaluated: Sequence[Evaluated], aggregates: Sequence[Aggregate]) -> None:
    from evoconn_cli.runs.evaluation import tables

    if len(evaluated) == 1:
        console.print(tables.single_panel(evaluated[0], **_described(request)))
    else:
        settings = [one.setting for one in evaluated]
        also = setting_text(settings[0], without=swept_name(settings))
        head = f"{request.policy} policy, {request.episodes} episodes, seed {request.seed}"
        console.print(f"{head}; perturbed: {also}" if also else head, highlight=False)
        for line in tables.runs_list(evaluated):
            console.print(line, highlight=False, soft_wrap=True)
        console.print()
        console.print(tables.returns_table(evaluated))
        console.print(tables.figures_table(evaluated, request.energy))
    if aggregates:
        console.print(tables.aggregates_table(aggregates, scaled=bool(request.reference)))
        if not request.reference and any(len(one.runs) > 1 for one in aggregates):
            console.print("Returns of different tasks are mixed as they are: --reference TASK=RETURN scales them.")
    if request.energy is not None:
        console.print(
            "The energy is that of the additions and multiplications alone, as 32-bit floats: without memory, neurons "
            "and leakage, which usually cost more.",
            style="dim",
        )


def _say_written(console: Console, what: str, path: Path) -> None:
    console.print(f"{what}: {path}", highlight=False, soft_wrap=True)
