"""The figure of a connectome: every connection, and the distributions of what they add up to."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binom

from evoconn_cli.drawing.canvas import FAINT, INK, color_of, empty_figure, label_axes, own_settings, style_panel
from evoconn_cli.drawing.colors import ON_WHITE
from evoconn_cli.export.analysis.statistics import Measure, Statistics
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.pictures.matrix import draw_matrix, least_pixels, strip_ratio
from evoconn_cli.export.projections import KERNELS, neurons_by_type, observation_weights, recurrent_inputs

_SIZE = (15.0, 8.6)
_LEAST_SIDE = 5.5
"""Of the square of recurrent connections, with the thickest strips beside it [inches]."""
_DASHES = (0, (1.6, 0.9))  # short, so that the legend shows two


@own_settings()
def connectome_figure(connectome: Connectome, statistics: Statistics, sort: str) -> Figure:
    """Returns the figure of one connectome.

    Args:
        connectome: of a network with neuron types.
        statistics: of it.
        sort: order of the neurons within a type, as in `neuron_order`.
    """
    figure = empty_figure(*_SIZE)
    figure.set_dpi(max(figure.dpi, least_pixels(connectome) / _LEAST_SIDE))
    matrix, panels = _panels(figure, connectome)
    draw_matrix(matrix, connectome, sort)
    recurrent = connectome.kernels["recurrent"]
    types = neurons_by_type(connectome)
    _draw_degrees(panels["in"], recurrent.sum(axis=0), types, {n: recurrent[:, c].mean() for n, c in types.items()})
    _draw_degrees(panels["out"], recurrent.sum(axis=1), types, {n: recurrent[c].mean() for n, c in types.items()})
    _draw_probs(panels["probs"], connectome)
    _draw_balance(panels["balance"], connectome)
    _draw_actions(panels["actions"], statistics)
    _draw_observations(panels["observations"], connectome)
    label_axes(panels["in"], "recurrent connections onto a neuron", "neurons", legend=False)
    label_axes(panels["out"], "recurrent connections from a neuron", "neurons", legend=False)
    for name, columns in {"in": 3, "out": 3, "actions": 1, "observations": 2}.items():
        _add_legend(panels[name], columns)
    figure.suptitle(_title(connectome, statistics), x=0.012, ha="left", fontsize=11, color=INK, linespacing=1.5)
    return figure


def _panels(figure: Figure, connectome: Connectome) -> tuple[dict[str, Axes], dict[str, Axes]]:
    left, right = figure.add_gridspec(1, 2, width_ratios=(1.12, 1), wspace=0.03)
    num_neurons = connectome.num_neurons
    top, side = (strip_ratio(n, num_neurons) for n in (connectome.observation_size, connectome.action_size))
    inner = left.subgridspec(2, 2, height_ratios=(top, 1), width_ratios=(1, side), hspace=0.02, wspace=0.02)
    matrix = {"recurrent": figure.add_subplot(inner[1, 0])}
    matrix["input"] = figure.add_subplot(inner[0, 0])
    matrix["output"] = figure.add_subplot(inner[1, 1])
    matrix["input"].set_title("a  Connections", loc="left", fontsize=12, fontweight="bold", color=INK)
    titles = {
        "in": "b  In-degree",
        "out": "c  Out-degree",
        "probs": "d  Probabilities",
        "balance": "e  Onto each neuron",
        "actions": "f  Onto actions",
        "observations": "g  Observations",
    }
    grid = right.subgridspec(3, 2, hspace=0.05, wspace=0.04)
    panels = {}
    for index, (name, title) in enumerate(titles.items()):
        panels[name] = figure.add_subplot(grid[index // 2, index % 2])
        style_panel(panels[name], title)
    return matrix, panels


def _add_legend(panel: Axes, columns: int) -> None:
    """Puts the legend beside the title, where it hides nothing."""
    panel.legend(
        loc="lower right", bbox_to_anchor=(1.0, 0.985), ncols=columns, borderpad=0.2, handlelength=0.9,
        columnspacing=0.6, handletextpad=0.3, frameon=False, fontsize=9, labelcolor=INK,
    )  # fmt: skip


def _draw_degrees(
    panel: Axes, degrees: np.ndarray, types: dict[str, np.ndarray], density: dict[str, np.floating]
) -> None:
    """Draws how many neurons of each type have which degree, and what independent connections would give."""
    num_neurons = len(degrees)
    width = max(1, round(np.sqrt(num_neurons) / 8))
    edges = np.arange(degrees.min() - 2 * width, degrees.max() + 3 * width, width) - 0.5
    for name, chosen in types.items():
        color, (counts, _) = ON_WHITE[name], np.histogram(degrees[chosen], edges)
        panel.stairs(counts, edges, fill=True, color=color, alpha=0.3, linewidth=0)
        panel.stairs(counts, edges, color=color, linewidth=1.4, label=name)
        expected = chosen.sum() * np.diff(binom.cdf(edges, num_neurons, float(density[name])))
        panel.plot((edges[:-1] + edges[1:]) / 2, expected, color=color, linewidth=1.6, linestyle=_DASHES)
    panel.plot([], [], color=FAINT, linewidth=1.6, linestyle=_DASHES, label="chance")


def _draw_probs(panel: Axes, connectome: Connectome) -> None:
    edges = np.linspace(0, 1, 41)
    for index, name in enumerate(KERNELS):
        probs = connectome.probs[name]
        shares = np.histogram(probs, edges)[0] / probs.size
        panel.stairs(shares, edges, color=color_of(index), linewidth=1.6, label=name)
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    panel.axvline(0.5, color=FAINT, linewidth=1.0, linestyle=":")
    label_axes(panel, "probability of a connection", "connections")


def _draw_balance(panel: Axes, connectome: Connectome) -> None:
    """Draws each neuron by the excitatory and inhibitory connections onto it."""
    onto = recurrent_inputs(connectome)
    for name, chosen in neurons_by_type(connectome).items():
        panel.scatter(onto[0][chosen], onto[1][chosen], s=14, color=ON_WHITE[name], alpha=0.7, linewidths=0)
    low, high = min(map(np.min, onto)), max(map(np.max, onto))
    panel.plot([low, high], [low, high], color=FAINT, linewidth=1.0, linestyle=":", zorder=1)
    label_axes(panel, "excitatory connections onto it", "inhibitory ones", legend=False)


def _draw_actions(panel: Axes, statistics: Statistics) -> None:
    actions = np.arange(len(statistics.onto_actions))
    for name, sign in (("E", 1), ("I", -1)):
        counts = [sign * action[name] for action in statistics.onto_actions]
        panel.bar(actions, counts, color=ON_WHITE[name], width=0.8)
    net = [action["E"] - action["I"] for action in statistics.onto_actions]
    panel.plot(actions, net, "_", color=INK, markersize=9, markeredgewidth=2, label="E less I")
    _mirror_axes(panel, len(actions))
    label_axes(panel, "action", "connections", legend=False)


def _draw_observations(panel: Axes, connectome: Connectome) -> None:
    weights = observation_weights(connectome)
    observations = np.arange(len(weights))
    for name, sign, text in (("+", 1, "x"), ("-", -1, "−x")):
        counts = sign * (weights == sign).sum(axis=1)
        panel.bar(observations, counts, color=ON_WHITE[name], width=0.8 if len(weights) < 60 else 1.0, label=text)
    _mirror_axes(panel, len(weights))
    label_axes(panel, "observation", "neurons acted on", legend=False)


def _mirror_axes(panel: Axes, num_bars: int) -> None:
    """Sets up the axes of bars that go up and down from 0 and are counts both ways."""
    panel.axhline(0, color=INK, linewidth=0.8)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.set_xlim(-0.6, num_bars - 0.4)
    panel.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")


def _title(connectome: Connectome, statistics: Statistics) -> str:
    sizes = statistics.sizes
    first = (
        f"{connectome.config.task.name}, generation {statistics.generation}, {statistics.policy} network: "
        f"{sizes['neurons']} neurons ({sizes['excitatory']} E, {sizes['inhibitory']} I), "
        f"{sizes['recurrent_connections']:,} recurrent connections, density {statistics.density['recurrent']:.3f}; "
        "in brackets: random graphs of the same degrees"
    )
    measures = {
        "reciprocity": statistics.reciprocity,
        "clustering": statistics.clustering,
        "path length": statistics.path_length,
        "modularity": statistics.modularity,
    }
    compared = ", ".join(f"{name} {_beside_random(measure)}" for name, measure in measures.items())
    return f"{first}\n{compared}"


def _beside_random(measure: Measure) -> str:
    return f"{measure.value:.4f} ({measure.random_mean:.4f} ± {measure.random_std:.4f})"
