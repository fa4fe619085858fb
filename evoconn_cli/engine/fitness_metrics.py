"""What a generation says about the fitness of its members."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evoconn_cli.engine.rollout import BlockResult
from evoconn_cli.engine.strategies import Metrics


def fitness_metrics(results: BlockResult, num_members: int) -> Metrics:
    """Returns fitness and length of episodes of the population.

    Args:
        results: `[P]`, evaluation copies last.
        num_members: M, those that are not evaluation copies.
    """
    fitness, evaluation = results.fitness[:num_members], results.fitness[num_members:]
    mean, std = _finite_mean_and_std(fitness)
    length = results.steps[:num_members] / jnp.maximum(results.episodes[:num_members], 1)
    return {
        "fitness_mean": mean,
        "fitness_std": std,
        "fitness_best": jnp.max(jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)),
        "eval_fitness": _finite_mean_and_std(evaluation)[0],
        "episode_length_mean": jnp.mean(length),
        "episode_length_max": jnp.max(length),
        "failed_members": jnp.sum(~jnp.isfinite(fitness)),
    }


def mean_rate(results: BlockResult) -> jax.Array:
    """Returns the mean rate of the neurons over all steps that counted [1/ms]."""
    return jnp.sum(results.rate) / jnp.maximum(jnp.sum(results.steps), 1)


def _finite_mean_and_std(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and standard deviation of the finite values; NaN where there is none."""
    finite = jnp.isfinite(values)
    mean = jnp.sum(jnp.where(finite, values, 0.0)) / jnp.sum(finite)
    variance = jnp.sum(jnp.where(finite, jnp.square(values - mean), 0.0)) / jnp.sum(finite)
    return mean, jnp.sqrt(variance)
