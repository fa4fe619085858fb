"""Tasks by name, with their episode limit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from evoconn_cli.config.registry import BRAX_V1_TASKS, PROBE_TASKS, TASKS
from evoconn_cli.errors import ConfigError, unknown_name
from evoconn_cli.tasks import Task, TaskState
from evoconn_cli.tasks.brax_v1 import AS_TRAINED, PhysicsScale


def make_task(
    name: str, *, episode_length: int = 1000, action_repeat: int = 1, physics: PhysicsScale = AS_TRAINED
) -> Task:
    """Returns the task `name`, whose episodes end after `episode_length` steps at the latest.

    Args:
        name: of the task.
        episode_length: the limit [physics steps].
        action_repeat: physics steps that an action lasts.
        physics: factors on the physics of a Brax task.

    Raises:
        ConfigError: an unknown name, and the message has the nearest ones; physics that the task does not have.
    """
    if name in PROBE_TASKS:
        if physics != AS_TRAINED:
            raise ConfigError(f"the task {name!r} has no physics that could be perturbed.")
        from evoconn_cli.tasks.probes import make_probe_task

        task = make_probe_task(name)
    elif name in BRAX_V1_TASKS:
        from evoconn_cli.tasks.brax_v1 import make_brax_v1_task

        task = make_brax_v1_task(name, physics)
    else:
        raise unknown_name("task", name, TASKS, listed=BRAX_V1_TASKS)
    return limit_episodes(task, episode_length=episode_length, action_repeat=action_repeat)


def limit_episodes(task: Task, *, episode_length: int, action_repeat: int = 1) -> Task:
    """Returns `task` with episodes of at most `episode_length` steps and each action applied `action_repeat` times.

    As in Brax's EpisodeWrapper the limit counts physics steps, rewards of repeated steps add up, and the last of them
    decides whether the episode ended.
    """

    def repeated_step(state: TaskState, action: jax.Array) -> TaskState:
        if action_repeat == 1:
            return task.step(state, action)

        def body(state: TaskState, _: None) -> tuple[TaskState, jax.Array]:
            state = task.step(state, action)
            return state, state.reward

        state, rewards = jax.lax.scan(body, state, None, length=action_repeat)
        return state._replace(reward=jnp.sum(rewards, axis=0))

    def step(state: TaskState, action: jax.Array) -> TaskState:
        state = repeated_step(state, action)
        return state._replace(done=state.done | (state.steps >= episode_length))

    return dataclasses.replace(task, dt=task.dt * action_repeat, step=step, episode_length=episode_length)
