"""What a policy does in one step: a network with its normaliser, for a block or for one episode at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.engine.devices import in_our_arithmetic
from evoconn_cli.engine.normalizer import NormalizerState, normalize
from evoconn_cli.networks import Activity, Carry, Network, Params
from evoconn_cli.tasks import Task


class PolicyParams(NamedTuple):
    """Arrays that a policy computes with; as arguments of a program they let it serve every generation."""

    network: Params  # from `network.prepare`
    normalizer: NormalizerState  # statistics of the observations, which no step changes


def act(network: Network, params: Params, carry: Carry, obs: jax.Array) -> tuple[Carry, jax.Array, Activity | None]:
    """Returns the carry, the actions `[B, A]` and, for a network with spikes, the activity of its neurons.

    Args:
        network: Network of the policy.
        params: Parameters from `network.prepare`.
        carry: State of the network.
        obs: `[B, O]` normalised observations.
    """
    if network.record is None:
        return *network.step(params, carry, obs), None
    return network.record(params, carry, obs)


def normalize_one(normalizer: NormalizerState, obs: jax.Array) -> jax.Array:
    """Returns `[1, O]`, one observation `[O]` normalised."""
    return normalize(normalizer, obs[:, None]).T


class Policy(NamedTuple):
    """A saved network as a policy for one episode at a time. Every function is compiled when it is first called.

    Attributes:
        observation_size: O.
        action_size: A.
        initial_carry: `initial_carry(key) -> carry`, state of the network before an episode.
        step: `step(carry, obs [O]) -> (carry, action [A])`; takes observations as the task gives them, and returns
            actions in [-1, 1].
        record: `record(carry, obs [O]) -> (carry, action [A], activity)`, the same with the activity of the neurons:
            spikes `[S, N]` per sub-step, all else `[N]`. None for networks without spikes.
    """

    observation_size: int
    action_size: int
    initial_carry: Callable[[jax.Array], Carry]
    step: Callable[[Carry, jax.Array], tuple[Carry, jax.Array]]
    record: Callable[[Carry, jax.Array], tuple[Carry, jax.Array, Activity]] | None


def make_policy(network: Network, task: Task, params: PolicyParams) -> Policy:
    """Returns a network as a policy whose arrays have no member axis.

    Args:
        network: Network of the policy.
        task: Task, which gives the sizes of observation and action.
        params: Parameters of the policy, for a block of one member.
    """

    def normalized(obs: jax.Array) -> jax.Array:
        obs = jnp.asarray(obs, jnp.float32)
        if obs.shape != (task.observation_size,):
            raise ValueError(
                f"an observation of {task.name!r} has the shape ({task.observation_size},), not {obs.shape}"
            )
        return normalize_one(params.normalizer, obs)

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
            obs: `[O]` observation as the task gives it.

        Raises:
            ValueError: The observation has another shape.
        """
        carry, action = network.step(params.network, with_member(carry), normalized(obs))
        return without(carry), jnp.clip(action[0], -1.0, 1.0)

    def record(carry: Carry, obs: jax.Array) -> tuple[Carry, jax.Array, Activity]:
        """Returns what `step` does, and the activity of the neurons: spikes `[S, N]` per sub-step, all else `[N]`."""
        carry, action, activity = act(network, params.network, with_member(carry), normalized(obs))
        assert activity is not None
        one = Activity(activity.spikes[:, 0], activity.i_in[0], activity.rate[0], activity.updates[0])
        return without(carry), jnp.clip(action[0], -1.0, 1.0), one

    return Policy(
        observation_size=task.observation_size,
        action_size=task.action_size,
        initial_carry=in_our_arithmetic(jax.jit(initial_carry)),
        step=in_our_arithmetic(jax.jit(step)),
        record=in_our_arithmetic(jax.jit(record)) if network.record is not None else None,
    )
