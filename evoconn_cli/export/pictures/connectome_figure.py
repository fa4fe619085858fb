"""Draws the figure of a connectome: every connection, distributions over neurons, and a recorded episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator, NullFormatter
from scipy.stats import binom

from evoconn_cli.config.formats import EPISODE_PANELS, ExportOptions
from evoconn_cli.drawing.canvas import (
    FAINT,
    INK,
    add_heading,
    add_legend,
    empty_figure,
    for_print,
    label_axes,
    own_settings,
    style_panel,
)
from evoconn_cli.drawing.colors import LAYERS as LAYER_COLORS
from evoconn_cli.drawing.colors import ON_WHITE
from evoconn_cli.export.analysis.statistics import Statistics
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.pictures.panels import draw_dynamics, draw_matrix, least_pixels, strip_ratio
from evoconn_cli.export.units import LAYERS, neurons_by_type, observation_weights, recurrent_inputs, unit_labels

_WIDE = 5.0
"""Smallest width with other panels beside the matrix [inches]."""
_DASHES = (0, (1.6, 0.9))  # short, so that the legend shows two
_TITLES = {
    "a": "Connections",
    "b": "In-degree",
    "c": "Out-degree",
    "d": "Probabilities",
    "e": "Balance",
    "f": "Onto actions",
    "g": "Observations",
    "h": "Spikes",
    "i": "Rates",
    "j": "Mean currents",
}
_HEIGHTS = {"small": 1.5, "h": 1.6, "i": 0.95, "j": 1.2}
"""Heights of a row of small panels, and of the panels of an episode [inches]."""
_MOST_NAMES = 30
"""Largest number of bars that are labelled with names instead of numbers."""


@own_settings()
def connectome_figure(
    connectome: Connectome, statistics: Statistics, options: ExportOptions, episode: Episode | None = None
) -> Figure:
    """Returns the figure of one connectome.

    Args:
        connectome: Connectome with neuron types.
        statistics: Statistics of the network.
        options: Order of the neurons, width, title and panels. Chosen panels are lettered from a again; a single one
            has no letter.
        episode: Recorded episode; without one its panels are left out.
    """
    sort = options.sort
    chosen = [name for name in options.panels or _TITLES if episode is not None or name not in EPISODE_PANELS]
    figure = empty_figure(options.width, 1.0)
    figure.set_dpi(300)
    labels = unit_labels(connectome)
    observations, actions = (names if len(names) <= _MOST_NAMES else [] for names in labels)
    axes = _PanelGrid(figure, connectome, sorted(set(chosen)), most_names=max(map(len, labels))).axes
    if "a" in axes:
        draw_matrix({"recurrent": axes["a"], "input": axes["input"], "output": axes["output"]}, connectome, sort)
        _add_color_legend(axes["input"])
    recurrent, types = connectome.layers["recurrent"], neurons_by_type(connectome)
    draw: dict[str, Callable[[Axes], None]] = {
        "b": lambda panel: _draw_degrees(panel, recurrent, types, "onto a neuron"),
        "c": lambda panel: _draw_degrees(panel, recurrent.T, types, "from a neuron"),
        "d": lambda panel: _draw_probs(panel, connectome),
        "e": lambda panel: _draw_balance(panel, connectome),
        "f": lambda panel: _draw_actions(panel, statistics, actions),
        "g": lambda panel: _draw_observations(panel, connectome, observations),
    }
    for name, draw_panel in draw.items():
        if name in axes:
            draw_panel(axes[name])
    shows_episode = {name: axes[name] for name in EPISODE_PANELS if name in axes}
    if episode is not None and shows_episode:
        draw_dynamics(shows_episode, connectome, episode, sort)
    for_print(figure)
    if options.title:
        add_heading(figure, _title(connectome, statistics))
    return figure


class _PanelGrid:
    """Places the panels, and sets the height of the figure and a resolution that shows every connection.

    Attributes:
        axes: Panels by letter; the matrix is `a`, `input` and `output`.
    """

    def __init__(self, figure: Figure, connectome: Connectome, chosen: Sequence[str], *, most_names: int) -> None:
        self.axes: dict[str, Axes] = {}
        self._letters = dict(zip(chosen, "abcdefghij", strict=False)) if len(chosen) > 1 else {}
        width = figure.get_figwidth()
        small, bars = ([name for name in chosen if name in names] for names in ("bcde", "fg"))
        beside = bool(small) and "a" in chosen and width >= _WIDE
        top, side = (
            strip_ratio(size, connectome.num_neurons) for size in (connectome.observation_size, connectome.action_size)
        )
        columns = max(1, min(len(small), 2 if beside else int(width / 1.6)))
        bar_columns = max(1, min(len(bars), int(width / 2.5)))
        matrix_width = 0.52 * width if beside else width
        heights: dict[str, float] = {}
        if "a" in chosen:
            heights["a"] = matrix_width * (1 + top) / (1 + side)
            figure.set_dpi(max(figure.dpi, least_pixels(connectome) / (0.75 * matrix_width / (1 + side))))
        if small and not beside:
            heights["small"] = _HEIGHTS["small"] * -(-len(small) // columns)
        if bars:
            heights["bars"] = max(_HEIGHTS["small"], 0.75 + 0.105 * most_names) * -(-len(bars) // bar_columns)
        heights |= {name: _HEIGHTS[name] for name in chosen if name in EPISODE_PANELS}
        figure.set_figheight(sum(heights.values()) + 0.05)
        outer = figure.add_gridspec(len(heights), 1, height_ratios=list(heights.values()))
        for index, block in enumerate(heights):
            here = outer[index]
            if block == "a" and beside:
                left, right = here.subgridspec(1, 2, width_ratios=(1.1, 1), wspace=0.03)
                self._add_matrix(figure, left, top, side)
                self._add_grid(figure, right, small, columns)
            elif block == "a":
                self._add_matrix(figure, here, top, side)
            elif block == "small":
                self._add_grid(figure, here, small, columns)
            elif block == "bars":
                self._add_grid(figure, here, bars, bar_columns)
            else:
                self._add(figure, here, block)

    def _add(self, figure: Figure, place: SubplotSpec, name: str) -> None:
        self.axes[name] = figure.add_subplot(place)
        style_panel(self.axes[name], self._title(name))

    def _add_grid(self, figure: Figure, place: SubplotSpec, names: Sequence[str], columns: int) -> None:
        grid = place.subgridspec(-(-len(names) // columns), columns, hspace=0.05, wspace=0.04)
        for index, name in enumerate(names):
            self._add(figure, grid[index // columns, index % columns], name)

    def _add_matrix(self, figure: Figure, place: SubplotSpec, top: float, side: float) -> None:
        inner = place.subgridspec(2, 2, height_ratios=(top, 1), width_ratios=(1, side), hspace=0.02, wspace=0.02)
        self.axes["a"] = figure.add_subplot(inner[1, 0])
        self.axes["input"] = figure.add_subplot(inner[0, 0])
        self.axes["output"] = figure.add_subplot(inner[1, 1])
        self.axes["input"].set_title(self._title("a"), loc="left", fontweight="bold", color=INK)

    def _title(self, name: str) -> str:
        return f"{self._letters[name]}  {_TITLES[name]}" if self._letters else _TITLES[name]


def _add_color_legend(panel: Axes) -> None:
    """Adds the legend of the colours of the matrix."""
    for name, text in (("E", "from E"), ("I", "from I"), ("+", "x"), ("-", "−x")):
        panel.plot([], [], "s", color=ON_WHITE[name], markersize=4, label=text)
    add_legend(panel, 4)


def _draw_degrees(panel: Axes, connections: np.ndarray, types: Mapping[str, np.ndarray], x: str) -> None:
    """Draws the distribution of degrees per neuron type, and the one expected from independent connections.

    Args:
        panel: Panel to draw in.
        connections: `[:, N]` bool; the degree of a neuron is the number in its column.
        types: `[N]` masks of the neurons by type.
        x: What a degree counts.
    """
    degrees, num_neurons = connections.sum(axis=0), len(connections)
    spread = np.subtract(*np.percentile(degrees, (75, 25)))
    width = max(1, round(2 * spread / num_neurons ** (1 / 3)))  # Freedman and Diaconis 1981, in whole numbers
    edges = np.arange(degrees.min() - 2 * width, degrees.max() + 3 * width, width) - 0.5
    for name, chosen in types.items():
        color, (counts, _) = ON_WHITE[name], np.histogram(degrees[chosen], edges)
        panel.stairs(counts, edges, fill=True, color=color, alpha=0.3, linewidth=0)
        panel.stairs(counts, edges, color=color, linewidth=1.4, label=name)
        expected = chosen.sum() * np.diff(binom.cdf(edges, num_neurons, float(connections[:, chosen].mean())))
        panel.plot((edges[:-1] + edges[1:]) / 2, expected, color=color, linewidth=1.6, linestyle=_DASHES)
    panel.plot([], [], color=FAINT, linewidth=1.6, linestyle=_DASHES, label="chance")
    label_axes(panel, x, "neurons", legend_columns=3)


def _draw_probs(panel: Axes, connectome: Connectome) -> None:
    edges = np.linspace(0, 1, 41)
    for name in LAYERS:
        probs = connectome.probs[name]
        shares = np.histogram(probs, edges)[0] / probs.size
        # Empty bins are gaps, and there is no baseline, because a logarithmic axis has no 0.
        shown = np.where(shares > 0, shares, np.nan)
        panel.stairs(shown, edges, baseline=None, color=LAYER_COLORS[name], linewidth=1.2, label=name)
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    panel.yaxis.set_minor_formatter((lambda value, _: f"{100 * value:.2g}%") if high < 10 * low else NullFormatter())
    panel.axvline(0.5, color=FAINT, linewidth=1.0, linestyle=":")
    label_axes(panel, "probability", "connections", legend_columns=2)


def _draw_balance(panel: Axes, connectome: Connectome) -> None:
    """Draws each neuron by the numbers of excitatory and inhibitory connections onto it."""
    onto = recurrent_inputs(connectome)
    for name, chosen in neurons_by_type(connectome).items():
        panel.scatter(onto[0][chosen], onto[1][chosen], s=6, color=ON_WHITE[name], alpha=0.7, linewidths=0, label=name)
    low, high = min(map(np.min, onto)), max(map(np.max, onto))
    panel.plot([low, high], [low, high], color=FAINT, linewidth=1.0, linestyle=":", zorder=1)
    label_axes(panel, "connections from E", "from I", legend_columns=2)


def _draw_actions(panel: Axes, statistics: Statistics, labels: Sequence[str]) -> None:
    actions = np.arange(len(statistics.onto_actions))
    for name, sign in (("E", 1), ("I", -1)):
        counts = [sign * action[name] for action in statistics.onto_actions]
        panel.barh(actions, counts, color=ON_WHITE[name], height=0.8, label=name)
    net = [action["E"] - action["I"] for action in statistics.onto_actions]
    panel.plot(net, actions, "|", color=INK, markersize=6, markeredgewidth=1.2, label="E less I")
    _mirror_axes(panel, len(actions), labels)
    label_axes(panel, "connections", "" if labels else "action", legend_columns=3)


def _draw_observations(panel: Axes, connectome: Connectome, labels: Sequence[str]) -> None:
    weights = observation_weights(connectome)
    observations = np.arange(len(weights))
    for name, sign, text in (("+", 1, "x"), ("-", -1, "−x")):
        counts = sign * (weights == sign).sum(axis=1)
        panel.barh(observations, counts, color=ON_WHITE[name], height=0.8 if len(weights) < 60 else 1.0, label=text)
    _mirror_axes(panel, len(weights), labels)
    label_axes(panel, "neurons acted on", "" if labels else "observation", legend_columns=2)


def _mirror_axes(panel: Axes, num_bars: int, labels: Sequence[str]) -> None:
    """Sets up the axes of bars that show counts to the left and to the right of 0."""
    panel.axvline(0, color=INK, linewidth=0.8)
    panel.grid(False)
    panel.set_ylim(num_bars - 0.4, -0.6)
    panel.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    if labels:
        panel.set_yticks(range(num_bars), labels)
    else:
        panel.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _title(connectome: Connectome, statistics: Statistics) -> str:
    sizes, policy = statistics.sizes, statistics.policy
    drawn = "" if policy == "deterministic" else f", {policy}"
    return (
        f"{connectome.config.task.name}, generation {statistics.generation}{drawn}: {sizes['neurons']} neurons "
        f"({sizes['excitatory']} E, {sizes['inhibitory']} I), {sizes['recurrent_connections']:,} recurrent connections"
    )
