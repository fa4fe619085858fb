"""What the neurons of a boolean network do in a recorded episode: population rates and mean currents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter

from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.projections import neurons_by_type

SMOOTHED_MS = 5.0
"""Width of the running mean of rates [ms]."""
SHOWN_MS = 500.0
"""Time of the network that figure and page show, in the middle of the episode [ms]."""


class Dynamics(NamedTuple):
    """An episode of D sub-steps; rates and currents by the type of the sending neurons."""

    times_ms: np.ndarray  # [D] float64, the end of each sub-step in the time of the network
    spikes: np.ndarray  # [D, N] bool
    rates: dict[str, np.ndarray]  # [D] float64 spikes/s per neuron, running mean
    currents: dict[str, np.ndarray]  # [D] float64 mean over all neurons, inhibitory ones negative; also `input`


def episode_dynamics(connectome: Connectome, episode: Episode) -> Dynamics:
    """Returns rates and currents of an episode.

    Synaptic currents of E and I neurons are computed from the spikes. Their sum is that of the network, but for what is
    left of a warm-up, which decays with the synaptic time constant.
    """
    constants, gains = connectome.constants, connectome.gains
    assert gains is not None
    spikes = episode.spikes.reshape(-1, connectome.num_neurons)
    before = np.concatenate([episode.initial.spikes[None], spikes[:-1]])
    onto = connectome.kernels["recurrent"].mean(axis=1)  # share of all neurons that each one reaches
    window = max(1, round(SMOOTHED_MS / constants.dt_ms))
    rates, currents = {}, {"input": np.repeat(episode.input_currents.mean(axis=1), constants.num_substeps)}
    for name, chosen in neurons_by_type(connectome).items():
        rates[name] = uniform_filter1d(1000 / constants.dt_ms * spikes[:, chosen].mean(axis=1), window)
        sent = (1 if name == "E" else -1) * gains.recurrent * (before[:, chosen] @ onto[chosen])
        currents[name] = np.asarray(lfilter([1.0], [1.0, -constants.alpha_syn], sent))
    return Dynamics(constants.dt_ms * np.arange(1, len(spikes) + 1), spikes, rates, currents)


def window_of(dynamics: Dynamics, length_ms: float) -> slice:
    """Returns the sub-steps of `length_ms` in the middle of an episode, or all where it is shorter."""
    dt_ms = dynamics.times_ms[0]
    length = min(len(dynamics.times_ms), round(length_ms / dt_ms))
    start = (len(dynamics.times_ms) - length) // 2
    return slice(start, start + length)
