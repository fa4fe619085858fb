"""Blocks of a connectome: the connections between two types of neurons."""

from __future__ import annotations

import numpy as np

from evoconn_cli.export.connectome import Connectome

KERNELS = ("input", "recurrent", "output")
"""The kernels of a conn_snn in the order in which they are shown."""


def excitatory_neurons(connectome: Connectome) -> np.ndarray:
    """Returns `[N]` bool, which neurons are excitatory."""
    assert connectome.neuron_types is not None
    return connectome.neuron_types > 0


def density_by_block(connectome: Connectome) -> dict[str, float]:
    """Returns the share of possible connections that exist, by kernel and by the types that they join.

    Types that the network does not have are left out.
    """
    kernels, excitatory = connectome.kernels, excitatory_neurons(connectome)
    blocks = {"all": np.concatenate([kernel.ravel() for kernel in kernels.values()]), **kernels}
    types = {name: chosen for name, chosen in (("E", excitatory), ("I", ~excitatory)) if chosen.any()}
    for pre, chosen in types.items():
        for post, reached in types.items():
            blocks[f"{pre}->{post}"] = kernels["recurrent"][np.ix_(chosen, reached)]
    for name, chosen in types.items():
        blocks[f"input->{name}"] = kernels["input"][:, chosen]
    for name, chosen in types.items():
        blocks[f"{name}->output"] = kernels["output"][chosen]
    return {name: float(block.mean()) for name, block in blocks.items()}


def recurrent_graph(connectome: Connectome) -> np.ndarray:
    """Returns `[pre, post]` bool, the recurrent connections without those of a neuron to itself."""
    recurrent = connectome.kernels["recurrent"]
    return recurrent & ~np.eye(len(recurrent), dtype=bool)


def observation_weights(connectome: Connectome) -> np.ndarray:
    """Returns `[O, N]` int8, the connection from `x` less the one from `-x`: how an observation acts on a neuron."""
    both = connectome.kernels["input"].astype(np.int8)
    return both[: connectome.observation_size] - both[connectome.observation_size :]
