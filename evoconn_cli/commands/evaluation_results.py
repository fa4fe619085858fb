"""What `evoconn evaluate` shows and writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evoconn_cli.commands.ending import say, show_notice
from evoconn_cli.commands.evaluation_request import Request
from evoconn_cli.config.perturbations import setting_text, swept_name
from evoconn_cli.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.runs.evaluation.comparison import Aggregate
    from evoconn_cli.runs.evaluation.evaluating import Evaluated
    from evoconn_cli.runs.opened import OpenedRun


def curve_path(request: Request, opened: Sequence[OpenedRun], swept: str | None) -> Path | None:
    """Returns where the curve is drawn, None for nowhere.

    Raises:
        ConfigError: there is neither a sweep nor a run with several checkpoints.
    """
    if request.curve is None:
        return None if swept is None else _default_curve(opened[0], swept)
    if swept is None and len({one.directory.path for one in opened}) == len(opened):
        raise ConfigError(
            "--curve draws a sweep or several checkpoints: give a perturbation several values, such as "
            "obs-noise=0,0.1,0.2, or --step, such as all."
        )
    return request.curve


def _default_curve(first: OpenedRun, swept: str) -> Path | None:
    """Returns where the plot of a sweep goes by default, None where nothing can be written.

    That is beside a bundle, whose files are those that its checksums name.
    """
    from evoconn_cli.output import place_problem

    short = Path(first.directory.short_path())
    where = short if short.name else first.directory.path  # that is where one stands
    name = f"{swept}-sweep.png"
    path = where / "plots" / name if first.bundle is None else where.with_name(f"{where.name}-{name}")
    if problem := place_problem(path):
        show_notice(f"the sweep is not drawn: {problem}. --curve FILE draws it in another place.")
        return None
    return path


def show_results(
    request: Request, console: Console, evaluated: Sequence[Evaluated], aggregates: Sequence[Aggregate]
) -> None:
    """Prints the tables."""
    from evoconn_cli.runs.evaluation import tables
    from evoconn_cli.runs.evaluation.comparison import apart
    from evoconn_cli.runs.evaluation.panel import single_panel

    if len(evaluated) == 1:
        console.print(single_panel(evaluated[0], **request.described()))
    else:
        settings = [one.setting for one in evaluated]
        also = setting_text(settings[0], without=swept_name(settings))
        head = f"{request.policy} policy, {request.episodes} episodes, seed {request.seed}"
        say(console, f"{head}; perturbed: {also}" if also else head)
        for line in tables.runs_list(evaluated):
            say(console, line)
        console.print()
        console.print(tables.returns_table(evaluated))
        console.print(tables.figures_table(evaluated, request.energy))
    if aggregates:
        console.print(tables.aggregates_table(aggregates, scaled=bool(request.reference)))
        if not request.reference and any(len(one.runs) > 1 for one in aggregates):
            console.print("Returns of different tasks are mixed as they are: --reference TASK=RETURN scales them.")
    for note in apart(evaluated) if len(evaluated) > 1 else ():
        say(console, note)
    if request.energy is not None:
        console.print(
            "The energy is that of the additions and multiplications alone, as 32-bit floats: without memory, neurons "
            "and leakage, which usually cost more.",
            style="dim",
        )


def write_results(
    request: Request, evaluated: Sequence[Evaluated], aggregates: Sequence[Aggregate], curve: Path | None
) -> list[str]:
    """Writes the files that were asked for, and returns lines that say where they are."""
    from evoconn_cli.output import in_a_run, whole_file
    from evoconn_cli.runs.evaluation.files import to_csv, to_json

    written = []
    if request.json not in (None, "-"):
        with whole_file(Path(request.json)) as partial:
            partial.write_text(to_json(evaluated, aggregates, **request.described()), encoding="utf-8")
        written.append(f"results: {request.json}")
    if request.csv is not None:
        with whole_file(request.csv) as partial:
            partial.write_text(to_csv(evaluated, policy=request.policy, seed=request.seed), encoding="utf-8")
        written.append(f"episodes: {request.csv}")
    if curve is not None:
        curve = curve if request.curve else in_a_run(curve)
        from evoconn_cli.drawing.canvas import save_figure
        from evoconn_cli.runs.evaluation.curve import curve_figure

        save_figure(curve_figure(evaluated, swept_name([one.setting for one in evaluated]), request.seed), curve)
        written.append(f"curve: {curve}")
    if request.json == "-":
        typer.echo(to_json(evaluated, aggregates, **request.described()), nl=False)
    return written
