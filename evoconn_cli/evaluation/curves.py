"""Draws returns over training, and over the strength of a perturbation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from evoconn_cli.config.perturbations import KINDS, setting_text
from evoconn_cli.config.schema import RunConfig, what_seeds_share
from evoconn_cli.drawing.canvas import color_of, draw_series, label_axes, make_figure, own_settings
from evoconn_cli.errors import NothingYetError, unknown_name
from evoconn_cli.evaluation.comparison import compare, differing_keys, group_runs, grouped, sample_text
from evoconn_cli.evaluation.evaluating import Evaluated
from evoconn_cli.evaluation.opened import kind_of
from evoconn_cli.evaluation.statistics import LEVEL, Interval
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import MetricsLine, read_metrics

X_AXES = {"generations": "generation", "env-steps": "env_steps", "time": "elapsed"}
"""Axes of `--plot-x`, and the keys of metrics.jsonl that they show."""

_POINTS = 500
"""Points of a mean over seeds, at most."""

_TIME_UNITS = ((3600.0 * 4, 3600.0, "h"), (60.0 * 4, 60.0, "min"), (0.0, 1.0, "s"))
"""Smallest time on an axis that is shown in a unit [s], that unit [s], and its name."""


class Curve(NamedTuple):
    """The evaluation fitness of a run."""

    config: RunConfig
    lines: list[MetricsLine]  # lines with an evaluation fitness
    x: np.ndarray  # [G]
    fitness: np.ndarray  # [G]
    group: str = ""  # the runs of a group are its seeds; if empty, configurations decide


def read_curve(directory: RunDirectory, x_axis: str, group: str = "") -> Curve:
    """Returns the learning curve of a run.

    Args:
        directory: Run directory.
        x_axis: Key of `X_AXES`.
        group: Name of the runs that differ only in their seed; by default their configurations decide.

    Raises:
        ConfigError: The axis is unknown or the configuration is invalid.
        NothingYetError: There is nothing to draw yet.
    """
    if x_axis not in X_AXES:
        raise unknown_name("--plot-x", x_axis, X_AXES)
    key = X_AXES[x_axis]
    lines = [
        line
        for line in read_metrics(directory.metrics_file)
        if line.get("eval_fitness") is not None and line.get(key) is not None
    ]
    if not lines:
        raise NothingYetError(
            f"the run {directory.short_path()} has no generation with an evaluation fitness yet, so there is no "
            "learning curve. Leave it out."
        )
    return Curve(
        directory.read_config(),
        lines,
        np.asarray([line[key] for line in lines], float),
        np.asarray([line["eval_fitness"] for line in lines], float),
        group,
    )


@own_settings()
def learning_figure(curves: Sequence[Curve], x_axis: str) -> Figure:
    """Returns the learning curves of runs by group, with one panel per task.

    The runs of a group are its seeds: each is a thin line, and their mean has a band of one standard deviation where
    all of them have data.

    Args:
        curves: Curves of the runs, all with the same axis.
        x_axis: That axis, a key of `X_AXES`.
    """
    curves = distinct_curves(_named(curves))
    tasks = sorted({curve.config.task.name for curve in curves})
    figure, panels = make_figure(tasks)
    order = {group: index for index, group in enumerate(_by_group(curves))}
    scale, x_label = _unit(x_axis, max(float(curve.x[-1]) for curve in curves))
    for panel, task in zip(panels, tasks, strict=True):
        here = [curve for curve in curves if curve.config.task.name == task]
        if len(here) == 1:
            _draw_one(panel, here[0], scale)
        else:
            _draw_groups(panel, here, scale, order)
        several = any(len(group) > 1 for group in _by_group(here).values())
        note = "mean over seeds, ± one standard deviation" if several else ""
        label_axes(panel, x_label, "fitness" if len(here) == 1 else "evaluation fitness", note=note)
        if x_axis == "env-steps":
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        elif x_axis == "generations":
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _draw_one(panel: Axes, curve: Curve, scale: float) -> None:
    """Draws a single run with its population, to show how much the members differ."""
    mean = np.asarray([line.get("fitness_mean") for line in curve.lines], float)  # None is NaN
    std = np.asarray([line.get("fitness_std") for line in curve.lines], float)
    x = curve.x / scale
    label = f"evaluation copies ({curve.group})"
    draw_series(panel, x, curve.fitness, low=curve.fitness, high=curve.fitness, index=0, label=label, marker="")
    panel.fill_between(x, mean - std, mean + std, color=color_of(5), alpha=0.2, linewidth=0, zorder=1)
    panel.plot(x, mean, color=color_of(5), linewidth=1.5, zorder=1.5, label="population, mean ± standard deviation")


def _draw_groups(panel: Axes, curves: Sequence[Curve], scale: float, order: Mapping[str, int]) -> None:
    for group, members in _by_group(curves).items():
        index = order[group]
        if len(members) == 1:
            (only,) = members
            x, mean, std = only.x / scale, only.fitness, np.zeros_like(only.fitness)
        else:
            for curve in members:
                panel.plot(curve.x / scale, curve.fitness, color=color_of(index), linewidth=0.7, alpha=0.45)
            x, mean, std = _mean_and_std(members)
            x = x / scale
        seeds = f"{len(members)} seeds" if len(members) > 1 else "1 run"
        label = f"{group} ({seeds})"
        draw_series(panel, x, mean, low=mean - std, high=mean + std, index=index, label=label, marker="")


def _mean_and_std(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns x, mean and sample standard deviation where all curves have data."""
    start, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    x = x[(x >= start) & (x <= end)]
    if len(x) > _POINTS:
        x = np.linspace(start, end, _POINTS)
    values = np.stack([np.interp(x, curve.x, curve.fitness) for curve in curves])
    return x, values.mean(axis=0), values.std(axis=0, ddof=1)


def distinct_curves(curves: Sequence[Curve]) -> list[Curve]:
    """Returns one curve per run: the longest of those with the same configuration and seed."""
    longest: dict[tuple, Curve] = {}
    for curve in curves:
        config = curve.config
        run = (config.task.name, config.seed, *what_seeds_share(config).items())
        longest[run] = max(longest.get(run, curve), curve, key=lambda one: len(one.x))
    return list(longest.values())


def _by_group(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    return grouped(curves, lambda curve: curve.group)


def _named(curves: Sequence[Curve]) -> list[Curve]:
    """Returns the curves with a group for those that have none.

    Its name has the strategy, the network, and the keys in which runs of one task, strategy and network differ.
    """

    def kind_of(curve: Curve) -> tuple[str, ...]:
        return curve.config.algo.name, curve.config.network.name

    differing: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for (_, *kind), several in grouped(curves, lambda curve: (curve.config.task.name, *kind_of(curve))).items():
        differing[tuple(kind)] |= differing_keys([what_seeds_share(curve.config) for curve in several])

    def name(curve: Curve) -> str:
        shared = what_seeds_share(curve.config)
        settings = [f"{key.rpartition('.')[2]}={shared[key]}" for key in sorted(differing[kind_of(curve)])]
        return " ".join([", ".join(kind_of(curve)), *settings])

    return [curve if curve.group else curve._replace(group=name(curve)) for curve in curves]


def _unit(x_axis: str, largest: float) -> tuple[float, str]:
    if x_axis == "generations":
        return 1.0, "generation"
    if x_axis == "env-steps":
        return 1.0, "environment steps"
    _, scale, unit = next(entry for entry in _TIME_UNITS if largest >= entry[0])
    return scale, f"training time [{unit}]"


class _Point(NamedTuple):
    x: float
    iqm: float
    interval: Interval | None


@own_settings()
def curve_figure(evaluated: Sequence[Evaluated], swept: str | None, seed: int) -> Figure:
    """Returns the interquartile mean against the values of `swept`, or the generation, with one panel per task.

    Several runs of a strategy, network and size are one line, whose band is the interval over runs; the band of a
    single run is the interval over its episodes.

    Args:
        evaluated: Results of all runs, checkpoints and settings.
        swept: Perturbation that has several values; None for a curve over checkpoints.
        seed: Random seed of the bootstrap.
    """
    tasks = sorted({one.opened.config.task.name for one in evaluated})
    figure, panels = make_figure(tasks)
    groups, several_steps = group_runs(evaluated), len({one.opened.generation for one in evaluated}) > 1
    for panel, task in zip(panels, tasks, strict=True):
        of_task = [[one for one in group if one.opened.config.task.name == task] for group in groups]
        of_task = [group for group in of_task if group]
        more = [sample_text(group, evaluated) for group in of_task]
        lines = _lines(of_task, more, swept, seed, several_steps=several_steps)
        for index, (label, points) in enumerate(lines.items()):
            points = sorted(points)
            x, iqm = np.asarray([(point.x, point.iqm) for point in points]).T
            low, high = np.asarray([point.interval or (point.iqm, point.iqm) for point in points]).T
            draw_series(panel, x, iqm, low=low, high=high, index=index, label=label, marker="o")
        if swept is not None:
            strengths, as_trained = [point.x for points in lines.values() for point in points], KINDS[swept].neutral
            if min(strengths) < as_trained < max(strengths):
                panel.axvline(as_trained, color="#9a9a9a", linewidth=1.0, linestyle=":", label="as trained", zorder=0)
        else:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        note = f"interquartile mean, {LEVEL} bootstrap interval"
        if also := setting_text(evaluated[0].perturbations, without=swept):
            note = f"{note}; with {also}"
        label_axes(panel, KINDS[swept].label if swept else "generation", "return of an episode", note=note)
    return figure


def _lines(
    groups: Sequence[Sequence[Evaluated]], more: Sequence[str], swept: str | None, seed: int, *, several_steps: bool
) -> dict[str, list[_Point]]:
    """Returns the points of every line by its label; `more` distinguishes groups of one strategy, network and size."""
    lines: dict[str, list[_Point]] = {}
    for group, text in zip(groups, more, strict=True):
        first = group[0]
        generation = first.opened.generation
        x = float(generation) if swept is None else first.perturbations[swept]
        label = kind_of(first.opened.config) + (f", {text}" if text else "")
        at = f" at {generation}" if swept is not None else ""
        if len(group) == 1:
            label += f"\n{first.opened.directory.short_path()}{at}"
            point = _Point(x, first.returns.iqm, first.returns.iqm_interval)
        else:
            (together,) = compare(group, {}, seed)
            label += f" ({len(group)} runs{at if several_steps else ''})"
            point = _Point(x, together.iqm, together.iqm_interval)
        lines.setdefault(label, []).append(point)
    return lines
