"""The neuromorphic figures of a policy, by NeuroBench's definitions, for one environment step.

Source: Yik et al., "NeuroBench", Nature Communications 2025, and its harness: connection sparsity is the share of
weights that are zero; activation sparsity the share of neurons and sub-steps without a spike; effective operations
are those whose input and weight are not zero, accumulates (AC) where the input is a spike and multiply-accumulates
(MAC) where it is a number; dense operations count the zeros too; a membrane update is a neuron and sub-step whose
potential changed. Biases and element-wise products are not counted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np

from evoconn_cli.engine.episodes import EpisodeResults
from evoconn_cli.networks import Layer, Network
from evoconn_cli.networks.layers import layer_shapes

ENERGY_PJ = {"45nm": (0.9, 4.6)}
"""Energy of an AC and of a MAC of 32-bit floats by technology [pJ]. Source: Horowitz, ISSCC 2014."""


class Footprint(NamedTuple):
    """Memory that a policy needs [bytes]."""

    weights: int  # one byte a boolean connection, four a real weight or bias
    weights_packed: int | None  # one bit a connection, each layer in words of 32 bits; None for real weights
    state: int  # of the neurons, between steps
    normalizer: int  # mean and standard deviation of the observations


class Figures(NamedTuple):
    """Figures for one environment step; None for what a network without spikes does not have."""

    footprint: Footprint
    connection_sparsity: float
    activation_sparsity: float | None
    effective_acs: float
    effective_macs: float
    dense_operations: int
    membrane_updates: float | None
    spikes_per_second: float | None  # of a neuron, in network time [1/s]
    spikes_per_second_excitatory: float | None
    spikes_per_second_inhibitory: float | None


def neurobench_figures(network: Network, results: EpisodeResults) -> Figures:
    """Returns the figures, averaged over all steps of all episodes.

    The hidden units of gru, lstm and mlp are taken for not zero, as sigmoid and tanh leave them.

    Args:
        network: Network of the policy.
        results: Results of the episodes, as NumPy arrays.
    """
    shapes = layer_shapes(network)
    steps = int(results.lengths.sum(dtype=np.int64))
    operations = {"spikes": 0, "numbers": 0}
    for name, layer in network.layers.items():
        active = _active(layer, results, shapes[name][0])
        kind = "spikes" if layer.pre == "spikes" else "numbers"
        operations[kind] += int(np.sum(active * results.fan_out[name], dtype=np.int64))
    num_weights = sum(math.prod(shape) for shape in shapes.values())
    num_connections = sum(int(fan_out.sum(dtype=np.int64)) for fan_out in results.fan_out.values())
    substeps = network.neurons.constants.num_substeps if network.neurons else 1
    dense = sum(
        math.prod(shapes[name]) * (substeps if layer.pre == "spikes" else 1) for name, layer in network.layers.items()
    )
    return Figures(
        footprint=_footprint(network, observation_size=results.nonzero_obs.shape[1]),
        connection_sparsity=1.0 - num_connections / (num_weights * len(results.lengths)),
        effective_acs=operations["spikes"] / steps,
        effective_macs=operations["numbers"] / steps,
        dense_operations=dense,
        **_spiking_figures(network, results, steps),
    )


def energy_nj(figures: Figures, technology: str) -> float:
    """Returns the energy of an environment step's arithmetic alone, without memory or neuron updates [nJ]."""
    accumulate, multiply = ENERGY_PJ[technology]
    return (accumulate * figures.effective_acs + multiply * figures.effective_macs) / 1000.0


def _active(layer: Layer, results: EpisodeResults, num_pre: int) -> np.ndarray:
    """Returns `[E, pre]` int64: how often each pre-synaptic unit was not zero in an episode."""
    if layer.pre == "hidden":
        active = np.repeat(results.lengths[:, None], num_pre, axis=1)
    elif layer.pre == "observation":
        # Conn-RSNN sees [x, -x].
        active = np.tile(results.nonzero_obs, (1, num_pre // results.nonzero_obs.shape[1]))
    else:
        assert results.spikes is not None
        active = results.spikes.delivered if layer.pre == "spikes" else results.spikes.nonzero_rates
    return np.asarray(active, np.int64)


def _spiking_figures(network: Network, results: EpisodeResults, steps: int) -> dict[str, float | None]:
    counts, neurons = results.spikes, network.neurons
    if counts is None or neurons is None:
        return dict.fromkeys(_OF_SPIKES)
    constants = neurons.constants
    emitted: np.ndarray = np.asarray(counts.emitted, np.int64).sum(axis=0)  # [N]
    seconds = steps * constants.num_substeps * constants.dt_ms / 1000.0
    per_second = emitted / seconds
    excitatory = inhibitory = None
    if neurons.num_excitatory is not None:
        excitatory = _mean(per_second[: neurons.num_excitatory])
        inhibitory = _mean(per_second[neurons.num_excitatory :])
    return {
        "activation_sparsity": 1.0 - float(emitted.sum()) / (len(emitted) * constants.num_substeps * steps),
        "membrane_updates": float(counts.updates.sum(dtype=np.int64)) / steps,
        "spikes_per_second": _mean(per_second),
        "spikes_per_second_excitatory": excitatory,
        "spikes_per_second_inhibitory": inhibitory,
    }


_RATES = ("spikes_per_second", "spikes_per_second_excitatory", "spikes_per_second_inhibitory")
_OF_SPIKES = ("activation_sparsity", "membrane_updates", *_RATES)
"""Figures that only networks with spikes have."""


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _footprint(network: Network, observation_size: int) -> Footprint:
    leaves = jax.tree.leaves(network.shapes)
    carry = jax.eval_shape(network.initial_carry, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)))
    return Footprint(
        weights=sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves),
        weights_packed=sum(4 * -(-leaf.shape[0] // 32) * leaf.shape[1] for leaf in leaves)
        if network.is_boolean
        else None,
        state=sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(carry)),
        normalizer=2 * 4 * observation_size,
    )
