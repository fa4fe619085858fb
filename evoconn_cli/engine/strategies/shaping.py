"""Fitness shaping: the weights of members in an update, as whole numbers whose sum is 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

_MOST = 2**30
"""Sum of positive log ranks from about 70,000 members on, for which the sum of ranks would not fit into int32."""

Shaping: TypeAlias = Callable[[jax.Array], jax.Array]
"""`shaping(fitness [M]) -> weights [M]` int32; their sum is 0, and of the positive ones at most M² / 4."""


def doubled_centered_ranks(fitness: jax.Array) -> jax.Array:
    """Returns `[M]` int32 ranks `2·rank - (M - 1)`, from `-(M - 1)` for the worst to `M - 1` for the best.

    Doubling keeps them whole if ties share a mean rank; they always sum to 0. Fitness that is not finite ranks
    worst. Divided by `2·(M - 1)` they are the centred ranks of the paper.

    Args:
        fitness: `[M]` float32.

    Source: arXiv 2305.17650, section 4. The published code ranks ties by index and NaN best; here equal fitness
    gives equal weight, and a failed member never pulls.
    """
    num_below, num_not_above = _places(fitness)
    return (num_below + num_not_above - fitness.shape[0]).astype(jnp.int32)


def log_ranks(fitness: jax.Array) -> jax.Array:
    """Returns `[M]` int32 weights that fall with the logarithm of the place, with the scale of centred ranks.

    The member in place k, counted from the best, has `-log k`, less the mean of all, times the factor that gives the
    mean square of `doubled_centered_ranks`. So the best members count most, but all are told apart. Equal fitness
    shares the mean weight, up to 1; fitness that is not finite is worst.

    Args:
        fitness: `[M]` float32.

    Source: own; the utilities of CMA-ES (Hansen, arXiv 1604.00772, equation 53) without their cut at the better half.
    """
    total_up_to = jnp.asarray(_sums_of_log_ranks(fitness.shape[0]), jnp.int32)
    num_below, num_not_above = _places(fitness)
    # Of n equal members with the sum s, all get floor(s / n), and the first s mod n, by number, one more.
    equal = num_not_above - num_below
    total = total_up_to[num_not_above] - total_up_to[num_below]
    number = jnp.argsort(jnp.argsort(jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf), stable=True)) - num_below
    return total // equal + (number < total % equal)


SHAPINGS: dict[str, Shaping] = {"centered_rank": doubled_centered_ranks, "log_rank": log_ranks}
"""Shapings by the value of `algo.shaping`."""


def _places(fitness: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `[M]` the number of members that are worse than each, and that are not better."""
    fitness = jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)
    ordered = jnp.sort(fitness)
    return jnp.searchsorted(ordered, fitness, side="left"), jnp.searchsorted(ordered, fitness, side="right")


def _sums_of_log_ranks(num_members: int) -> np.ndarray:
    """Returns `[M + 1]` int64 sums of the weights of the k worst places, for k = 0 to M."""
    weight = -np.log(np.arange(num_members, 0, -1))
    weight -= weight.mean()
    scale = np.sqrt((num_members**2 - 1) / 3 / np.mean(weight**2))
    scale = min(scale, _MOST / weight[weight > 0].sum())
    return np.rint(scale * np.concatenate([[0.0], np.cumsum(weight)])).astype(np.int64)
