"""The order of neurons in a picture: by type, and within a type by what shows a structure."""

from __future__ import annotations

import numpy as np

from evoconn_cli.export.analysis.communities import find_communities
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.projections import excitatory_neurons, recurrent_graph
from evoconn_cli.export.source import SORTS


def communities_of(connectome: Connectome, seed: int = 0) -> np.ndarray:
    """Returns `[N]` int64, the number of each neuron's community, the largest community first.

    Args:
        connectome: of a network with neuron types.
        seed: of the order in which communities are searched.
    """
    return find_communities(recurrent_graph(connectome), np.random.default_rng(seed))


def neuron_order(connectome: Connectome, sort: str) -> np.ndarray:
    """Returns `[N]` int64, the neurons from first to last: the excitatory ones, then the inhibitory ones.

    Args:
        connectome: of a network with neuron types.
        sort: `degree` by the number of recurrent connections, most first; `community` by the largest community first,
            and within one by degree; `none` by number.
    """
    assert sort in SORTS
    recurrent, inhibitory = connectome.kernels["recurrent"], ~excitatory_neurons(connectome)
    if sort == "none":
        return np.argsort(inhibitory, kind="stable")
    fewest_last = -(recurrent.sum(axis=0) + recurrent.sum(axis=1))
    keys = [fewest_last, inhibitory] if sort == "degree" else [fewest_last, communities_of(connectome), inhibitory]
    return np.lexsort(keys)
