"""Tasks: what a network has to do, as pure functions of one member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax

Physics: TypeAlias = Any
"""A pytree of arrays that only the task itself looks into."""


class TaskState(NamedTuple):
    """State of one member's episode; the rollout gives every field a trailing member axis."""

    physics: Physics
    obs: jax.Array  # [O] float32
    reward: jax.Array  # [] float32, of the last step
    done: jax.Array  # [] bool, whether the episode ended with the last step
    steps: jax.Array  # [] int32, steps of this episode so far


@dataclass(frozen=True)
class Task:
    """An episodic task, written for one member.

    Attributes:
        name: the name on the command line.
        observation_size: O.
        action_size: A.
        dt: time that one step simulates [s].
        reset: `reset(key) -> state` draws the start of an episode.
        step: `step(state, action [A]) -> state`; the action is clipped to [-1, 1] by the task.
        episode_length: an episode ends after so many physics steps at the latest, or None.
    """

    name: str
    observation_size: int
    action_size: int
    dt: float
    reset: Callable[[jax.Array], TaskState]
    step: Callable[[TaskState, jax.Array], TaskState]
    episode_length: int | None = None
