"""Members whose fitness, observations or actions are not finite rank worst, are counted, and spoil nothing."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_generation import CASES, Options, build, make_winding_task
from whole_runs import Listening, resume_small, run_small

from evoconn_cli.engine.strategies.connectivity import make_connectivity
from evoconn_cli.errors import TrainingError
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.networks.lif import LifConstants
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.store import CheckpointStore

BAD = [np.nan, np.inf, -np.inf]


def is_bad(cue):
    """Returns which members go wrong: about a third of them, by how their episode starts."""
    return cue > 0.3


def failing_task(where: str, bad: float):
    """The winding task, in which something of these members is not finite after their first step."""
    task = make_winding_task()

    def spoil(x, state, steps):
        return jnp.where(is_bad(state.physics.cue) & (steps >= 1), bad, x)

    def step(state, action):
        after = task.step(state, action)
        if where == "reward":
            return after._replace(reward=spoil(after.reward, state, after.steps))
        # The reward stays finite: nothing but the observation tells.
        return after._replace(obs=after.obs.at[1].set(spoil(after.obs[1], state, after.steps)))

    return dataclasses.replace(task, step=step)


def network_of(task, num_neurons=40):
    return make_conn_snn(
        observation_size=task.observation_size,
        action_size=task.action_size,
        num_neurons=num_neurons,
        constants=LifConstants(step_ms=5.0),
        tile=2,
    )


def failing_network(task, bad: float):
    """A network of which some members act with `bad`: those that observe a cue beyond `is_bad`."""
    network = network_of(task)

    def step(params, carry, obs):
        carry, action = network.step(params, carry, obs)
        return carry, jnp.where(is_bad(obs[:, :1]), bad, action)

    return dataclasses.replace(network, step=step)


def deaf_task():
    """The winding task, whose reward is finite whatever the action is."""
    task = make_winding_task()
    return dataclasses.replace(task, step=lambda state, action: task.step(state, jnp.nan_to_num(action, posinf=1.0)))


def one_generation(setup):
    simulate, learn = jax.jit(setup.generation.simulate), jax.jit(setup.generation.learn)
    carries = None
    if setup.generation.settle is not None:
        carries, _ = jax.jit(setup.generation.settle)(setup.state, setup.generation.members)
    evaluation = simulate(setup.state, setup.generation.members, carries)
    state, metrics = learn(setup.state, evaluation)
    return evaluation, state, metrics


def assert_failed_as_expected(setup):
    options = setup.options
    num_members = options.population - options.evaluation_copies
    evaluation, state, metrics = one_generation(setup)
    fitness, ranks = np.asarray(evaluation.members.fitness)[:num_members], np.asarray(evaluation.ranks)
    keys = jax.vmap(lambda i: jax.random.fold_in(_reset_key(setup.state, options), i))(jnp.arange(num_members))
    cues = np.asarray(jax.vmap(lambda key: setup.task.reset(key).physics.cue)(keys))
    failed = is_bad(cues)
    assert 2 < failed.sum() < num_members - 2
    np.testing.assert_array_equal(~np.isfinite(fitness), failed)
    assert int(metrics["failed_members"]) == failed.sum()
    assert set(ranks[failed].tolist()) == {-(num_members - failed.sum())}, "they share the last ranks"
    assert ranks[~failed].min() > ranks[failed].max()
    assert np.isclose(float(metrics["fitness_mean"]), fitness[~failed].mean())
    for leaf in jax.tree.leaves((state.strategy, state.normalizer)):
        assert np.isfinite(np.asarray(leaf)).all()


def _reset_key(state, options):
    run_key = jax.random.wrap_key_data(state.key, impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(run_key, 1 if options.fresh_resets else 0), 2)


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("where", ["reward", "observation"])
def test_members_with_bad_rewards_or_observations_fail(options, where):
    assert_failed_as_expected(build(failing_task(where, np.nan), options))


@pytest.mark.parametrize("where", ["reward", "observation"])
@pytest.mark.parametrize("bad", BAD)
def test_infinite_is_as_bad_as_nan(where, bad):
    assert_failed_as_expected(build(failing_task(where, bad), Options()))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("first_episode", [True, False])
def test_members_with_bad_actions_fail(bad, first_episode):
    task = deaf_task()
    options = Options(first_episode=first_episode)
    assert_failed_as_expected(build(task, options, network=failing_network(task, bad)))


def test_a_bad_start_counts_too():
    task = make_winding_task()

    def reset(key):
        state = task.reset(key)
        return state._replace(obs=state.obs.at[0].set(jnp.where(is_bad(state.physics.cue), jnp.nan, state.obs[0])))

    assert_failed_as_expected(build(dataclasses.replace(task, reset=reset), Options()))
