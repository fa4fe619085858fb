"""The state of a run: everything that the next generation depends on, as arrays. A checkpoint holds all of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.normalizer import NormalizerState, initial_normalizer
from evoconn_cli.engine.strategies import Strategy, StrategyState

KEY_IMPLEMENTATION = "threefry2x32"
"""JAX's random generator for all draws; under `vmap` it draws the same for each key as alone."""

_INITIAL_CENTER = 2**32 - 1
"""Number that stands for the generation in draws before the first one."""


class StepCounter(NamedTuple):
    """A count of environment steps, which outgrows 32 bits."""

    low: jax.Array  # [] uint32
    high: jax.Array  # [] uint32

    def add(self, steps: jax.Array) -> StepCounter:
        """Returns the count with `steps` (fewer than 2^32) more."""
        low = self.low + steps.astype(jnp.uint32)
        return StepCounter(low, self.high + (low < self.low).astype(jnp.uint32))

    def __int__(self) -> int:
        return (int(self.high) << 32) + int(self.low)


class RunState(NamedTuple):
    """State of a run between two generations."""

    strategy: StrategyState
    normalizer: NormalizerState
    generation: jax.Array  # [] int32 generations done
    env_steps: StepCounter  # environment steps that counted
    key: jax.Array  # [2] uint32 data of the run key, which never changes


def not_finite(state: RunState) -> list[str]:
    """Returns the names of the arrays of a state that hold a NaN or an infinity; a sound run has none."""
    found = jax.tree_util.tree_leaves_with_path(jax.device_get(_are_finite(state)))
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, is_finite in found if not is_finite]


@jax.jit
def _are_finite(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), tree)


def initial_run_state(strategy: Strategy, *, observation_size: int, seed: int) -> RunState:
    """Returns the state before the first generation.

    Args:
        strategy: Strategy that gives its initial state.
        observation_size: O.
        seed: Random seed of the run, 0 to 2^32 - 1.
    """
    key = jax.random.key(np.uint32(seed), impl=KEY_IMPLEMENTATION)
    return RunState(
        strategy=strategy.init(jax.random.fold_in(key, _INITIAL_CENTER)),
        normalizer=jax.tree.map(jnp.copy, initial_normalizer(observation_size)),
        generation=jnp.zeros((), jnp.int32),
        env_steps=StepCounter(jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.uint32)),
        key=jax.random.key_data(key),
    )
