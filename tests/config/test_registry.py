from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.config.schema import TaskConfig
from evoconn_cli.errors import ConfigError, ExitCode
from evoconn_cli.tasks import make_task


def dones_and_rewards(task, num_steps, action=1.0):
    state = task.reset(jax.random.key(0))
    rows = []
    for _ in range(num_steps):
        state = task.step(state, jnp.full((1,), action))
        rows.append((bool(state.done), float(state.reward), int(state.steps)))
    return [list(column) for column in zip(*rows, strict=True)]


def test_the_episode_ends_at_the_limit():
    dones, rewards, steps = dones_and_rewards(make_task(TaskConfig("probe_bias", episode_length=4)), 5)
    assert dones == [False, False, False, True, True]
    assert rewards == [1.0] * 5
    assert steps == [1, 2, 3, 4, 5]


def test_an_episode_that_ends_by_itself_ends_before_the_limit():
    task = make_task(TaskConfig("probe_steps", episode_length=1000))
    length = 1 + int(np.floor((float(task.reset(jax.random.key(0)).physics) + 1) * 8))
    dones, _, _ = dones_and_rewards(task, 16)
    assert dones.index(True) + 1 == length


def test_repeated_actions_add_rewards_up_and_the_limit_counts_physics_steps():
    task = make_task(TaskConfig("probe_bias", episode_length=10, action_repeat=3))
    dones, rewards, steps = dones_and_rewards(task, 4, action=0.5)
    assert rewards == [1.5] * 4
    assert steps == [3, 6, 9, 12]
    assert dones == [False, False, False, True]
    assert task.dt == pytest.approx(3 * make_task(TaskConfig("probe_bias")).dt)


def test_repeated_actions_are_the_single_steps_one_after_the_other():
    single, repeated = make_task(TaskConfig("probe_sign")), make_task(TaskConfig("probe_sign", action_repeat=3))
    state = single.reset(jax.random.key(3))
    after = repeated.step(state, jnp.ones(1))
    rewards = []
    for _ in range(3):
        state = single.step(state, jnp.ones(1))
        rewards.append(float(state.reward))
    assert float(after.reward) == sum(rewards)
    assert sorted(rewards) != [rewards[0]] * 3
    for ours, theirs in zip(after._replace(reward=0), state._replace(reward=0), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("hoper", "hopper"), ("Humanoid", "humanoid"), ("walker", "walker2d"), ("probe_sing", "probe_sign")],
)
def test_an_unknown_task_names_the_nearest_ones(wrong, near):
    with pytest.raises(ConfigError) as error:
        make_task(TaskConfig(wrong))
    assert error.value.exit_code == ExitCode.USAGE
    assert repr(wrong) in str(error.value)
    hint = str(error.value).split("Known:")[0]
    assert "Did you mean" in hint and repr(near) in hint


def test_a_task_that_is_like_no_other_lists_the_known_ones():
    with pytest.raises(ConfigError) as error:
        make_task(TaskConfig("xyzzyx"))
    assert "Did you mean" not in str(error.value)
    assert "hopper" in str(error.value) and "probe" not in str(error.value)
