"""How the return changes with the strength of a perturbation, or over training, as a curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evoconn_cli.config.perturbations import KINDS, setting_text
from evoconn_cli.drawing.canvas import draw_series, label_axes, make_figure, own_settings
from evoconn_cli.runs.evaluation.comparison import compare, group_runs, sample_text
from evoconn_cli.runs.evaluation.evaluating import Evaluated
from evoconn_cli.runs.evaluation.statistics import CONFIDENCE, Interval


class _Point(NamedTuple):
    x: float
    iqm: float
    interval: Interval | None


@own_settings()
def curve_figure(evaluated: Sequence[Evaluated], swept: str | None, seed: int) -> Figure:
    """Returns the interquartile mean against the values of `swept`, or else the generation, a panel for each task.

    Several runs of a strategy, network and size are one line, whose band is the interval over runs; the band of a
    single run is the interval over its episodes.

    Args:
        evaluated: of all runs, checkpoints and settings.
        swept: the perturbation that has several values, None for a curve over checkpoints.
        seed: of the bootstrap.
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
            low, high = zip(*[point.interval or (point.iqm, point.iqm) for point in points], strict=True)
            draw_series(
                panel,
                np.asarray([point.x for point in points]),
                np.asarray([point.iqm for point in points]),
                np.asarray(low),
                np.asarray(high),
                index=index,
                label=label,
                marker="o",
            )
        if swept is not None:
            _mark_as_trained(panel, swept, [point.x for points in lines.values() for point in points])
        else:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        note = f"interquartile mean, {100 * CONFIDENCE:.0f} % bootstrap interval"
        if also := setting_text(evaluated[0].setting, without=swept):
            note = f"{note}; with {also}"
        label_axes(panel, KINDS[swept].label if swept else "generation", "return of an episode", note=note)
    return figure


def _mark_as_trained(panel: Axes, swept: str, strengths: Sequence[float]) -> None:
    unchanged = KINDS[swept].neutral
    if min(strengths) < unchanged < max(strengths):
        panel.axvline(unchanged, color="#9a9a9a", linewidth=1.0, linestyle=":", label="as trained", zorder=0)


def _lines(
    groups: Sequence[Sequence[Evaluated]], more: Sequence[str], swept: str | None, seed: int, *, several_steps: bool
) -> dict[str, list[_Point]]:
    """Returns the points of every line by its label; `more` tells groups of one strategy, network and size apart."""
    lines: dict[str, list[_Point]] = {}
    for group, text in zip(groups, more, strict=True):
        first = group[0]
        config, generation = first.opened.config, first.opened.generation
        x = float(generation) if swept is None else first.setting[swept]
        label = f"{config.algo.name}, {config.network.name}, {config.network.num_neurons} neurons"
        label += f", {text}" if text else ""
        at = f" at {generation}" if swept is not None else ""
        if len(group) == 1:
            label += f"\n{first.opened.directory.short_path()}{at}"
            point = _Point(x, first.returns.iqm, first.returns.iqm_interval)
        else:
            (together,) = compare(group, {}, seed)
            label += f" ({len(group)} runs{at if several_steps else ''})"
            point = _Point(x, together.iqm, together.interval)
        lines.setdefault(label, []).append(point)
    return lines
