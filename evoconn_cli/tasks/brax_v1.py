"""The locomotion and manipulation tasks of Brax v1."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from evoconn_cli.tasks import Task, TaskState
from evoconn_cli.tasks.brax_compat import import_brax_envs
from evoconn_cli.tasks.physics import AS_TRAINED, PhysicsScale, make_scaled_environment

_RAW_KEY = "threefry2x32"
"""The generator of the keys that Brax draws from: arrays without a type."""


def brax_v1_environment(name: str, physics: PhysicsScale = AS_TRAINED) -> Any:
    """Returns Brax's own environment `name` (`brax.envs.Env`), one object a process, which nobody may change.

    Args:
        name: of the environment.
        physics: factors on its physics.

    Raises:
        ConfigError: a factor that changes nothing in this environment.
    """
    return _environment(name, physics)


# Cached behind the public function: a cache takes a default that is left out and one that is given for two calls.
@functools.cache
def _environment(name: str, physics: PhysicsScale) -> Any:
    envs = import_brax_envs()
    with warnings.catch_warnings():
        # Some environments make Brax warn about their own configuration, which nobody here can change.
        warnings.simplefilter("ignore")
        return envs.get_environment(name) if physics == AS_TRAINED else make_scaled_environment(envs, name, physics)


def body_poses(state: TaskState) -> tuple[jax.Array, jax.Array]:
    """Returns where the bodies of a Brax v1 task are.

    `[bodies, 3]` centres [m], and `[bodies, 4]` quaternions (w, x, y, z).
    """
    qp, _ = state.physics
    return qp.pos, qp.rot


def make_brax_v1_task(name: str, physics: PhysicsScale = AS_TRAINED) -> Task:
    """Returns the Brax v1 environment `name` as a `Task`, without an episode limit.

    Brax's metrics are dropped: no environment reads them, and they would be carried and computed every step.

    Args:
        name: of the environment.
        physics: factors on its physics.

    Raises:
        ConfigError: a factor that changes nothing in this environment.

    Source: Brax 0.1.2, `brax.envs`; constants of the paper's tasks as Brax has them.
    """
    return _task(name, physics)


def _of_raw_keys(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `fn`, which takes raw keys for what they are whatever JAX's default generator is."""

    def call(*args: Any) -> Any:
        with jax.default_prng_impl(_RAW_KEY):
            return fn(*args)

    return call


# Cached behind the public function, as `_environment`.
@functools.cache
def _task(name: str, physics: PhysicsScale) -> Task:
    envs = import_brax_envs()
    env = brax_v1_environment(name, physics)
    env_reset, env_step = _of_raw_keys(env.reset), _of_raw_keys(env.step)
    reset_shape = jax.eval_shape(env_reset, jax.ShapeDtypeStruct((2,), jnp.uint32))
    no_metrics = {key: jnp.zeros(value.shape, value.dtype) for key, value in reset_shape.metrics.items()}

    def pack(state) -> TaskState:
        return TaskState(
            physics=(state.qp, state.info),
            obs=state.obs,
            reward=jnp.asarray(state.reward, jnp.float32),
            done=jnp.asarray(state.done, jnp.float32) > 0.5,
            steps=jnp.zeros((), jnp.int32),
        )

    def reset(key: jax.Array) -> TaskState:
        return pack(env_reset(jax.random.bits(key, (2,), jnp.uint32)))

    def step(state: TaskState, action: jax.Array) -> TaskState:
        qp, info = state.physics
        before = envs.State(qp, state.obs, state.reward, jnp.zeros_like(state.reward), dict(no_metrics), dict(info))
        after = pack(env_step(before, jnp.clip(action, -1.0, 1.0)))
        return after._replace(steps=state.steps + 1)

    return Task(
        name=name,
        observation_size=reset_shape.obs.shape[-1],
        action_size=env.action_size,
        dt=float(env.sys.config.dt),
        reset=reset,
        step=step,
    )
