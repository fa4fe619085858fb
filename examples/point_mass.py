"""A point on a plane that is pushed towards a target.

    evoconn train --config laptop --plugin examples/point_mass.py --task point_mass algo.generations=60

Return: 79 of at most 100 after 60 generations, which are 3.1 million environment steps. Two CPU cores: 45 s.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from evoconn_cli import Shape, Task, TaskConfig, TaskState, option, register_task

DT = 0.05  # [s]
DRAG = 1.0  # [N s/m]


@dataclass(frozen=True)
class PointMassConfig(TaskConfig):
    episode_length: int = option(100, "longest episode", unit="steps", low=1)
    mass: float = option(1.0, "mass of the point", unit="kg", above=0)


@register_task("point_mass", config=PointMassConfig)
def make(config):
    """A point on a plane that is pushed towards a target."""

    def observe(physics):
        position, velocity, target = physics
        return jnp.concatenate([target - position, velocity])

    def reset(key):
        angle = jax.random.uniform(key, maxval=2 * jnp.pi)
        physics = jnp.zeros(2), jnp.zeros(2), jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return TaskState.start(physics, observe(physics))

    def step(state, action):
        position, velocity, target = state.physics
        force = jnp.clip(action, -1.0, 1.0) - DRAG * velocity
        velocity = velocity + DT * force / config.mass
        position = position + DT * velocity
        physics = position, velocity, target
        return state.after(physics, observe(physics), reward=jnp.exp(-jnp.linalg.norm(target - position)))

    def poses(state):
        position, _, target = state.physics
        centers = jnp.zeros((2, 3)).at[:, :2].set(jnp.stack([position, target]))
        return centers, jnp.zeros((2, 4)).at[:, 0].set(1.0)  # nothing turns

    return Task(
        config.name,
        observation_size=4,
        action_size=2,
        dt=DT,
        reset=reset,
        step=step,
        poses=poses,
        shapes=(Shape(0, "sphere", (0.1,)), Shape(1, "sphere", (0.05,), role="target")),
        is_planar=True,
    )
