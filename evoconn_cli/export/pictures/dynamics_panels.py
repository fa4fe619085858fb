"""Panels of the figure of a connectome that show a recorded episode: spikes, rates and currents."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from evoconn_cli.drawing.canvas import INK, add_legend
from evoconn_cli.drawing.colors import ON_WHITE
from evoconn_cli.export.analysis.dynamics import SHOWN_MS, Dynamics, episode_dynamics, window_of
from evoconn_cli.export.analysis.ordering import neuron_order
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.projections import excitatory_neurons


def draw_dynamics(panels: Mapping[str, Axes], connectome: Connectome, episode: Episode, sort: str) -> None:
    """Draws what the neurons do in the middle of an episode.

    Args:
        panels: Some of `h` for the spikes, `i` for the rates and `j` for the currents.
        connectome: Network with neuron types.
        episode: Recorded episode of the network.
        sort: Order of the neurons within a type, as in `neuron_order`.
    """
    dynamics = episode_dynamics(connectome, episode)
    if "h" in panels:
        _draw_raster(panels["h"], connectome, dynamics, sort)
    if "i" in panels:
        _draw_rates(panels["i"], dynamics)
    if "j" in panels:
        _draw_currents(panels["j"], dynamics)
    times = dynamics.times_ms[window_of(dynamics, SHOWN_MS)]
    for panel in panels.values():
        panel.set_xlim(times[0] - dynamics.times_ms[0], times[-1])
        panel.tick_params(labelbottom=False)
    last = list(panels.values())[-1]
    last.tick_params(labelbottom=True)
    last.set_xlabel("time of the network [ms]", color=INK)


def _draw_raster(panel: Axes, connectome: Connectome, dynamics: Dynamics, sort: str) -> None:
    """Draws the spikes of all neurons, in the order and the colours of the matrix."""
    shown, order = window_of(dynamics, SHOWN_MS), neuron_order(connectome, sort)
    excitatory, spikes = excitatory_neurons(connectome)[order], dynamics.spikes[shown][:, order]
    for name, chosen in (("E", excitatory), ("I", ~excitatory)):
        when, which = np.nonzero(spikes & chosen)
        panel.plot(
            dynamics.times_ms[shown][when], which, "|", color=ON_WHITE[name], markersize=2.2, markeredgewidth=0.8,
            rasterized=True,
        )  # fmt: skip
        panel.plot([], [], "s", color=ON_WHITE[name], markersize=4, label=name)
    panel.set_ylim(len(order) - 0.5, -0.5)
    panel.grid(False)
    panel.set_ylabel("neuron", color=INK)
    add_legend(panel, 4)


def _draw_rates(panel: Axes, dynamics: Dynamics) -> None:
    """Draws the mean rate of each type of neurons."""
    shown = window_of(dynamics, SHOWN_MS)
    for name, rate in dynamics.rates.items():
        panel.plot(dynamics.times_ms[shown], rate[shown], color=ON_WHITE[name], linewidth=1.0, label=name)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("spikes/s\nper neuron", color=INK)
    add_legend(panel, 4)


def _draw_currents(panel: Axes, dynamics: Dynamics) -> None:
    """Draws the mean currents into a neuron, from E and I neurons and from the input, and their sum."""
    shown, times = window_of(dynamics, SHOWN_MS), dynamics.times_ms
    styles = {"E": (ON_WHITE["E"], "-"), "I": (ON_WHITE["I"], "-"), "input": (INK, ":")}
    for name, (color, style) in styles.items():
        if name in dynamics.currents:
            panel.plot(
                times[shown], dynamics.currents[name][shown], color=color, linestyle=style, linewidth=1.0, label=name
            )
    total = np.sum(list(dynamics.currents.values()), axis=0)
    panel.plot(times[shown], total[shown], color=INK, linewidth=1.0, label="sum")
    panel.set_ylabel("current\ninto a neuron", color=INK)
    add_legend(panel, 4)
