"""The connectome as one matrix: observations above, the recurrent network in the middle, actions at the right."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from evoconn_cli.drawing.canvas import FAINT, INK
from evoconn_cli.drawing.colors import ON_WHITE
from evoconn_cli.export.analysis.ordering import neuron_order
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.projections import excitatory_neurons, observation_weights

_STRIP = (0.09, 0.3)
"""Least and greatest thickness of the strips of observations and actions, as shares of the recurrent network's side."""


def strip_ratio(size: int, num_neurons: int) -> float:
    """Returns the thickness of the strip of `size` observations or actions beside a recurrent network of side 1."""
    return float(np.clip(size / num_neurons, *_STRIP))


def least_pixels(connectome: Connectome) -> float:
    """Returns how many pixels the side of the recurrent network needs for every connection to have one to see.

    Each has two, since a line between types covers one.
    """
    neurons = connectome.num_neurons
    beside = (connectome.observation_size, connectome.action_size)
    return 2 * max(neurons, *(size / strip_ratio(size, neurons) for size in beside))


def draw_matrix(panels: dict[str, Axes], connectome: Connectome, sort: str) -> None:
    """Draws every connection as a dot, rows pre-synaptic, columns post-synaptic.

    Args:
        panels: `input`, `recurrent` and `output`, of which the last two share rows and the first two share columns.
        connectome: of a network with neuron types.
        sort: order of the neurons within a type, as in `neuron_order`.
    """
    order = neuron_order(connectome, sort)
    excitatory = excitatory_neurons(connectome)[order]
    sign = np.where(excitatory, 1, -1)
    recurrent = connectome.kernels["recurrent"][np.ix_(order, order)] * sign[:, None]
    output = connectome.kernels["output"][order] * sign[:, None]
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
    panel.spines[:].set_position(("outward", 0.5))  # [points], so that it covers no connection
    panel.set_xticks([])
    panel.set_yticks([])


def _line_width(panel: Axes) -> float:
    """Returns the width of a line that covers a pixel on either side at most [points]."""
    figure = panel.get_figure(root=True)
    assert figure is not None
    return min(0.8, 2 * 72 / figure.dpi)


def _label(panels: dict[str, Axes], num_excitatory: int, num_neurons: int, sort: str) -> None:
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
