"""Draws panels of the connectome figure: the matrix, spikes, rates and currents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from evoconn_cli.config.formats import Sort
from evoconn_cli.drawing.canvas import FAINT, INK, add_legend
from evoconn_cli.drawing.colors import ON_WHITE
from evoconn_cli.export.analysis.dynamics import Dynamics, episode_dynamics, middle_of, neuron_order
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.units import excitatory_neurons, observation_weights

_STRIP = (0.09, 0.3)
"""Least and greatest thickness of the strips of observations and actions, relative to the recurrent network's side."""


def strip_ratio(size: int, num_neurons: int) -> float:
    """Returns the thickness of a strip of `size` observations or actions, relative to the recurrent network's side."""
    return float(np.clip(size / num_neurons, *_STRIP))


def least_pixels(connectome: Connectome) -> float:
    """Returns the pixels along the side of the recurrent network that make every connection visible.

    Each needs two, because the line between types covers one.
    """
    neurons = connectome.num_neurons
    beside = (connectome.observation_size, connectome.action_size)
    return 2 * max(neurons, *(size / strip_ratio(size, neurons) for size in beside))


def draw_matrix(panels: dict[str, Axes], connectome: Connectome, sort: Sort) -> None:
    """Draws every connection as a dot, rows pre-synaptic, columns post-synaptic.

    Args:
        panels: Panels `input`, `recurrent` and `output`; the last two share rows, the first two share columns.
        connectome: Connectome with neuron types.
        sort: Order of the neurons within a type, as in `neuron_order`.
    """
    order = neuron_order(connectome, sort)
    excitatory = excitatory_neurons(connectome)[order]
    sign = np.where(excitatory, 1, -1)
    recurrent = connectome.layers["recurrent"][np.ix_(order, order)] * sign[:, None]
    output = connectome.layers["output"][order] * sign[:, None]
    _show(panels["input"], observation_weights(connectome)[:, order], ON_WHITE["+"], ON_WHITE["-"])
    _show(panels["recurrent"], recurrent, ON_WHITE["E"], ON_WHITE["I"])
    _show(panels["output"], output, ON_WHITE["E"], ON_WHITE["I"])
    _label(panels, int(excitatory.sum()), len(order), sort)


def _show(panel: Axes, values: np.ndarray, positive: str, negative: str) -> None:
    """Draws `[pre, post]` of 1, 0 and -1."""
    picture = np.full((*values.shape, 3), 255, np.uint8)
    picture[values > 0] = np.round(255 * np.array(to_rgb(positive)))
    picture[values < 0] = np.round(255 * np.array(to_rgb(negative)))
    panel.imshow(picture, interpolation="none", aspect="auto")
    panel.spines[:].set_color(FAINT)
    panel.spines[:].set_position(("outward", 0.5))  # [points], so as not to cover connections
    panel.set_xticks([])
    panel.set_yticks([])


def _line_width(panel: Axes) -> float:
    """Returns the width of a line that covers at most one pixel on either side [points]."""
    figure = panel.get_figure(root=True)
    assert figure is not None
    return min(0.8, 2 * 72 / figure.dpi)


def _label(panels: dict[str, Axes], num_excitatory: int, num_neurons: int, sort: Sort) -> None:
    text: dict[str, Any] = {"fontsize": 10, "color": INK}
    main = panels["recurrent"]
    middles = {"E": num_excitatory / 2 - 0.5, "I": (num_excitatory + num_neurons) / 2 - 0.5}
    shown = [name for name, share in (("E", num_excitatory), ("I", num_neurons - num_excitatory)) if share]
    for axis in (main.xaxis, main.yaxis):
        axis.set_ticks([middles[name] for name in shown], shown, fontsize=12, fontweight="bold")
        axis.set_tick_params(length=0)
        for label, name in zip(axis.get_ticklabels(), shown, strict=True):
            label.set_color(ON_WHITE[name])
    if len(shown) == 2:
        for panel in panels.values():
            if panel is not panels["output"]:
                panel.axvline(num_excitatory - 0.5, color=INK, linewidth=_line_width(panel))
            if panel is not panels["input"]:
                panel.axhline(num_excitatory - 0.5, color=INK, linewidth=_line_width(panel))
    how = "" if sort == "none" else f", by {sort} within a type"
    main.set_xlabel(f"onto neuron{how}", **text)
    main.set_ylabel(f"from neuron{how}", **text)
    panels["input"].set_ylabel("obs.", **text)
    panels["output"].set_xlabel("action", **text)


def draw_dynamics(panels: Mapping[str, Axes], connectome: Connectome, episode: Episode, sort: Sort) -> None:
    """Draws the activity of the neurons in the middle of an episode.

    Args:
        panels: Some of `h` for the spikes, `i` for the rates and `j` for the currents.
        connectome: Connectome with neuron types.
        episode: Recorded episode of the network.
        sort: Order of the neurons within a type, as in `neuron_order`.
    """
    shown = middle_of(episode_dynamics(connectome, episode))
    draw: dict[str, Callable[[Axes], None]] = {
        "h": lambda panel: _draw_raster(panel, connectome, shown, sort),
        "i": lambda panel: _draw_rates(panel, shown),
        "j": lambda panel: _draw_currents(panel, shown),
    }
    for name, panel in panels.items():
        draw[name](panel)
        panel.set_xlim(shown.times_ms[0] - connectome.constants.dt_ms, shown.times_ms[-1])
        panel.tick_params(labelbottom=False)
    last = list(panels.values())[-1]
    last.tick_params(labelbottom=True)
    last.set_xlabel("time of the network [ms]", color=INK)


def _draw_raster(panel: Axes, connectome: Connectome, shown: Dynamics, sort: Sort) -> None:
    """Draws the spikes of all neurons, in the order and the colours of the matrix."""
    order = neuron_order(connectome, sort)
    excitatory, spikes = excitatory_neurons(connectome)[order], shown.spikes[:, order]
    for name, chosen in (("E", excitatory), ("I", ~excitatory)):
        when, which = np.nonzero(spikes & chosen)
        panel.plot(
            shown.times_ms[when], which, "|", color=ON_WHITE[name], markersize=2.2, markeredgewidth=0.8,
            rasterized=True,
        )  # fmt: skip
        panel.plot([], [], "s", color=ON_WHITE[name], markersize=4, label=name)
    panel.set_ylim(len(order) - 0.5, -0.5)
    panel.grid(False)
    panel.set_ylabel("neuron", color=INK)
    add_legend(panel, 4)


def _draw_rates(panel: Axes, shown: Dynamics) -> None:
    """Draws the mean rate per neuron type."""
    for name, rate in shown.rates.items():
        panel.plot(shown.times_ms, rate, color=ON_WHITE[name], linewidth=1.0, label=name)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("spikes/s\nper neuron", color=INK)
    add_legend(panel, 4)


def _draw_currents(panel: Axes, shown: Dynamics) -> None:
    """Draws the mean currents into a neuron, from E and I neurons and from the input, and their sum."""
    times, currents = shown.times_ms, shown.currents
    styles = {"E": (ON_WHITE["E"], "-"), "I": (ON_WHITE["I"], "-"), "input": (INK, ":")}
    for name, (color, style) in styles.items():
        if name in currents:
            panel.plot(times, currents[name], color=color, linestyle=style, linewidth=1.0, label=name)
    panel.plot(times, np.sum(list(currents.values()), axis=0), color=INK, linewidth=1.0, label="sum")
    panel.set_ylabel("current\ninto a neuron", color=INK)
    add_legend(panel, 4)
