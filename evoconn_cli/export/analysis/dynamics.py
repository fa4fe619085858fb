"""Activity of a boolean network in a recorded episode, and the order of its neurons in figures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter

from evoconn_cli.config.formats import Sort
from evoconn_cli.export.analysis.graphs import find_communities
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.units import excitatory_neurons, neurons_by_type, recurrent_graph

SMOOTHED_MS = 5.0
"""Width of the running mean of rates [ms]."""
SHOWN_MS = 500.0
"""Length of the part in the middle of the episode that figures and pages show [ms of network time]."""


def communities_of(connectome: Connectome) -> np.ndarray:
    """Returns `[N]` int64, the number of each neuron's community, the largest community first."""
    return find_communities(recurrent_graph(connectome), np.random.default_rng(0))


def neuron_order(connectome: Connectome, sort: Sort) -> np.ndarray:
    """Returns `[N]` int64, the neurons from first to last: the excitatory ones, then the inhibitory ones.

    Args:
        connectome: Connectome with neuron types.
        sort: `degree`: most recurrent connections first; `community`: largest community first, by degree within one;
            `none`: by number.
    """
    recurrent, inhibitory = connectome.layers["recurrent"], ~excitatory_neurons(connectome)
    if sort == "none":
        return np.argsort(inhibitory, kind="stable")
    fewest_last = -(recurrent.sum(axis=0) + recurrent.sum(axis=1))
    keys = [fewest_last, inhibitory] if sort == "degree" else [fewest_last, communities_of(connectome), inhibitory]
    return np.lexsort(keys)


class Dynamics(NamedTuple):
    """An episode of D sub-steps; rates and currents by the type of the sending neurons."""

    times_ms: np.ndarray  # [D] float64 end of each sub-step [ms of network time]
    spikes: np.ndarray  # [D, N] bool
    rates: dict[str, np.ndarray]  # [D] float64 running mean [spikes/s per neuron]
    currents: dict[str, np.ndarray]  # [D] float64 mean over all neurons, negative if inhibitory; also of the `input`


def episode_dynamics(connectome: Connectome, episode: Episode) -> Dynamics:
    """Returns rates and currents of an episode.

    Synaptic currents of E and I neurons are computed from the spikes. Their sum is that of the network except for the
    rest of a warm-up, which decays with the synaptic time constant.
    """
    constants, gains = connectome.constants, connectome.gains
    spikes = episode.spikes.reshape(-1, connectome.num_neurons)
    before = np.concatenate([episode.initial["spikes"][None], spikes[:-1]])
    onto = connectome.layers["recurrent"].mean(axis=1)  # share of all neurons that each neuron reaches
    window = max(1, round(SMOOTHED_MS / constants.dt_ms))
    rates, currents = {}, {"input": np.repeat(episode.input_currents.mean(axis=1), constants.num_substeps)}
    for name, chosen in neurons_by_type(connectome).items():
        rates[name] = uniform_filter1d(1000 / constants.dt_ms * spikes[:, chosen].mean(axis=1), window)
        sent = (1 if name == "E" else -1) * gains.recurrent * (before[:, chosen] @ onto[chosen])
        currents[name] = np.asarray(lfilter([1.0], [1.0, -constants.alpha_syn], sent))
    return Dynamics(constants.dt_ms * np.arange(1, len(spikes) + 1), spikes, rates, currents)


def middle_of(dynamics: Dynamics) -> Dynamics:
    """Returns `SHOWN_MS` in the middle of an episode, or all of a shorter one."""
    num_substeps, dt_ms = len(dynamics.times_ms), dynamics.times_ms[0]
    length = min(num_substeps, round(SHOWN_MS / dt_ms))
    start = (num_substeps - length) // 2
    shown = slice(start, start + length)
    rates = {name: rate[shown] for name, rate in dynamics.rates.items()}
    currents = {name: current[shown] for name, current in dynamics.currents.items()}
    return Dynamics(dynamics.times_ms[shown], dynamics.spikes[shown], rates, currents)
