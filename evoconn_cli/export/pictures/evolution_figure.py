"""The figure of how a connectome moved over the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evoconn_cli.drawing.canvas import COLORS, FAINT, INK, color_of, draw_series, label_axes, make_figure, own_settings
from evoconn_cli.drawing.colors import ON_WHITE
from evoconn_cli.export.analysis.evolution import agreement_with_last, changed_connections, share_excitatory
from evoconn_cli.export.analysis.statistics import Statistics
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.projections import KERNELS

_TITLES = (
    "a  Density",
    "b  Entropy of probabilities",
    "c  Saturated probabilities",
    "d  Connections that changed",
    "e  Beside random graphs",
    "f  Excitation of actions",
)
_SENDERS = {"E": ON_WHITE["E"], "I": ON_WHITE["I"], "input": ON_WHITE["+"]}
_RECEIVERS = {"E": "-", "I": "--", "output": ":"}
_MEASURES = ("reciprocity", "clustering", "modularity")


@own_settings()
def evolution_figure(connectomes: Sequence[Connectome], statistics: Sequence[Statistics]) -> Figure:
    """Returns the figure of several steps of a run.

    Args:
        connectomes: by generation.
        statistics: of each of them.
    """
    figure, panels = make_figure(_TITLES)
    generations = np.array([one.generation for one in statistics])
    _draw_densities(panels[0], generations, statistics)
    _lines(panels[1], generations, {n: [one.certainty[n].entropy for one in statistics] for n in KERNELS})
    label_axes(panels[1], "generation", "bits a connection")
    _lines(panels[2], generations, {n: [one.certainty[n].saturated for one in statistics] for n in KERNELS})
    label_axes(panels[2], "generation", "share near a bound")
    _draw_changes(panels[3], generations, connectomes)
    _draw_measures(panels[4], generations, statistics)
    _draw_actions(panels[5], generations, statistics)
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    last = connectomes[-1]
    title = (
        f"{last.config.task.name}, {last.policy} networks of {last.num_neurons} neurons, {len(statistics)} checkpoints"
    )
    figure.suptitle(title, x=0.008, ha="left", fontsize=11, color=INK)
    return figure


def _lines(panel: Axes, x: np.ndarray, series: dict[str, list[float]]) -> None:
    for index, (label, values) in enumerate(series.items()):
        y = np.array(values)
        draw_series(panel, x, y, y, y, index=index, label=label, marker=".")


def _draw_densities(panel: Axes, generations: np.ndarray, statistics: Sequence[Statistics]) -> None:
    """Draws a line for each block: its colour says what sends, its style what receives."""
    for name in statistics[0].density:
        pre, arrow, post = name.partition("->")
        if arrow:
            densities = [one.density[name] for one in statistics]
            panel.plot(
                generations, densities, color=_SENDERS[pre], linestyle=_RECEIVERS[post], linewidth=1.8, label=name
            )
    label_axes(panel, "generation", "share of possible connections")
    panel.legend(frameon=False, fontsize=8, ncols=2, handlelength=2.6)


def _draw_changes(panel: Axes, generations: np.ndarray, connectomes: Sequence[Connectome]) -> None:
    """Draws the changes since the step before, and dashed what still differs from the last step."""
    changed, agreement = changed_connections(connectomes), agreement_with_last(connectomes)
    for index, name in enumerate(KERNELS):
        color = color_of(index)
        since = [step[name] for step in changed]
        panel.plot(generations[1:], since, color=color, linewidth=2.0, marker=".", label=name)
        panel.plot(generations, [1 - step[name] for step in agreement], color=color, linewidth=1.4, linestyle="--")
    panel.plot([], [], color=FAINT, linewidth=2.0, label="since the step before")
    panel.plot([], [], color=FAINT, linewidth=1.4, linestyle="--", label="from the last step")
    label_axes(panel, "generation", "share of connections that differ")


def _draw_measures(panel: Axes, generations: np.ndarray, statistics: Sequence[Statistics]) -> None:
    panel.axhspan(-2, 2, color="#eeeeee", zorder=0)
    _lines(panel, generations, {name: [getattr(one, name).z for one in statistics] for name in _MEASURES})
    label_axes(panel, "generation", "standard deviations of random graphs", note="grey: within two")


def _draw_actions(panel: Axes, generations: np.ndarray, statistics: Sequence[Statistics]) -> None:
    shares = np.stack([share_excitatory(one) for one in statistics], axis=1)
    for share in shares:
        panel.plot(generations, share, color=COLORS[4], linewidth=1.0, alpha=0.7)
    panel.plot([], [], color=COLORS[4], linewidth=1.0, label="an action")
    panel.plot(
        generations, np.ma.masked_invalid(shares).mean(axis=0), color=COLORS[6], linewidth=2.0, marker=".", label="mean"
    )
    panel.axhline(0.5, color=FAINT, linewidth=1.0, linestyle=":")
    label_axes(panel, "generation", "excitatory share of its connections")
