"""Tasks as pure functions of one member."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import TaskConfig
from evoconn_cli.errors import ConfigError

Physics: TypeAlias = Any
"""A pytree of arrays that only the task itself looks into."""


class TaskState(NamedTuple):
    """State of one member's episode; the rollout gives every field a trailing member axis."""

    physics: Physics
    obs: jax.Array  # [O] float32
    reward: jax.Array  # [] float32, of the last step
    done: jax.Array  # [] bool, whether the episode ended with the last step
    steps: jax.Array  # [] int32, steps of this episode so far

    @classmethod
    def start(cls, physics: Physics, obs: jax.Array) -> TaskState:
        """Returns the state before the first step of an episode."""
        return cls(physics, obs, jnp.zeros(()), jnp.zeros((), bool), jnp.zeros((), jnp.int32))

    def after(
        self, physics: Physics, obs: jax.Array, *, reward: jax.Array | float, done: jax.Array | bool = False
    ) -> TaskState:
        """Returns the state one step later, which earned `reward`; `done` says whether that step ended the episode."""
        return TaskState(physics, obs, jnp.asarray(reward, jnp.float32), jnp.asarray(done, bool), self.steps + 1)


class PhysicsScale(NamedTuple):
    """Factors on the physics of a task; 1 leaves it as the policy was trained with."""

    friction: float = 1.0
    gravity: float = 1.0
    mass: float = 1.0
    actuator_strength: float = 1.0


AS_TRAINED = PhysicsScale()


Poses: TypeAlias = Callable[[TaskState], tuple[jax.Array, jax.Array]]
"""`poses(state) -> (centres [bodies, 3] [m], quaternions [bodies, 4] (w, x, y, z))` of a task's bodies."""


class Shape(NamedTuple):
    """A shape to draw, fixed to a body.

    | kind | size |
    |---|---|
    | `capsule` | radius, half the length of its straight part, which lies along z |
    | `sphere` | radius |
    | `box` | half of each edge: x, y, z |
    | `plane` | empty: it is infinite, with the normal z |
    """

    body: int
    kind: str
    size: tuple[float, ...]  # [m]
    position: tuple[float, ...] = (0.0, 0.0, 0.0)  # centre in the frame of the body: x, y, z [m]
    rotation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)  # quaternion (w, x, y, z) in the frame of the body
    role: str = "body"  # or floor, target, mount (does not move), left (a limb)

    @property
    def reach(self) -> float:
        """Distance from the centre to its farthest point [m]; 0 for a plane."""
        return math.hypot(*self.size) if self.kind == "box" else sum(self.size)


@dataclass(frozen=True)
class Task:
    """An episodic task, written for one member.

    Attributes:
        name: Name on the command line.
        observation_size: O.
        action_size: A.
        dt: Simulated time per step [s].
        reset: `reset(key) -> state` draws the start of an episode.
        step: `step(state, action [A]) -> state`; the action is clipped to [-1, 1] by the task.
        episode_length: Longest episode [physics steps], or None.
        alive_bonus: Part of every step's reward that is paid for not having fallen.
        poses: Where the bodies to draw are, or None if there are none.
        shapes: What the bodies look like, if there are poses; a floor is added if none of them is one.
        is_planar: Whether everything moves in the ground plane, which is then seen from above.
        rescaled: `rescaled(scale) -> Task` with other physics, without an episode limit, or None; it raises a
            ConfigError for a factor that changes nothing.
        observation_names: `O` names, or none.
        action_names: `A` names, or none.
    """

    name: str
    observation_size: int
    action_size: int
    dt: float
    reset: Callable[[jax.Array], TaskState]
    step: Callable[[TaskState, jax.Array], TaskState]
    episode_length: int | None = None
    alive_bonus: float = 0.0
    poses: Poses | None = None
    shapes: Sequence[Shape] = ()
    is_planar: bool = False
    rescaled: Callable[[PhysicsScale], Task] | None = None
    observation_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()


def make_task(config: TaskConfig, physics: PhysicsScale = AS_TRAINED) -> Task:
    """Returns the task of a run, with its episode limit.

    Args:
        config: Configuration of the task.
        physics: Factors on its physics.

    Raises:
        ConfigError: An unknown name, or physics that the task does not have.
        PluginError: The task comes from a plug-in that does not make it.
    """
    task = make_unlimited_task(config, physics)
    return limit_episodes(task, episode_length=config.episode_length, action_repeat=config.action_repeat)


def make_unlimited_task(config: TaskConfig, physics: PhysicsScale = AS_TRAINED) -> Task:
    """Returns the task of a run whose episodes end only where the task itself ends them; arguments as for `make_task`.

    Its steps are single physics steps.
    """
    task = find("task", config.name).made(Task, config)
    if physics != AS_TRAINED:
        if task.rescaled is None:
            raise ConfigError(f"the task {config.name!r} has no physics that could be perturbed.")
        task = task.rescaled(physics)
    return task


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

    return dataclasses.replace(
        task,
        dt=task.dt * action_repeat,
        step=step,
        episode_length=episode_length,
        alive_bonus=task.alive_bonus * action_repeat,
    )
