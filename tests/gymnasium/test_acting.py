"""Policies on Gymnasium environments, and the examples of the documentation."""

from __future__ import annotations

import re

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from paths import DOCS
from saved_runs import save_run

import evoconn_cli
from evoconn_cli.engine.policy import Policy
from evoconn_cli.errors import EvoconnError

LOWER, UPPER = Box(-1, 1, (2,), np.float32), Box(-1, 1, (3,), np.float64)


class Foreign(gymnasium.Env):
    """Rewards the first number of an action; four steps."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.actions = []
        return self.np_random.random(3), {}

    def step(self, action):
        self.actions.append(action)
        return np.full(3, len(self.actions), float), action[0], False, len(self.actions) == 4, {}


def constant(action):
    """Returns a policy that always gives `action` and keeps what it has observed."""
    seen = []

    def step(carry, obs):
        seen.append(obs)
        return carry, np.array(action, np.float32)

    return Policy(3, len(action), lambda key: jax.random.key_data(key), step, None), seen


def test_actions_are_scaled_to_the_bounds_and_observations_are_float32():
    policy, seen = constant([-1.0, 0.5])
    env = Foreign(UPPER, Box(np.array([1.0, -3.0]), np.array([2.0, 1.0]), dtype=np.float64))
    episode = evoconn_cli.act(policy, env, seed=5)
    np.testing.assert_array_equal(env.actions, [[1.0, 0.0]] * 4)
    assert env.actions[0].dtype == np.float64
    assert (episode.total, episode.length, episode.terminated, episode.truncated) == (4.0, 4, False, True)
    np.testing.assert_array_equal(episode.rewards, [1.0] * 4)
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence(5))).random(3).astype(np.float32)
    np.testing.assert_array_equal(seen[0], expected)
    assert all(obs.dtype == np.float32 for obs in seen) and [obs[0] for obs in seen[1:]] == [1, 2, 3]


def test_actions_of_the_bounds_of_a_policy_stay_as_they_are():
    policy, _ = constant([0.1, -0.7])
    env = Foreign(UPPER, LOWER)
    evoconn_cli.act(policy, env)
    np.testing.assert_array_equal(env.actions[0], np.array([0.1, -0.7], np.float32))


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (Box(-1, 1, (4,)), LOWER, "observes 4 numbers.*trained with 3"),
        (Box(-1, 1, (1, 3)), LOWER, "FlattenObservation"),
        (Dict({"a": UPPER}), LOWER, "FlattenObservation"),
        (UPPER, Box(-1, 1, (5,)), "takes 5 numbers.*gives 2"),
        (UPPER, Discrete(2), r"actions of Discrete\(2\).*gives 2 numbers.*TransformAction"),
        (UPPER, Box(0, 9, (2,), np.int32), "actions of Box.*int32.*TransformAction"),
        (UPPER, Box(-1, np.inf, (2,)), "without bounds"),
    ],
)
def test_spaces_that_do_not_fit_are_told(observations, actions, message):
    with pytest.raises(EvoconnError, match=message):
        evoconn_cli.act(constant([0.0, 0.0])[0], Foreign(observations, actions))


def test_many_environments_at_once_are_refused():
    envs = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(EvoconnError, match="not one Gymnasium environment.*gymnasium.make"):
        evoconn_cli.act(constant([0.0])[0], envs)
    with pytest.raises(ValueError, match="seed=-1"):
        evoconn_cli.act(constant([0.0, 0.0])[0], Foreign(UPPER, LOWER), seed=-1)


@pytest.mark.slow
def test_a_run_acts_as_on_its_own_task_whatever_switches_the_host_program_has(tmp_path):
    run = evoconn_cli.load_run(save_run(tmp_path / "run"))
    policy, env = run.policy(), gymnasium.make("evoconn_cli.gymnasium:evoconn/probe_sign-v1", episode_length=8)
    episode = evoconn_cli.act(policy, env, seed=4)
    with jax.enable_x64(True), jax.transfer_guard("disallow"):
        np.testing.assert_array_equal(evoconn_cli.act(policy, env, seed=4).rewards, episode.rewards)
    data = np.random.Generator(np.random.PCG64(4)).integers(2**32, size=2, dtype=np.uint32)
    state = run.task.reset(jax.random.wrap_key_data(data, impl="threefry2x32"))
    carry, rewards = policy.initial_carry(jax.random.key(4)), []
    while not state.done:
        carry, action = policy.step(carry, state.obs)
        state = run.task.step(state, action)
        rewards.append(float(state.reward))
    np.testing.assert_allclose(episode.rewards, rewards, rtol=1e-6)
    assert episode.length == 8 and episode.truncated and episode.total == pytest.approx(sum(rewards))


@pytest.mark.slow
def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch, capsys):
    """On a probe, which is compiled at once; Stable-Baselines3 is not installed."""
    examples = re.findall(r"```python\n(.*?)```", (DOCS / "gymnasium.md").read_text(), flags=re.DOTALL)
    shown = [code for code in examples if "stable_baselines3" not in code]
    assert len(shown) == len(examples) - 1 == 3
    save_run(tmp_path / "runs" / "hopper-ec")
    monkeypatch.chdir(tmp_path)
    for code in shown:
        code = code.replace("hopper-v1", "probe_sign-v1").replace(', render_mode="rgb_array"', "")
        exec(code.replace('v1")', 'v1", episode_length=8)'), {})
    said = capsys.readouterr().out
    assert re.search(r"^return -?\d+\.\d in 8 steps$", said, re.MULTILINE) and "0 episodes" in said
