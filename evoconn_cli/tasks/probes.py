"""Small tasks with known answers; each isolates one possible defect of learning or of the rollout.

| task | best behaviour | best return of an episode |
|---|---|---|
| `probe_bias` | a constant action, whatever is observed | number of steps |
| `probe_sign` | an action with the sign of the current observation | number of steps |
| `probe_memory` | an action with the sign of a cue that is shown in the first step only | number of steps |
| `probe_steps` | any; episodes have different lengths, 1 to 16 steps, and a reward of 1 per step | its length |
| `probe_nan` | an action that is not positive; the reward of positive ones is NaN, of others 1 | number of steps |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.config.schema import TaskConfig
from evoconn_cli.tasks import Task, TaskState

_STEP_SECONDS = 0.0166


class _Probe(NamedTuple):
    """Observation, reward and end of a probe, as functions of a cue that is drawn at the start of the episode."""

    obs: Callable[[jax.Array, jax.Array], jax.Array]  # (cue [], steps []) -> [2]
    reward: Callable[[jax.Array, jax.Array], jax.Array]  # (cue [], action [1]) -> []
    ends: Callable[[jax.Array, jax.Array], jax.Array]  # (cue [], steps []) -> [] bool


def _constant_obs(cue: jax.Array, steps: jax.Array) -> jax.Array:
    del cue
    return jnp.stack([jnp.ones(()), jnp.cos(steps.astype(jnp.float32))])


def _never(cue: jax.Array, steps: jax.Array) -> jax.Array:
    del cue, steps
    return jnp.zeros((), bool)


def _length(cue: jax.Array) -> jax.Array:
    """Returns the length of a `probe_steps` episode, 1 to 16, from a cue in (-1, 1)."""
    return 1 + jnp.floor((cue + 1.0) * 8.0).astype(jnp.int32)


def _sign(cue: jax.Array) -> jax.Array:
    return jnp.where(cue < 0.0, -1.0, 1.0)


_PROBES = {
    "probe_bias": _Probe(_constant_obs, lambda cue, action: action[0], _never),
    "probe_sign": _Probe(
        lambda cue, steps: jnp.stack([_sign(cue) * (1.0 - 2.0 * (steps % 2)), jnp.ones(())]),
        lambda cue, action: action[0] * _sign(cue),
        _never,
    ),
    "probe_memory": _Probe(
        lambda cue, steps: jnp.stack([jnp.where(steps == 0, _sign(cue), 0.0), jnp.ones(())]),
        lambda cue, action: action[0] * _sign(cue),
        _never,
    ),
    "probe_steps": _Probe(
        _constant_obs,
        lambda cue, action: jnp.ones(()),
        lambda cue, steps: steps >= _length(cue),
    ),
    "probe_nan": _Probe(_constant_obs, lambda cue, action: jnp.where(action[0] > 0.0, jnp.nan, 1.0), _never),
}


def make(config: TaskConfig) -> Task:
    """Returns a probe task, without an episode limit."""
    name = config.name
    probe = _PROBES[name]

    def reset(key: jax.Array) -> TaskState:
        cue = jax.random.uniform(key, (), minval=-1.0, maxval=1.0)
        return TaskState.start(cue, probe.obs(cue, jnp.zeros((), jnp.int32)))

    def step(state: TaskState, action: jax.Array) -> TaskState:
        cue = state.physics
        steps = state.steps + 1
        # `probe_sign` flips the sign in every step, and rewards the answer to the observation before this step.
        flipped = cue * (1.0 - 2.0 * (state.steps % 2)) if name == "probe_sign" else cue
        reward = probe.reward(flipped, jnp.clip(action, -1.0, 1.0))
        return state.after(cue, probe.obs(cue, steps), reward=reward, done=probe.ends(cue, steps))

    return Task(name, observation_size=2, action_size=1, dt=_STEP_SECONDS, reset=reset, step=step)
