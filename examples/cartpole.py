"""A pole on a cart with two actions, left or right: the sign of the network's output.

    evoconn train --config laptop --plugin examples/cartpole.py --task cartpole algo.generations=20

Return: 500, the most, after 20 generations, which are 2.9 million environment steps. Two CPU cores: 45 s.

Source: Barto, Sutton and Anderson, 1983; constants of Gymnasium's CartPole-v1.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from evoconn_cli import Shape, Task, TaskConfig, TaskState, option, register_task

DT = 0.02  # [s]
GRAVITY = 9.8  # [m/s²]
CART, POLE = 1.0, 0.1  # masses [kg]
HALF = 0.5  # half the length of the pole [m]


@dataclass(frozen=True)
class CartpoleConfig(TaskConfig):
    episode_length: int = option(500, "longest episode", unit="steps", low=1)
    force: float = option(10.0, "force on the cart", unit="N", above=0)


@register_task("cartpole", config=CartpoleConfig)
def make(config):
    """A pole on a cart that is pushed left or right."""

    def reset(key):
        start = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return TaskState.start(start, start)

    def step(state, action):
        x, speed, angle, spin = state.physics
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        force = jnp.where(action[0] > 0, config.force, -config.force)
        push = (force + POLE * HALF * spin**2 * sin) / (CART + POLE)
        turn = (GRAVITY * sin - cos * push) / (HALF * (4 / 3 - POLE * cos**2 / (CART + POLE)))
        acceleration = push - POLE * HALF * turn * cos / (CART + POLE)
        after = state.physics + DT * jnp.stack([speed, acceleration, spin, turn])
        lost = (jnp.abs(after[0]) > 2.4) | (jnp.abs(after[2]) > jnp.radians(12))
        return state.after(after, after, reward=1.0, done=lost)

    def poses(state):
        x, _, angle, _ = state.physics
        centers = jnp.zeros((2, 3)).at[:, 0].set(x)
        half = jnp.array([0.0, angle / 2])  # the pole turns about y
        return centers, jnp.zeros((2, 4)).at[:, 0].set(jnp.cos(half)).at[:, 2].set(jnp.sin(half))

    return Task(
        config.name,
        observation_size=4,
        action_size=1,
        dt=DT,
        reset=reset,
        step=step,
        poses=poses,
        shapes=(
            Shape(0, "box", (0.25, 0.15, 0.1)),
            Shape(1, "capsule", (0.03, HALF), position=(0.0, 0.0, HALF), role="left"),
        ),
        observation_names=("position", "speed", "angle", "spin"),
    )
