"""How the return falls with the strength of a perturbation, as a curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from evoconn_cli.config.perturbations import KINDS, setting_text
from evoconn_cli.drawing.canvas import draw_series, label_axes, make_figure
from evoconn_cli.runs.evaluation.comparison import compare
from evoconn_cli.runs.evaluation.evaluating import Evaluated
from evoconn_cli.runs.evaluation.statistics import CONFIDENCE, Interval


class _Point(NamedTuple):
    strength: float
    iqm: float
    interval: Interval | None


def sweep_figure(evaluated: Sequence[Evaluated], swept: str, seed: int) -> Figure:
    """Returns the interquartile mean against the values of `swept`, a panel for each task.

    Several runs of a strategy and network are one line, whose band is the interval over runs; the band of a single run
    is the interval over its episodes.

    Args:
        evaluated: of all runs and settings.
        swept: the perturbation that has several values.
        seed: of the bootstrap.
    """
    tasks = sorted({one.opened.config.task.name for one in evaluated})
    figure, panels = make_figure(tasks)
    kind = KINDS[swept]
    for panel, task in zip(panels, tasks, strict=True):
        lines = _lines([one for one in evaluated if one.opened.config.task.name == task], swept, seed)
        for index, (label, points) in enumerate(lines.items()):
            points = sorted(points)
            low, high = zip(*[point.interval or (point.iqm, point.iqm) for point in points], strict=True)
            draw_series(
                panel,
                np.asarray([point.strength for point in points]),
                np.asarray([point.iqm for point in points]),
                np.asarray(low),
                np.asarray(high),
                index=index,
                label=label,
                marker="o",
            )
        strengths = [point.strength for points in lines.values() for point in points]
        if min(strengths) < kind.neutral < max(strengths):
            panel.axvline(kind.neutral, color="#9a9a9a", linewidth=1.0, linestyle=":", label="as trained", zorder=0)
        note = f"interquartile mean, {100 * CONFIDENCE:.0f} % bootstrap interval"
        if also := setting_text(evaluated[0].setting, without=swept):
            note = f"{note}; with {also}"
        label_axes(panel, kind.label, "return of an episode", note=note)
    return figure


def _lines(evaluated: Sequence[Evaluated], swept: str, seed: int) -> dict[str, list[_Point]]:
    """Returns the points of every line by its label: groups of runs where there are any, and single runs."""
    lines: dict[str, list[_Point]] = {}
    together = set()
    for group in compare(evaluated, {}, seed):
        label = f"{group.algo}, {group.network}, {group.num_neurons} neurons ({sum(group.runs.values())} runs)"
        lines.setdefault(label, []).append(_Point(group.setting[swept], group.iqm, group.interval))
        together.add((group.algo, group.network, group.num_neurons))
    for one in evaluated:
        config, returns = one.opened.config, one.returns
        name = config.algo.name, config.network.name, config.network.num_neurons
        if name in together:
            continue
        where = f"{one.opened.directory.short_path()} at {one.opened.generation}"
        label = f"{name[0]}, {name[1]}, {name[2]} neurons\n{where}"
        lines.setdefault(label, []).append(_Point(one.setting[swept], returns.iqm, returns.iqm_interval))
    return lines
