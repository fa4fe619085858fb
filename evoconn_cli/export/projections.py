"""Projections of a connectome: the connections from one type of units to another."""

from __future__ import annotations

import numpy as np

from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.units import KERNEL_POPULATIONS, neuron_signs

KERNELS = tuple(KERNEL_POPULATIONS)
"""The kernels of a conn_snn in the order in which they are shown."""


def excitatory_neurons(connectome: Connectome) -> np.ndarray:
    """Returns `[N]` bool, which neurons are excitatory."""
    return neuron_signs(connectome) > 0


def neurons_by_type(connectome: Connectome) -> dict[str, np.ndarray]:
    """Returns `[N]` bool, which neurons are excitatory (`E`) and inhibitory (`I`), for types that have neurons."""
    excitatory = excitatory_neurons(connectome)
    return {name: chosen for name, chosen in (("E", excitatory), ("I", ~excitatory)) if chosen.any()}


def recurrent_inputs(connectome: Connectome) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[N]` and `[N]`, the recurrent connections onto each neuron from excitatory and from inhibitory ones."""
    recurrent, excitatory = connectome.kernels["recurrent"], excitatory_neurons(connectome)
    return recurrent[excitatory].sum(axis=0), recurrent[~excitatory].sum(axis=0)


def density_by_projection(connectome: Connectome) -> dict[str, float]:
    """Returns the share of possible connections that exist, by kernel and by the types that they join.

    Types that the network does not have are left out.
    """
    kernels, types = connectome.kernels, neurons_by_type(connectome)
    projections = {"all": np.concatenate([kernel.ravel() for kernel in kernels.values()]), **kernels}
    for pre, chosen in types.items():
        for post, reached in types.items():
            projections[f"{pre}->{post}"] = kernels["recurrent"][np.ix_(chosen, reached)]
    for name, chosen in types.items():
        projections[f"input->{name}"] = kernels["input"][:, chosen]
    for name, chosen in types.items():
        projections[f"{name}->output"] = kernels["output"][chosen]
    return {name: float(projection.mean()) for name, projection in projections.items()}


def recurrent_graph(connectome: Connectome) -> np.ndarray:
    """Returns `[pre, post]` bool, the recurrent connections without those of a neuron to itself."""
    recurrent = connectome.kernels["recurrent"]
    return recurrent & ~np.eye(len(recurrent), dtype=bool)


def observation_weights(connectome: Connectome) -> np.ndarray:
    """Returns `[O, N]` int8, the connection from `x` less the one from `-x`: how an observation acts on a neuron."""
    both = connectome.kernels["input"].astype(np.int8)
    return both[: connectome.observation_size] - both[connectome.observation_size :]
