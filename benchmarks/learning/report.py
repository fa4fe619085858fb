"""Compares methods at equal environment steps and at equal training time: a table and plots."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from omegaconf import OmegaConf
from scipy import stats

from benchmarks.learning.curves import EVERY, Curve
from evoconn_cli.config.reading import read_yaml
from evoconn_cli.config.registry import find
from evoconn_cli.drawing.canvas import FAINT, add_shared_legend, draw_series, label_axes, make_figure, own_settings
from evoconn_cli.errors import ConfigError, unknown_name
from evoconn_cli.evaluation.statistics import CONFIDENCE, LEVEL, Interval
from evoconn_cli.progress.formatting import MISSING_FIGURE, fitness

AXES = {"env_steps": "environment steps", "elapsed": "training time [s]"}
"""Columns of a curve that returns are compared at, and their labels."""


@dataclass(frozen=True)
class Study:
    """The content of a study file: a grid, and what to compare its runs at."""

    name: str
    grid: Path
    budget: Mapping[str, float]  # task -> environment steps of a run
    target: Mapping[str, float]  # task -> return
    paper: Mapping[str, float]  # task -> published return


def read_study(path: Path) -> Study:
    """Returns the checked content of a study file; the path of the grid is relative to it.

    Raises:
        ConfigError: The file cannot be read, a key or task is unknown, or a value is wrong.
    """
    given = OmegaConf.to_container(read_yaml(path, lambda key: key == "grid"))
    assert isinstance(given, dict)
    known = [field.name for field in dataclasses.fields(Study) if field.name != "name"]
    for key in given:
        if key not in known:
            raise unknown_name(f"key of {path.name}:", str(key), known)
    if not isinstance(given.get("grid"), str):
        raise ConfigError(f"{path}: `grid` is missing: the path of a grid file, relative to this one.")
    budget, target, paper = (_by_task(given.get(key, {}), f"{path.name}: {key}") for key in known[1:])
    if without := sorted({*target, *paper} - {*budget}):
        raise ConfigError(f"{path.name}: budget has no {without[0]}. Give the environment steps of a run.")
    return Study(path.stem, path.parent / given["grid"], budget, target, paper)


def _by_task(given: Any, where: str) -> dict[str, float]:
    if not isinstance(given, dict):
        raise ConfigError(f"{where}: expected numbers by task, such as {{hopper: 1500}}, got {given!r}.")
    for task, value in given.items():
        find("task", task, f"task in {where}:")
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise ConfigError(f"{where}.{task}: expected a positive number, got {value!r}.")
    return given


def in_order(study: Study, curves: Sequence[Curve]) -> list[Curve]:
    """Returns the curves in the order of the grid's sets; those of other methods come last.

    Raises:
        ConfigError: The grid file cannot be read.
    """
    places = {name: place for place, name in enumerate(read_yaml(study.grid).get("sets") or {})}
    return sorted(curves, key=lambda curve: places.get(curve.method.partition(" ")[0], len(places)))


class Measured(NamedTuple):
    """The figures of one run; None for those that it has not reached."""

    at_steps: float | None  # return at the budget of environment steps
    at_seconds: float | None  # return at the training time that all runs of the task are compared at
    steps_to_target: float | None  # None if the target is not reached within the budget
    seconds_to_target: float | None


class Estimate(NamedTuple):
    """A mean over seeds."""

    count: int
    mean: float
    interval: Interval | None  # Student's t interval of `CONFIDENCE`; None for fewer than two values


def estimate(values: Sequence[float]) -> Estimate:
    """Returns the mean of at least one value and its interval."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(count, mean, None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * stats.sem(values))
    return Estimate(count, mean, Interval(mean - half, mean + half))


def value_at(curve: Curve, column: str, axis: str, x: float) -> float | None:
    """Returns the value of a column at `x` between two points, interpolated; None beyond the first and last point."""
    places = curve.points[axis]
    if not places or not places[0] <= x <= places[-1]:
        return None
    return float(np.interp(x, places, curve.points[column]))


def first_crossing(curve: Curve, target: float) -> tuple[float, float] | None:
    """Returns the environment steps and seconds at which a curve first has the return `target`; None if it never does.

    Between two points the curve is a straight line.
    """
    returns = curve.points["eval_fitness"]
    for index, value in enumerate(returns):
        if value >= target:
            before = max(0, index - 1)
            share = (target - returns[before]) / (value - returns[before]) if index else 1.0
            columns = (curve.points[axis] for axis in AXES)
            steps, seconds = (x[before] + share * (x[index] - x[before]) for x in columns)
            return steps, seconds
    return None


def seconds_of(curves: Sequence[Curve], budget: float) -> float | None:
    """Returns the least training time in which one of the curves reaches the budget [s]; None if none does."""
    return min(
        (s for curve in curves if (s := value_at(curve, "elapsed", "env_steps", budget)) is not None), default=None
    )


def measure(curve: Curve, *, budget: float, seconds: float | None, target: float | None) -> Measured:
    """Returns the figures of a run.

    Args:
        curve: Its curve.
        budget: Environment steps.
        seconds: Training time; None if no run has reached the budget.
        target: Return; None if the task has none.
    """
    crossing = None if target is None else first_crossing(curve, target)
    crossing = crossing if crossing and crossing[0] <= budget else (None, None)
    at_seconds = None if seconds is None else value_at(curve, "eval_fitness", "elapsed", seconds)
    return Measured(value_at(curve, "eval_fitness", "env_steps", budget), at_seconds, *crossing)


class Comparison(NamedTuple):
    """The runs of one task."""

    task: str
    budget: float  # environment steps
    seconds: float | None  # training time, from `seconds_of`
    methods: dict[str, dict[int, Measured]]  # method -> seed -> figures
    short: list[Curve]  # runs that have not reached the budget


def compare(curves: Sequence[Curve], study: Study) -> list[Comparison]:
    """Returns the comparison of every task that has a budget and curves."""
    comparisons = []
    for task, budget in study.budget.items():
        here = [curve for curve in curves if curve.task == task]
        if not here:
            continue
        seconds, target = seconds_of(here, budget), study.target.get(task)
        methods: dict[str, dict[int, Measured]] = {}
        for curve in here:
            figures = measure(curve, budget=budget, seconds=seconds, target=target)
            methods.setdefault(curve.method, {})[curve.seed] = figures
        short = [curve for curve in here if methods[curve.method][curve.seed].at_steps is None]
        comparisons.append(Comparison(task, budget, seconds, methods, short))
    return comparisons


def differences(runs: Mapping[int, Measured], reference: Mapping[int, Measured], figure: str) -> list[float]:
    """Returns the differences in a figure by seed, for the seeds for which both methods have it."""
    pairs = [(getattr(runs[seed], figure), getattr(reference[seed], figure)) for seed in sorted({*runs} & {*reference})]
    return [one - other for one, other in pairs if one is not None and other is not None]


_MILLION = 1e6
_TEXTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "at_steps": ("return at equal steps", fitness),
    "at_seconds": ("return at equal time", fitness),
    "steps_to_target": ("steps to the target", lambda x: f"{x / _MILLION:,.1f}M"),
    "seconds_to_target": ("time to the target", lambda x: f"{x:,.0f} s"),
}
"""Head of the column of a figure, and the text of its values."""


def to_markdown(study: Study, curves: Sequence[Curve]) -> str:
    """Returns the report of a study.

    Raises:
        ConfigError: No curve is of a task that has a budget, or none has a point yet.
    """
    comparisons = compare(curves, study)
    if not any(curve.points["generation"] for curve in curves if curve.task in study.budget):
        tasks = ", ".join(study.budget)
        raise ConfigError(
            f"{study.name}: no run of {tasks} has a generation yet. Name other sources, or run the study."
        )
    without = sorted({curve.task for curve in curves} - {*study.budget})
    lines = [f"# {study.name}", ""]
    lines += [
        f"Return: evaluation fitness, the mean of the last {EVERY} generations, interpolated between every {EVERY}th. "
        f"Figures are means over seeds, with Student's {LEVEL} interval. Runs that have not reached a budget do not "
        "count at it, and the number of those that have is given. Steps and time to the target have a mean only if all "
        "seeds reach it within the budget of steps."
    ]
    for comparison in comparisons:
        lines += ["", *_section(comparison, study)]
    if without:
        lines += ["", f"Left out, because {study.name} has no budget for them: {', '.join(without)}."]
    return "\n".join(lines) + "\n"


def _section(comparison: Comparison, study: Study) -> list[str]:
    """Returns the lines of one task."""
    task, methods = comparison.task, comparison.methods
    million = _TEXTS["steps_to_target"][1]
    facts = [f"Budget: {million(comparison.budget)} environment steps"]
    if comparison.seconds is not None:
        facts.append(f"equal time: {comparison.seconds:,.0f} s, the least in which a run reached the budget")
    for name, values in (("target", study.target), ("the paper's final return", study.paper)):
        facts += [f"{name}: {fitness(values[task])}"] if task in values else []
    head = [name for name, _ in _TEXTS.values()]
    lines = [f"## {task}", "", "; ".join(facts) + ".", "", *_head(["method", "seeds", *head])]
    for method, runs in methods.items():
        cells = [_cell([getattr(run, figure) for run in runs.values()], figure) for figure in _TEXTS]
        lines.append(f"| {' | '.join([method, ', '.join(map(str, sorted(runs))), *cells])} |")
    reference, *others = methods
    if others:
        lines += ["", f"Differences from {reference}, run by run with the same seed:", "", *_head(["method", *head])]
        for method in others:
            cells = [_difference(differences(methods[method], methods[reference], figure), figure) for figure in _TEXTS]
            lines.append(f"| {' | '.join([method, *cells])} |")
    if comparison.short:
        lines += [
            "",
            "These runs have not reached the budget; `evoconn resume RUN_DIR --generations N` extends them:",
            "",
        ]
        budget = million(comparison.budget)
        lines += [f"- {x.method}, seed {x.seed}: {million(x.env_steps)} of {budget} steps" for x in comparison.short]
    return lines


def _head(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def _cell(values: Sequence[float | None], figure: str) -> str:
    """Returns the mean of the known values, its interval, and how many are known if not all are."""
    known = [value for value in values if value is not None]
    some = f"{len(known)} of {len(values)} seeds"
    if len(known) == len(values):
        return _text(estimate(known), _TEXTS[figure][1])
    return (
        some if not known or figure.endswith("_to_target") else f"{_text(estimate(known), _TEXTS[figure][1])}, {some}"
    )


def _difference(values: Sequence[float], figure: str) -> str:
    if not values:
        return MISSING_FIGURE
    text, seeds = _TEXTS[figure][1], f"{len(values)} seed{'s' * (len(values) > 1)}"
    return f"{_text(estimate(values), lambda x: ('+' if x > 0 else '') + text(x))}, {seeds}"


def _text(value: Estimate, text: Callable[[float], str]) -> str:
    between = f" ({text(value.interval.low)} to {text(value.interval.high)})" if value.interval else ""
    return text(value.mean) + between


@own_settings()
def draw(study: Study, curves: Sequence[Curve], axis: str) -> Figure:
    """Returns returns over steps or time, with one panel per task and one line per method.

    Args:
        study: Study with a budget for the tasks.
        curves: Curves of these tasks and perhaps others; some of these tasks have points.
        axis: Key of `AXES`.
    """
    begun = [curve for curve in curves if curve.points["generation"]]
    comparisons = compare(begun, study)
    methods = list(dict.fromkeys(curve.method for curve in curves))
    figure, panels = make_figure([comparison.task for comparison in comparisons])
    for panel, comparison in zip(panels, comparisons, strict=True):
        for method in comparison.methods:
            runs = [curve for curve in begun if (curve.task, curve.method) == (comparison.task, method)]
            _draw_method(panel, runs, axis, methods.index(method))
        limit = comparison.budget if axis == "env_steps" else comparison.seconds
        if limit is not None:
            panel.axvline(limit, color=FAINT, linewidth=1.0, linestyle=":", zorder=0)
        if comparison.task in study.target:
            panel.axhline(study.target[comparison.task], color=FAINT, linewidth=1.0, linestyle=":", zorder=0)
        note = "mean and range over seeds, where all of them have data"
        label_axes(panel, AXES[axis], "evaluation fitness", note=note, legend=False)
        if axis == "env_steps":
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    add_shared_legend(figure)
    return figure


def _draw_method(panel: Axes, runs: Sequence[Curve], axis: str, index: int) -> None:
    """Draws the mean of the runs and their range, between the latest start and the earliest end."""
    start, end = max(run.points[axis][0] for run in runs), min(run.points[axis][-1] for run in runs)
    x = np.unique([place for run in runs for place in run.points[axis] if start <= place <= end])
    values = np.stack([np.interp(x, run.points[axis], run.points["eval_fitness"]) for run in runs])
    seeds = f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0].seed}"
    label, (low, high) = f"{runs[0].method} ({seeds})", (values.min(axis=0), values.max(axis=0))
    draw_series(panel, x, values.mean(axis=0), low=low, high=high, index=index, label=label, marker="")
