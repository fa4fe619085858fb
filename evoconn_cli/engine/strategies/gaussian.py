"""Evolution strategies (ES) on real weights: antithetic Gaussian perturbations, weights by fitness, AdamW.

Source: the baselines of arXiv 2305.17650; constants of the published code, whose gradient is not divided by sigma
squared (Adam does not see the difference).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import EsConfig
from evoconn_cli.engine.strategies import Metrics, Strategy, Sums
from evoconn_cli.networks import Candidates, Network


class GaussianState(NamedTuple):
    """State of ES."""

    center: Any  # pytree of float32 weights
    adam: optax.ScaleByAdamState  # moments of the gradient


def make(config: EsConfig, network: Network) -> Strategy:
    """Returns the strategy of a run.

    Args:
        config: Configuration of the strategy; what is null in it is as published for the network.
        network: Network to search, with real weights.
    """
    assert network.initial_weights is not None
    published = find("network", network.name).published.get("es", {})
    null = [key for key, value in published.items() if getattr(config, key) is None]
    config = dataclasses.replace(config, **{key: published[key] for key in null})
    return make_gaussian(config, network.initial_weights)


def make_gaussian(config: EsConfig, initial_center: Callable[[jax.Array], Any]) -> Strategy:
    """Returns the strategy ES; its candidates are pytrees of weights.

    Members `2k` and `2k + 1` are the pair `center + sigma·n_k` and `center - sigma·n_k`.

    Args:
        config: Configuration of the strategy, with an even number of members; sigma and step size are not null.
        initial_center: `initial_center(key) -> weights` of one network at generation 0.

    Raises:
        ValueError: The number of members is odd.
    """
    num_members, sigma, learning_rate = config.num_members, config.sigma, config.learning_rate
    assert sigma is not None and learning_rate is not None
    if num_members % 2:
        raise ValueError(f"antithetic pairs need an even number of members, got {num_members}")
    adam = optax.scale_by_adam(b1=config.adam_beta1, b2=config.adam_beta2, eps=config.adam_eps)

    def init(key: jax.Array) -> GaussianState:
        center = initial_center(key)
        return GaussianState(center, jax.tree.map(jnp.copy, adam.init(center)))

    def ask(key: jax.Array, state: GaussianState, members: jax.Array) -> Candidates:
        def one(member: jax.Array) -> Candidates:
            noise = _normal_like(jax.random.fold_in(key, member // 2), state.center)
            signed = jnp.where(member % 2 == 0, sigma, -sigma)
            return jax.tree.map(lambda c, n: c + signed * n, state.center, noise)

        return jax.vmap(one)(members)

    def center(state: GaussianState) -> Candidates:
        return jax.tree.map(lambda c: c[None], state.center)

    def weighted_sums(state: GaussianState, candidates: Candidates, weights: jax.Array) -> Sums:
        as_floats = weights.astype(jnp.float32)

        def one(c: jax.Array, drawn: jax.Array) -> jax.Array:
            return jnp.sum(as_floats.reshape(-1, *[1] * c.ndim) * (drawn - c), axis=0)

        return jax.tree.map(one, state.center, candidates)

    def tell(state: GaussianState, sums: Sums, weights: jax.Array) -> tuple[GaussianState, Metrics]:
        scale = 1.0 / (num_members * (num_members - 1.0))
        gradient = jax.tree.map(lambda s: scale * s, sums)
        snr = _signal_to_noise(gradient, weights, sigma)
        step, adam_state = adam.update(gradient, state.adam)
        assert isinstance(adam_state, optax.ScaleByAdamState)
        moved = jax.tree.map(lambda c, d: c + learning_rate * (d - config.weight_decay * c), state.center, step)
        return GaussianState(moved, adam_state), {"update_snr": snr}

    def metrics(state: GaussianState) -> Metrics:
        return {"sigma": jnp.float32(sigma), "center_norm": optax.tree.norm(state.center)}

    return Strategy("es", init, ask, center, weighted_sums, tell, metrics, keeps_candidates=False)


def _normal_like(key: jax.Array, tree: Any) -> Any:
    """Returns standard normal draws in the shapes of `tree`."""
    leaves, structure = jax.tree.flatten(tree)
    draws = [jax.random.normal(jax.random.fold_in(key, index), x.shape) for index, x in enumerate(leaves)]
    return jax.tree.unflatten(structure, draws)


def _signal_to_noise(gradient: Any, whole: jax.Array, sigma: float) -> jax.Array:
    """Returns the excess of the squared length of the gradient over its expectation by chance, relative to the latter.

    If fitness did not depend on the weights, a component would have the variance
    `sigma²·mean((w⁺ - w⁻)²) / pairs`.
    """
    num_pairs = whole.shape[0] // 2
    weights = whole.astype(jnp.float32) / (2.0 * (whole.shape[0] - 1))
    difference = weights[0::2] - weights[1::2]
    leaves = jax.tree.leaves(gradient)
    power = sum(jnp.sum(g * g) for g in leaves)
    noise = sigma**2 * jnp.mean(difference * difference) / num_pairs * sum(g.size for g in leaves)
    return jnp.where(noise > 0, power / jnp.maximum(noise, 1e-30) - 1.0, 0.0)
