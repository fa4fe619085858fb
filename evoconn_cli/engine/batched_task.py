"""A task for a block of members, and the rule by which members fail; training and evaluation share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.engine.members_last import members_last
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.tasks import Task, TaskState


class BatchedTask(NamedTuple):
    """A task whose states have the member axis last, `[..., B]`."""

    reset: Callable[[jax.Array], TaskState]  # of keys [B]
    step: Callable[[TaskState, jax.Array], TaskState]  # of states and actions [B, A]


def batch_task(task: Task, *, on_cpu: bool = True) -> BatchedTask:
    """Returns `task` for a block of members.

    A member fails where one of its observations or actions is not finite: its reward is NaN then.

    Args:
        task: of one member.
        on_cpu: what it is compiled for, otherwise a GPU.
    """
    batched_step = members_last(task.step, barriers=on_cpu)
    batched_reset = members_last(
        lambda data: task.reset(jax.random.wrap_key_data(data, impl=KEY_IMPLEMENTATION)), barriers=on_cpu
    )

    def reset(keys: jax.Array) -> TaskState:
        return batched_reset(jax.random.key_data(keys).T)

    def step(state: TaskState, action: jax.Array) -> TaskState:
        after = batched_step(state, action.T)
        finite = _all_finite(after.obs) & _all_finite(action.T)
        return after._replace(reward=jnp.where(finite, after.reward, jnp.nan))

    return BatchedTask(reset, step)


def initial_returns(state: TaskState) -> jax.Array:
    """Returns `[B]` the returns before the first step: 0, and NaN where the first observation is not finite."""
    return jnp.where(_all_finite(state.obs), 0.0, jnp.nan)


def start_over(state: TaskState, initial: TaskState) -> TaskState:
    """Returns `state` with members whose episode ended back at their `initial` state."""
    return jax.tree.map(lambda first, now: jnp.where(state.done, first, now), initial, state)


def _all_finite(x: jax.Array) -> jax.Array:
    """Returns `[B]` bool from `[n, B]`."""
    return jnp.all(jnp.isfinite(x), axis=0)
