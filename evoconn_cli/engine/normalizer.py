"""Running mean and standard deviation of the observations (Welford).

Source: Brax 0.1.2, `brax.training.acme.running_statistics`, which the published code uses: mean 0 and standard
deviation 1 before the first update, standard deviation clipped to [1e-6, 1e6], observations not clipped. Updates take
sums instead of a batch, so that they can be gathered block by block and added in one fixed order.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

STD_MIN = 1e-6
STD_MAX = 1e6


class NormalizerState(NamedTuple):
    """Statistics of all observations so far."""

    count: jax.Array  # [] float32 observations
    mean: jax.Array  # [O] float32
    summed_variance: jax.Array  # [O] float32, sum of squared deviations from the mean
    std: jax.Array  # [O] float32


class ObservationSums(NamedTuple):
    """Sums over observations, as deviations from the mean in use; `...` are member axes or none."""

    count: jax.Array  # [...] float32
    deviation: jax.Array  # [O, ...] float32
    squared: jax.Array  # [O, ...] float32


def initial_normalizer(observation_size: int) -> NormalizerState:
    """Returns statistics that leave observations unchanged."""
    zeros = jnp.zeros((observation_size,))
    return NormalizerState(jnp.zeros(()), zeros, zeros, jnp.ones((observation_size,)))


def normalize(state: NormalizerState, obs: jax.Array) -> jax.Array:
    """Returns `[O, B]` the observations of a block, normalised."""
    return (obs - state.mean[:, None]) / state.std[:, None]


def empty_sums(observation_size: int, num_members: int) -> ObservationSums:
    """Returns sums over no observations, for every member of a block."""
    zeros = jnp.zeros((observation_size, num_members))
    return ObservationSums(jnp.zeros((num_members,)), zeros, zeros)


def add_observation(
    state: NormalizerState, sums: ObservationSums, obs: jax.Array, counts: jax.Array
) -> ObservationSums:
    """Returns the sums with `obs` added for the members that count.

    Args:
        state: Statistics in use.
        sums: Sums of every member.
        obs: `[O, B]`.
        counts: `[B]` bool.
    """
    deviation = jnp.where(counts, obs - state.mean[:, None], 0.0)
    return ObservationSums(sums.count + counts, sums.deviation + deviation, sums.squared + deviation * deviation)


def total(sums: ObservationSums) -> ObservationSums:
    """Returns the sums over the members of a block; members with a value that is not finite are left out."""
    finite = jnp.all(jnp.isfinite(sums.deviation) & jnp.isfinite(sums.squared), axis=0)
    return ObservationSums(
        jnp.sum(jnp.where(finite, sums.count, 0.0)),
        jnp.sum(jnp.where(finite, sums.deviation, 0.0), axis=1),
        jnp.sum(jnp.where(finite, sums.squared, 0.0), axis=1),
    )


def update(state: NormalizerState, sums: ObservationSums) -> NormalizerState:
    """Returns the statistics with all observations of `sums` (without member axes) added."""
    count = state.count + sums.count
    mean_update = sums.deviation / jnp.maximum(count, 1.0)
    summed_variance = state.summed_variance + jnp.maximum(sums.squared - mean_update * sums.deviation, 0.0)
    std = jnp.clip(jnp.sqrt(summed_variance / jnp.maximum(count, 1.0)), STD_MIN, STD_MAX)
    updated = NormalizerState(count, state.mean + mean_update, summed_variance, std)
    return jax.tree.map(lambda new, old: jnp.where(sums.count > 0, new, old), updated, state)
