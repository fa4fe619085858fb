"""Ranks of fitness, as whole numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def doubled_centered_ranks(fitness: jax.Array) -> jax.Array:
    """Returns `[M]` int32 ranks `2·rank - (M - 1)`, from `-(M - 1)` for the worst to `M - 1` for the best.

    Doubling keeps them whole where ties share a mean rank; they always sum to 0. Fitness that is not finite ranks
    worst. Divided by `2·(M - 1)` they are the centred ranks of the paper.

    Args:
        fitness: `[M]` float32.

    Source: arXiv 2305.17650, section 4. The published code ranks ties by index and NaN best; here equal fitness
    gives equal weight, and a failed member never pulls.
    """
    fitness = jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)
    ordered = jnp.sort(fitness)
    num_below = jnp.searchsorted(ordered, fitness, side="left")
    num_not_above = jnp.searchsorted(ordered, fitness, side="right")
    return (num_below + num_not_above - fitness.shape[0]).astype(jnp.int32)
