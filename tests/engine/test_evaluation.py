"""Evaluation against a plain loop over episodes, and what it may not depend on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_runs import save_run

from evoconn_cli.config.schema import TaskConfig
from evoconn_cli.engine import episodes as ev
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.normalizer import normalize
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.evaluation.evaluating import episodes_in_lock_step, evaluate
from evoconn_cli.evaluation.opened import open_run
from evoconn_cli.tasks import make_task
from evoconn_cli.tasks.brax_v1 import PhysicsScale

EPISODES = 10
FEW = {6: 1.0}


@pytest.fixture(scope="module")
def workers():
    return make_worker_mesh(jax.devices(), 2)


@pytest.fixture(scope="module")
def opened(tmp_path_factory, workers):
    """Opens a saved run with other overrides, made once a module."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def open_with(*overrides: str):
        if overrides not in made:
            made[overrides] = save_run(folder / str(len(made)), *overrides, eval_fitness=FEW)
        return open_run(made[overrides], workers=workers)

    return open_with


def run_one(opened, setting=None, *, episodes=EPISODES, seed=3, sampled=False):
    (one,) = evaluate([opened], [setting or {}], num_episodes=episodes, seed=seed, sampled=sampled)
    return one


def plain_episode(opened, episode: int, *, seed=3, sampled=False, noise=None):
    """Returns return, length and whether it ended early, one step after the other, for one member."""
    key = ev.evaluation_key(seed)

    def draw(stream):
        return jax.random.fold_in(jax.random.fold_in(key, stream), episode)

    task, network, state = opened.task, opened.network, opened.state
    candidates = opened.strategy.center(state.strategy)
    if sampled:
        members = jnp.asarray([episode])
        candidates = opened.strategy.ask(jax.random.fold_in(key, ev.Stream.CANDIDATES), state.strategy, members)
    params, step, task_step = network.prepare(candidates), jax.jit(network.step), jax.jit(task.step)
    now, carry = task.reset(draw(ev.Stream.RESET)), network.initial_carry(draw(ev.Stream.CARRY)[None])
    total = 0.0
    while True:
        obs = normalize(state.normalizer, now.obs[:, None]).T
        if noise is not None:
            obs += noise * jax.random.normal(jax.random.fold_in(draw(ev.Stream.NOISE), int(now.steps)), obs[0].shape)
        carry, action = step(params, carry, obs)
        now = task_step(now, action[0])
        total += float(now.reward)
        if now.done:
            length = int(now.steps)
            return total, length, length < opened.config.task.episode_length


def assert_equals_plain(one, opened, rtol=1e-5, **options):
    expected = [plain_episode(opened, episode, **options) for episode in range(len(one.results.returns))]
    returns, lengths, ended_early = (np.asarray(x) for x in zip(*expected, strict=True))
    np.testing.assert_array_equal(one.results.lengths, lengths)
    np.testing.assert_array_equal(one.results.ended_early, ended_early)
    np.testing.assert_allclose(one.results.returns, returns, rtol=rtol, atol=1e-4)
    return returns


@pytest.mark.slow
@pytest.mark.parametrize("network", ["conn_snn", "dense_snn", "gru"])
def test_the_numbers_equal_a_plain_loop_over_episodes(opened, network):
    run = opened(f"network.name={network}")
    returns = assert_equals_plain(run_one(run), run)
    assert returns.std() > 0.01


@pytest.mark.slow
def test_sampled_policies_equal_a_plain_loop(opened):
    run = opened()
    sampled = run_one(run, sampled=True)
    assert_equals_plain(sampled, run, sampled=True)
    assert not np.allclose(sampled.results.returns, run_one(run).results.returns)
    assert len(np.unique(sampled.results.fan_out["recurrent"].sum(axis=1))) > 1


@pytest.mark.slow
def test_noise_equals_a_plain_loop(opened):
    run = opened()
    assert_equals_plain(run_one(run, {"obs-noise": 0.7}), run, noise=0.7)


@pytest.mark.slow
def test_episodes_that_end_early_are_counted(opened):
    run = opened("task.name=probe_steps", "task.episode_length=12")
    one = run_one(run, episodes=40)
    assert_equals_plain(one, run)
    np.testing.assert_array_equal(one.results.returns, one.results.lengths)
    assert 0 < one.results.ended_early.sum() < 40
    np.testing.assert_array_equal(one.results.ended_early, one.results.lengths < 12)


@pytest.mark.slow
def test_the_limit_counts_physics_steps_also_with_repeated_actions(opened):
    one = run_one(opened("task.episode_length=8", "task.action_repeat=3"))
    assert (one.results.lengths == 3).all() and not one.results.ended_early.any()


@pytest.mark.slow
def test_a_failed_episode_is_counted_and_left_out(opened):
    one = run_one(opened("task.name=probe_nan"), episodes=30, sampled=True)
    assert 0 < one.returns.failed == np.isnan(one.results.returns).sum() < 30
    assert one.returns.count + one.returns.failed == 30 and np.isfinite(one.returns.mean)


@pytest.mark.slow
def test_the_first_episodes_stay_the_same_when_there_are_more(opened):
    few, many = run_one(opened(), episodes=7), run_one(opened(), episodes=33)
    np.testing.assert_allclose(many.results.returns[:7], few.results.returns, rtol=1e-6)


@pytest.mark.slow
def test_another_seed_gives_other_episodes(opened):
    assert not np.array_equal(run_one(opened(), seed=1).results.returns, run_one(opened(), seed=2).results.returns)


@pytest.mark.slow
def test_the_number_of_devices_changes_no_bit(opened):
    path, results = opened().directory.path, []
    for num_devices in (1, 4):
        run = open_run(path, workers=make_worker_mesh(jax.devices(), num_devices))
        evaluation = ev.Evaluation(
            task=run.task,
            network=run.network,
            strategy=run.strategy,
            workers=run.workers,
            num_episodes=EPISODES,
            block=4,
            sampled=True,
        )
        learned = ev.Learned(run.state.strategy, run.state.normalizer)
        arguments = learned, ev.evaluation_key(3), ev.Perturbation(lesion_synapses=jnp.float32(0.1))
        gathered = jax.jit(evaluation.run)(*jax.device_put(arguments, run.workers.whole), evaluation.episodes)
        results.append(jax.tree.map(lambda x: np.asarray(x)[:EPISODES], gathered))
    for a, b in zip(*(jax.tree.leaves(one) for one in results), strict=True):
        np.testing.assert_array_equal(a, b)


def test_blocks_share_the_episodes_between_the_devices(workers):
    assert [episodes_in_lock_step(n, workers) for n in (1, 2, 100, 1000)] == [1, 1, 50, 64]


def test_no_draw_is_one_of_training(opened):
    """The key of an evaluation is none of those that training derives from the same seed."""
    run_key = jax.random.key(3, impl=KEY_IMPLEMENTATION)
    of_training = {tuple(jax.random.key_data(jax.random.fold_in(run_key, g)).tolist()) for g in range(2000)}
    of_training.add(tuple(jax.random.key_data(run_key).tolist()))
    assert tuple(jax.random.key_data(ev.evaluation_key(3)).tolist()) not in of_training


@pytest.mark.slow
def test_the_normaliser_stays_as_it_is_and_matters(opened):
    run = opened()
    before = jax.tree.map(np.asarray, run.state.normalizer)
    first = run_one(run)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(run.state.normalizer), strict=True):
        np.testing.assert_array_equal(a, b)
    shifted = run.state.normalizer._replace(mean=run.state.normalizer.mean + 1.0)
    other = run_one(run._replace(state=run.state._replace(normalizer=shifted)))
    assert not np.allclose(first.results.returns, other.results.returns)


@pytest.mark.slow
def test_a_warm_up_settles_the_network_and_counts_nothing(opened):
    warm = opened("rollout.warmup_steps=3")
    cold, settled = run_one(opened()), run_one(warm)
    np.testing.assert_array_equal(settled.results.lengths, cold.results.lengths)
    assert not np.allclose(settled.results.returns, cold.results.returns)
    assert settled.results.spikes.emitted.max() <= 8 * 33


@pytest.mark.slow
def test_a_sweep_does_not_compile_anew(opened):
    settings = [{"obs-noise": value} for value in (0.0, 0.3, 0.6)]
    told, programs = [], {}
    results = list(
        evaluate([opened()], settings, num_episodes=4, seed=0, sampled=False, programs=programs, tell=told.append)
    )
    assert len(programs) == 1
    assert told == [
        "compiling, then 4 episodes, obs-noise 0",
        "4 episodes, obs-noise 0.3",
        "4 episodes, obs-noise 0.6",
    ]
    assert [one.perturbations for one in results] == settings
    means = [one.returns.mean for one in results]
    assert len(set(means)) == 3
    plain = run_one(opened(), episodes=4, seed=0)
    np.testing.assert_allclose(results[0].results.returns, plain.results.returns, rtol=1e-6)


@pytest.mark.slow
def test_hopper_in_another_physics_equals_a_plain_loop(opened):
    run = opened("task.name=hopper", "task.episode_length=8", "network.num_neurons=32")
    one = run_one(run, {"mass": 2.0}, episodes=3)
    heavier = make_task(TaskConfig("hopper", episode_length=8), physics=PhysicsScale(mass=2.0))
    # The order of summation differs, and physics enlarges that; as trained, returns are 0.3 to 0.7 higher.
    assert_equals_plain(one, run._replace(task=heavier), rtol=1e-3)
