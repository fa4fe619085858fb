"""Runs a policy on any Gymnasium environment with spaces that fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from evoconn_cli.engine.devices import our_arithmetic
from evoconn_cli.engine.policy import Policy
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.errors import EvoconnError


class ActedEpisode(NamedTuple):
    """An episode of a policy on a Gymnasium environment."""

    total: float  # return, the sum of the rewards
    length: int  # steps, T
    rewards: np.ndarray  # [T] float64
    terminated: bool  # whether the environment ended it by itself
    truncated: bool  # whether it reached a limit


def act(policy: Policy, env: gymnasium.Env[Any, Any], *, seed: int = 0) -> ActedEpisode:
    """Returns an episode of a policy on a Gymnasium environment, which stays open.

    Observations are converted to float32. Actions in [-1, 1] are scaled to the bounds of the action space.

    Args:
        policy: Policy from `load_run(...).policy()`.
        env: Environment with a limit on its episodes.
        seed: Random seed of the environment and of the initial state of the network, 0 to 2^32 - 1.

    Raises:
        EvoconnError: The spaces do not fit; the message says what to do.
        ValueError: The seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed}: expected 0 to 2^32 - 1")
    if not isinstance(env, gymnasium.Env):
        raise EvoconnError(
            f"{type(env).__name__} is not one Gymnasium environment, and act plays one episode at a time. Use "
            "gymnasium.make."
        )
    _check_observations(policy, env.observation_space)
    space = _check_actions(policy, env.action_space)
    middle, half = (space.high / 2 + space.low / 2), (space.high / 2 - space.low / 2)
    rewards = []
    obs, _ = env.reset(seed=seed)
    with our_arithmetic():
        carry = policy.initial_carry(jax.random.key(np.uint32(seed), impl=KEY_IMPLEMENTATION))
    terminated = truncated = False
    while not (terminated or truncated):
        with our_arithmetic():
            carry, action = policy.step(carry, jnp.asarray(np.asarray(obs, np.float32)))
            action = jax.device_get(action)
        obs, reward, terminated, truncated, _ = env.step((middle + half * action).astype(space.dtype))
        rewards.append(float(reward))
    return ActedEpisode(sum(rewards), len(rewards), np.array(rewards), bool(terminated), bool(truncated))


def _check_observations(policy: Policy, space: gymnasium.Space[Any]) -> None:
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise EvoconnError(
            f"the environment observes {space}, and the policy needs one row of numbers. Add the wrapper "
            "gymnasium.wrappers.FlattenObservation."
        )
    if space.shape != (policy.observation_size,):
        raise EvoconnError(
            f"the environment observes {space.shape[0]} numbers, and the policy was trained with "
            f"{policy.observation_size}. Choose an environment with the observations of its task."
        )


def _check_actions(policy: Policy, space: gymnasium.Space[Any]) -> Box:
    if not isinstance(space, Box) or len(space.shape) != 1 or space.dtype is None or space.dtype.kind != "f":
        raise EvoconnError(
            f"the environment takes actions of {space}, and the policy gives {policy.action_size} numbers in [-1, 1]. "
            "Convert them with the wrapper gymnasium.wrappers.TransformAction."
        )
    if space.shape != (policy.action_size,):
        raise EvoconnError(
            f"the environment takes {space.shape[0]} numbers as an action, and the policy gives {policy.action_size}. "
            "Choose an environment with the actions of its task."
        )
    if not space.is_bounded():
        raise EvoconnError(
            f"the environment takes actions of {space} without bounds that [-1, 1] could be scaled to. Set bounds with "
            "the wrapper gymnasium.wrappers.RescaleAction or TransformAction."
        )
    return space
