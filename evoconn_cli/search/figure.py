"""Draws a search: the fitness of its trials in their order, and the importance of its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evoconn_cli.drawing.canvas import INK, color_of, label_axes, make_figure, own_settings
from evoconn_cli.search.study import Trial


@own_settings()
def search_figure(title: str, trials: Sequence[Trial], importance: Mapping[str, float]) -> Figure:
    """Returns the optimisation history, and beside it the importance of the keys if it is known.

    Args:
        title: Title of the history.
        trials: Trials by number; at least one has a fitness.
        importance: Share of each key.
    """
    figure, panels = make_figure([title, "importance of the keys"] if importance else [title])
    _draw_history(panels[0], trials)
    if importance:
        _draw_importance(panels[1], importance)
    return figure


def _draw_history(panel: Axes, trials: Sequence[Trial]) -> None:
    known = [(trial, trial.fitness) for trial in trials if trial.fitness is not None]
    complete = [(trial.number, fitness) for trial, fitness in known if trial.is_complete]
    pruned = [(trial.number, fitness) for trial, fitness in known if trial.is_pruned]
    if complete:
        x, y = np.asarray(complete, float).T
        panel.scatter(x, y, s=28, marker="o", color=color_of(0), label="complete", zorder=3)
        ends, best = [*x, trials[-1].number], np.maximum.accumulate(y)
        panel.step(ends, [*best, best[-1]], where="post", color=color_of(2), linewidth=1.5, label="best so far")
    if pruned:
        x, y = np.asarray(pruned, float).T
        panel.scatter(x, y, s=28, marker="x", color=color_of(1), label="pruned, as last compared", zorder=3)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(panel, "trial", "evaluation fitness")


def _draw_importance(panel: Axes, importance: Mapping[str, float]) -> None:
    names = list(importance)[::-1]
    shares = [importance[name] for name in names]
    panel.barh(range(len(names)), shares, color=color_of(0), height=0.6)
    panel.set_yticks(range(len(names)), names, parse_math=False)
    panel.grid(visible=False, axis="y")
    for y, share in enumerate(shares):
        panel.text(share, y, f" {share:.0%}", va="center", fontsize=9, color=INK)
    panel.set_xlim(0, max(shares) * 1.18)
    panel.set_xlabel("share (PED-ANOVA, complete trials)", fontsize=10, color=INK)
