"""Evolution strategy that also searches along the direction in which its centre has moved of late.

    evoconn train --config laptop --plugin examples/rank_one_es.py --algo rank_one_es --network mlp \
        --plugin examples/point_mass.py --task point_mass algo.generations=100

Return: 85 of at most 100 after 100 generations, which are 5.1 million environment steps. Two CPU cores: 25 s.

Source: the covariance of Rank-One ES (Li and Zhang, IEEE TEVC 22, 2018), with a constant step size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from evoconn_cli import AlgoConfig, Strategy, option, register_strategy


@dataclass(frozen=True)
class RankOneConfig(AlgoConfig):
    sigma: float = option(0.05, "standard deviation of the perturbations", above=0)
    learning_rate: float = option(0.3, "length of a step, in standard deviations", above=0)
    memory: float = option(0.9, "share of the path that is kept per generation", low=0, below=1)
    along_path: float = option(0.2, "share of the variance that lies along the path", low=0, below=1)


class State(NamedTuple):
    center: jax.Array  # [n] weights
    path: jax.Array  # [n] course of the centre; of standard normal length if fitness is random


@register_strategy("rank_one_es", candidates="weights", config=RankOneConfig)
def make(config, network):
    """Evolution strategy that also searches along the path of its centre."""
    _, as_weights = ravel_pytree(jax.tree.map(lambda layer: jnp.zeros(layer.shape), network.shapes))

    def init(key):
        center, _ = ravel_pytree(network.initial_weights(key))
        return State(center, jnp.zeros_like(center))

    def ask(key, state, members):
        def one(member):
            all_ways, along = jax.random.split(jax.random.fold_in(key, member))
            noise = (1 - config.along_path) ** 0.5 * jax.random.normal(all_ways, state.center.shape)
            noise += config.along_path**0.5 * jax.random.normal(along) * state.path
            return as_weights(state.center + config.sigma * noise)

        return jax.vmap(one)(members)

    def weighted_sums(state, candidates, weights):
        vectors = jax.vmap(lambda member: ravel_pytree(member)[0])(candidates)
        return jnp.sum(weights[:, None] * (vectors - state.center) / config.sigma, axis=0)

    def tell(state, sums, weights):
        step = sums / jnp.maximum(1.0, jnp.linalg.norm(weights.astype(jnp.float32)))
        path = config.memory * state.path + (1 - config.memory**2) ** 0.5 * step
        moved = State(state.center + config.learning_rate * config.sigma * step, path)
        return moved, {"path_length": jnp.sqrt(jnp.mean(path**2))}

    return Strategy(
        config.name,
        init=init,
        ask=ask,
        center=lambda state: jax.vmap(as_weights)(state.center[None]),
        weighted_sums=weighted_sums,
        tell=tell,
    )
