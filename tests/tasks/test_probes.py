from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.config.registry import entries
from evoconn_cli.config.schema import TaskConfig
from evoconn_cli.tasks import make_task

KEYS = [jax.random.key(seed) for seed in range(6)]


def play(name, key, policy, num_steps=12, **options):
    """Returns observations (the first one included), rewards and dones of `num_steps` steps."""
    task = make_task(TaskConfig(name, **options))
    state = task.reset(key)
    observations, rewards, dones = [np.asarray(state.obs)], [], []
    for t in range(num_steps):
        state = task.step(state, jnp.asarray([policy(t, observations)], jnp.float32))
        observations.append(np.asarray(state.obs))
        rewards.append(float(state.reward))
        dones.append(bool(state.done))
    return np.stack(observations), np.asarray(rewards), np.asarray(dones)


@pytest.mark.parametrize("name", [entry.name for entry in entries("task") if entry.hidden])
def test_sizes_and_start(name):
    task = make_task(TaskConfig(name))
    state = task.reset(KEYS[0])
    assert (task.name, task.observation_size, task.action_size) == (name, 2, 1)
    assert state.obs.shape == (2,)
    assert (state.obs.dtype, state.reward.dtype, state.done.dtype) == (jnp.float32, jnp.float32, jnp.bool_)
    assert (int(state.steps), bool(state.done), float(state.reward)) == (0, False, 0.0)
    np.testing.assert_array_equal(task.reset(KEYS[0]).physics, state.physics)
    assert float(task.reset(KEYS[1]).physics) != float(state.physics)


def test_probe_bias_rewards_the_action_whatever_is_observed():
    actions = np.linspace(-1.5, 1.5, 12)
    obs, rewards, dones = play("probe_bias", KEYS[0], lambda t, _: actions[t])
    np.testing.assert_allclose(rewards, np.clip(actions, -1, 1), rtol=1e-6)
    np.testing.assert_allclose(obs, np.stack([np.ones(13), np.cos(np.arange(13))], axis=1), rtol=1e-5)
    assert not dones.any()


@pytest.mark.parametrize("key", KEYS)
def test_probe_sign_rewards_the_answer_to_the_observation_of_the_same_step(key):
    obs, rewards, dones = play("probe_sign", key, lambda t, seen: 0.5 * seen[t][0])
    np.testing.assert_array_equal(rewards, 0.5)
    np.testing.assert_array_equal(obs[:, 0] * obs[0, 0], 1 - 2 * (np.arange(13) % 2))
    np.testing.assert_array_equal(obs[:, 1], 1)
    assert not dones.any()
    _, constant, _ = play("probe_sign", key, lambda t, _: 1.0)
    assert constant.sum() == 0, "a constant action earns nothing"
    _, late, _ = play("probe_sign", key, lambda t, seen: seen[t - 1][0] if t else 0.0)
    np.testing.assert_array_equal(late[1:], -1)


@pytest.mark.parametrize("key", KEYS)
def test_probe_memory_shows_the_cue_once_and_rewards_it_ever_after(key):
    obs, rewards, dones = play("probe_memory", key, lambda t, seen: 2.0 * seen[0][0])
    np.testing.assert_array_equal(rewards, 1)
    assert abs(obs[0, 0]) == 1
    np.testing.assert_array_equal(obs[1:, 0], 0)
    np.testing.assert_array_equal(obs[:, 1], 1)
    assert not dones.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["probe_sign", "probe_memory"])
def test_both_cues_occur(name):
    task = make_task(TaskConfig(name))
    first = jax.vmap(lambda key: task.reset(key).obs[0])(jax.random.split(jax.random.key(0), 200))
    assert set(np.asarray(first).tolist()) == {-1.0, 1.0}
    assert abs(float(jnp.mean(first))) < 5 / np.sqrt(200)


@pytest.mark.slow
def test_probe_steps_ends_after_1_to_16_steps_and_pays_1_a_step():
    task = make_task(TaskConfig("probe_steps"))
    states = jax.vmap(task.reset)(jax.random.split(jax.random.key(1), 400))
    length = 1 + np.floor((np.asarray(states.physics) + 1) * 8).astype(int)
    assert set(length.tolist()) == set(range(1, 17))
    step = jax.vmap(task.step)
    for t in range(1, 18):
        states = step(states, jnp.zeros((400, 1)))
        np.testing.assert_array_equal(states.done, length <= t)
        np.testing.assert_array_equal(states.reward, 1)


def test_probe_nan_pays_nan_while_the_action_is_positive():
    _, rewards, dones = play("probe_nan", KEYS[0], lambda t, _: [-1.0, 0.0, 0.1][t % 3])
    np.testing.assert_array_equal(rewards, np.tile([1, 1, np.nan], 4))
    assert not dones.any()
