"""A saved network as a policy for one episode at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.devices import in_our_arithmetic
from evoconn_cli.networks import Activity, Candidates, Carry, Network
from evoconn_cli.tasks import Task


class Policy(NamedTuple):
    """A network with its normaliser, for one episode at a time; all functions are compiled at their first call.

    Attributes:
        observation_size: O.
        action_size: A.
        initial_carry: `initial_carry(key) -> carry`, the state of the network before an episode.
        step: `step(carry, obs [O]) -> (carry, action [A])`; observations as the task gives them, actions in [-1, 1].
        record: `record(carry, obs [O]) -> (carry, action [A], activity)`, what happened inside beside; spikes are
            `[S, N]` there, for S sub-steps, and all else `[N]`. None for networks without spikes.
    """

    observation_size: int
    action_size: int
    initial_carry: Callable[[jax.Array], Carry]
    step: Callable[[Carry, jax.Array], tuple[Carry, jax.Array]]
    record: Callable[[Carry, jax.Array], tuple[Carry, jax.Array, Activity]] | None


def make_policy(network: Network, task: Task, candidates: Candidates, normalizer: norm.NormalizerState) -> Policy:
    """Returns a policy of one member; the axis of the members is added and taken away here."""
    params = network.prepare(candidates)

    def normalized(obs: jax.Array) -> jax.Array:
        obs = jnp.asarray(obs, jnp.float32)
        if obs.shape != (task.observation_size,):
            raise ValueError(
                f"an observation of {task.name!r} has the shape ({task.observation_size},), not {obs.shape}"
            )
        return norm.normalize(normalizer, obs[:, None]).T

    def with_member(carry: Carry) -> Carry:
        return jax.tree.map(lambda x: x[None], carry)

    def without(tree: Carry) -> Carry:
        return jax.tree.map(lambda x: x[0], tree)

    def initial_carry(key: jax.Array) -> Carry:
        """Returns the state of the network before an episode, drawn with `key`."""
        return without(network.initial_carry(key[None]))

    def step(carry: Carry, obs: jax.Array) -> tuple[Carry, jax.Array]:
        """Returns the next state of the network and the action `[A]`, within [-1, 1].

        Args:
            carry: State of the network, from `initial_carry` or the step before.
            obs: `[O]`, an observation as the task gives it; it is normalised here.

        Raises:
            ValueError: The observation has another shape.
        """
        carry, action = network.step(params, with_member(carry), normalized(obs))
        return without(carry), jnp.clip(action[0], -1.0, 1.0)

    def record(carry: Carry, obs: jax.Array) -> tuple[Carry, jax.Array, Activity]:
        """Returns what `step` does, and the activity of the neurons: spikes `[S, N]` per sub-step, all else `[N]`."""
        assert network.record is not None
        carry, action, activity = network.record(params, with_member(carry), normalized(obs))
        one = Activity(activity.spikes[:, 0], activity.i_in[0], activity.rate[0], activity.updates[0])
        return without(carry), jnp.clip(action[0], -1.0, 1.0), one

    return Policy(
        observation_size=task.observation_size,
        action_size=task.action_size,
        initial_carry=in_our_arithmetic(jax.jit(initial_carry)),
        step=in_our_arithmetic(jax.jit(step)),
        record=in_our_arithmetic(jax.jit(record)) if network.record is not None else None,
    )
