"""Lesions and noise: what is done to a network, or to what it sees, to learn how robust it is."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.networks import Candidates, Kernel, Network
from evoconn_cli.networks.kernels import keep_connections, num_neurons


class Perturbation(NamedTuple):
    """How strongly a policy is disturbed; None where it is not."""

    obs_noise: jax.Array | None = None  # [] standard deviation of noise on the normalised observations
    lesion_synapses: jax.Array | None = None  # [] probability that a connection is lost
    lesion_neurons: jax.Array | None = None  # [] probability that a neuron is lost


def lesion_synapses(network: Network, keys: jax.Array, candidates: Candidates, share: jax.Array) -> Candidates:
    """Returns `candidates` that have lost each connection with the probability `share`.

    Args:
        network: whose candidates they are.
        keys: `[B]`.
        candidates: of a block.
        share: `[]`, 0 to 1.
    """
    order = {name: index for index, name in enumerate(sorted(network.kernels))}

    def kept(name: str, kernel: Kernel, values: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            return jax.random.uniform(jax.random.fold_in(key, order[name]), values.shape[1:]) >= share

        return jax.vmap(one)(keys)

    return keep_connections(network, candidates, kept)


def lesion_neurons(network: Network, keys: jax.Array, candidates: Candidates, share: jax.Array) -> Candidates:
    """Returns `candidates` that have lost each neuron with the probability `share`: all connections from and to it.

    Args:
        network: whose candidates they are.
        keys: `[B]`.
        candidates: of a block.
        share: `[]`, 0 to 1.
    """
    alive = jax.vmap(lambda key: jax.random.uniform(key, (num_neurons(network),)) >= share)(keys)

    def kept(name: str, kernel: Kernel, values: jax.Array) -> jax.Array:
        stays = jnp.ones(values.shape, bool)
        if kernel.pre != "observation":
            stays &= alive[:, :, None]
        if kernel.post == "neurons":
            stays &= alive[:, None, :]
        return stays

    return keep_connections(network, candidates, kept)


def observation_noise(keys: jax.Array, step: jax.Array, size: int, std: jax.Array) -> jax.Array:
    """Returns `[B, O]` Gaussian noise, another one in every step.

    Args:
        keys: `[B]`.
        step: `[]` number of the step.
        size: O.
        std: `[]` standard deviation.
    """
    return std * jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, step), (size,)))(keys)
