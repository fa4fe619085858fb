"""Tasks as Gymnasium environments: its own checker, its own vector environment as a second path, and every mistake."""

from __future__ import annotations

import dataclasses
import importlib
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode

import evoconn_cli.gymnasium  # noqa: F401
from evoconn_cli.config import registry
from evoconn_cli.config.registry import names
from evoconn_cli.errors import EvoconnError
from evoconn_cli.gymnasium.environments import TaskEnv
from evoconn_cli.rendering.mujoco import find_backend
from evoconn_cli.tasks import Task

PROBE = "evoconn/probe_steps-v1"
needs_gl = pytest.mark.skipif(find_backend()[0] is None, reason="MuJoCo cannot draw here")


def test_every_task_is_registered_and_so_is_one_that_comes_later(monkeypatch):
    assert {f"evoconn/{name}-v1" for name in names("task")} <= gymnasium.registry.keys()
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    registry.register(registry.Entry("task", "probe_later", "A task.", "m:C", "m:make"))
    assert gymnasium.registry.pop("evoconn/probe_later-v1").kwargs == {"name": "probe_later"}
    registry.register(registry.Entry("network", "later", "A network.", "m:C", "m:make"))
    assert "evoconn/later-v1" not in gymnasium.registry


def test_the_module_may_be_named_with_the_environment():
    env = gymnasium.make("evoconn_cli.gymnasium:evoconn/probe_sign-v1", episode_length=4)
    assert env.observation_space.shape == (2,) and env.observation_space.dtype == np.float32
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


@pytest.mark.parametrize("name", ["probe_sign", pytest.param("hopper", marks=[pytest.mark.slow, needs_gl])])
def test_gymnasiums_checker_finds_nothing(name):
    """A warning would be an error here."""
    check_env(gymnasium.make(f"evoconn/{name}-v1").unwrapped)


MODES = {mode: mode.value for mode in AutoresetMode}


def played(envs, num_steps, seed):
    """Yields what `reset` and `step` of a vector environment return; `DISABLED` lanes are reset when they end."""
    rng = np.random.default_rng(0)
    yield envs.reset(seed=seed)
    for _ in range(num_steps):
        seen = envs.step(rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32))
        yield seen
        ended = seen[2] | seen[3]
        if envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED and ended.any():
            yield envs.reset(options={"reset_mask": ended})


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=MODES.values())
def test_lanes_are_the_single_environments(mode):
    """Second path: Gymnasium's vector environment, which plays single ones in a loop."""
    options = {"episode_length": 10, "num_envs": 3}
    ours = gymnasium.make_vec(PROBE, autoreset_mode=mode, **options)
    theirs = gymnasium.make_vec(PROBE, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert ours.metadata == theirs.metadata
    truncations = terminations = 0
    for one, other in zip(played(ours, 60, 7), played(theirs, 60, 7), strict=True):
        assert data_equivalence(one, other, exact=True), f"{one} is not {other}"
        if len(one) == 5:
            terminations, truncations = terminations + one[2].sum(), truncations + one[3].sum()
    assert terminations > 3 and truncations > 3


@pytest.mark.slow
def test_lanes_of_a_body_are_the_single_environments():
    ours = gymnasium.make_vec("evoconn/hopper-v1", num_envs=2)
    theirs = gymnasium.make_vec("evoconn/hopper-v1", num_envs=2, vectorization_mode="sync")
    for one, other in zip(played(ours, 6, [5, 3]), played(theirs, 6, [5, 3]), strict=True):
        for x, y in zip(one[:-1], other[:-1], strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-3)  # rounding grows with every step


def episode(env, seed=None):
    """Returns the rewards of an episode, and how it ended: terminated and truncated."""
    env.reset(seed=seed)
    rewards, ended = [], False
    while not ended:
        _, reward, terminated, truncated, _ = env.step(np.array([1.0]))
        rewards.append(reward)
        ended = terminated or truncated
    return rewards, terminated, truncated


def test_a_limit_truncates_and_only_the_task_terminates():
    env = gymnasium.make(PROBE, episode_length=10)
    env.reset(seed=3)
    ends = [(len(rewards), *flags) for rewards, *flags in (episode(env) for _ in range(30))]
    assert all(flags == [True, False] for length, *flags in ends if length < 10)
    assert (10, False, True) in ends and max(ends)[0] == 10


def test_an_end_at_the_limit_is_both():
    env = gymnasium.make(PROBE)
    length = len(episode(env, seed=3)[0])
    assert episode(env, seed=3)[1:] == (True, False)
    assert episode(gymnasium.make(PROBE, episode_length=length), seed=3)[1:] == (True, True)
    assert episode(gymnasium.make(PROBE, max_episode_steps=length), seed=3)[1:] == (True, True)


def test_repeated_actions_add_up_and_count_towards_the_limit():
    env = gymnasium.make("evoconn/probe_bias-v1", episode_length=np.int64(6), action_repeat=2)
    assert episode(env, seed=0)[0] == [2.0, 2.0, 2.0]
    assert env.metadata["render_fps"] == pytest.approx(1 / (2 * 0.0166))
    envs = gymnasium.make_vec("evoconn/probe_bias-v1", action_repeat=2, max_episode_steps=3)
    envs.reset(seed=0)
    assert [bool(envs.step(np.ones((1, 1)))[3][0]) for _ in range(3)] == [False, False, True]


def test_a_seed_fixes_this_and_all_later_episodes():
    env = gymnasium.make(PROBE)
    first, second, third = ([len(episode(env, seed)[0]) for seed in (start, *[None] * 7)] for start in (1, 1, 2))
    assert first == second != third and len(set(first)) > 3


@pytest.mark.slow
def test_switches_of_the_host_program_change_nothing_and_stay():
    def all_seen():
        env = gymnasium.make("evoconn/probe_memory-v1")
        return [env.reset(seed=1)[0], *(env.step(np.array([0.5]))[0] for _ in range(2))]

    expected = all_seen()
    with jax.enable_x64(True), jax.transfer_guard("disallow"), jax.debug_nans(True), jax.default_prng_impl("rbg"):
        assert data_equivalence(all_seen(), expected, exact=True)
        assert jax.config.values["jax_enable_x64"] and jax.config.values["jax_debug_nans"]


def test_poses_without_shapes_are_not_drawn(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    probe = registry.find("task", "probe_steps")

    def make(config):
        task = probe.made(Task, dataclasses.replace(config, name="probe_steps"))
        return dataclasses.replace(task, poses=lambda state: (jnp.zeros((1, 3)), jnp.zeros((1, 4))))

    registry.register(dataclasses.replace(probe, name="shapeless", make=make))
    assert gymnasium.make("evoconn/shapeless-v1").metadata["render_modes"] == []
    with pytest.raises(EvoconnError, match="has no bodies to draw"):
        TaskEnv("shapeless", render_mode="rgb_array")
    gymnasium.registry.pop("evoconn/shapeless-v1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episode_lenght": 5}, "unknown key 'episode_lenght'. Did you mean 'episode_length'"),
        ({"episode_length": 0}, "episode_length=0: must be at least 1"),
        ({"episode_length": "long"}, "episode_length=long: must be a whole number"),
        ({"episode_length": object()}, "options of the task 'probe_steps' cannot be read"),
        ({"render_mode": "ansi"}, "unknown render_mode 'ansi'"),
        ({"render_mode": "rgb_array"}, "'probe_steps' has no bodies to draw"),
        ({"render_mode": "rgb_array", "camera": "sid"}, "unknown camera 'sid'. Did you mean 'side'"),
        ({"render_mode": "rgb_array", "width": 10}, "width=10, height=480: expected 64 to 4096"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*possible render_modes")
def test_an_option_that_is_wrong_is_told(options, message):
    with pytest.raises(EvoconnError, match=message.replace(".", r"\.")):
        gymnasium.make(PROBE, **options)
    with pytest.raises(EvoconnError, match=message.replace(".", r"\.")):
        gymnasium.make_vec(PROBE, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"autoreset_mode": "SameStp"}, "unknown autoreset_mode 'SameStp'.*SameStep"),
        ({"max_episode_steps": 0}, "must be at least 1"),
    ],
)
def test_an_option_of_vectors_that_is_wrong_is_told(options, message):
    with pytest.raises(EvoconnError, match=message):
        gymnasium.make_vec(PROBE, **options)


def test_calls_that_make_no_sense_are_told():
    env = gymnasium.make(PROBE).unwrapped
    with pytest.raises(ResetNeeded, match="Call reset"):
        env.step(np.zeros(1))
    assert env.render() is None
    env.reset()
    with pytest.raises(ValueError, match=r"an action of 'probe_steps' has the shape \(1,\), not \(2,\)"):
        env.step(np.zeros(2))
    envs = gymnasium.make_vec(PROBE, num_envs=3, episode_length=1, autoreset_mode="Disabled")
    with pytest.raises(ResetNeeded, match="without a reset_mask"):
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ValueError, match="2 seeds for 3"):
        envs.reset(seed=[1, 2])
    for mask in ([True], [False] * 3, [1, 0, 0]):
        with pytest.raises(ValueError, match="expected 3 truth values"):
            envs.reset(options={"reset_mask": mask})
    assert np.array_equal(envs.reset(seed=np.int64(3))[0], envs.reset(seed=[3, 4, 5])[0])
    envs.reset(seed=[1, None, 2])
    with pytest.raises(ValueError, match=r"'probe_steps' have the shape \(3, 1\), not \(3,\)"):
        envs.step(np.zeros(3))
    envs.step(np.zeros((3, 1)))
    with pytest.raises(ResetNeeded, match=r"\[0, 1, 2\] have ended"):
        envs.step(np.zeros((3, 1)))


@pytest.mark.slow
@needs_gl
def test_pictures_show_every_lane_and_follow_a_body_that_runs():
    envs = gymnasium.make_vec("evoconn/hopper-v1", num_envs=2, render_mode="rgb_array", width=96, height=64)
    with pytest.raises(ResetNeeded, match="before render"):
        envs.render()
    envs.reset(seed=[1, 1])
    start, same = envs.render()
    assert start.shape == (64, 96, 3) and start.dtype == np.uint8 and np.array_equal(start, same)
    envs.step(np.stack([np.zeros(3), np.ones(3)]))
    still, moved = envs.render()
    assert not np.array_equal(still, moved)
    camera = envs._lanes._camera
    state = envs._lanes._state
    positions, rotations = envs._lanes._poses(state, 0)
    away = camera.draw(positions + np.array([0.2, 0.0, 0.0]), rotations)
    assert np.abs(away.astype(int) - still).mean() < 10, "the camera goes with the body, only the floor moves"
    envs.close()
    envs.close()


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "evoconn_cli.gymnasium")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'evoconn\[gymnasium\]'"):
        importlib.import_module("evoconn_cli.gymnasium")
