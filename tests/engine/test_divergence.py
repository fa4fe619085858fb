"""Members whose fitness, observations or actions are not finite rank worst, are counted, and spoil nothing."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_configs import es_config
from test_generation import CASES, make_winding_task

from evoconn_cli.engine.episodes import Evaluation, Learned, Perturbation, episode_keys, evaluation_key
from evoconn_cli.engine.generation import Generation
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.normalizer import initial_normalizer
from evoconn_cli.engine.rollout import Rollout
from evoconn_cli.engine.state import KEY_IMPLEMENTATION, initial_run_state
from evoconn_cli.engine.strategies.gaussian import make_gaussian
from evoconn_cli.engine.strategies.shaping import doubled_centered_ranks
from evoconn_cli.networks.flax_networks import make_flax_network

NUM_MEMBERS, COPIES = 120, 8
RESET = 2

REWARDS = {0: np.nan, 1: np.inf, 2: -np.inf}
OBSERVATIONS = {3: np.nan, 4: np.inf, 5: -np.inf}
ACTIONS = {6: np.nan, 7: np.inf, 8: -np.inf}
STARTS = {9: np.nan, 10: np.inf}
NUM_KINDS = 16
"""The kinds from 11 on are healthy."""


def kind_of(cue):
    """Returns what goes wrong with a member: a number from 0 to 15, by how its episode starts."""
    return jnp.floor((cue + 1.0) * NUM_KINDS / 2).astype(jnp.int32)


def spoil(x, kind, bad: dict[int, float]):
    for number, value in bad.items():
        x = jnp.where(kind == number, value, x)
    return x


def failing_task():
    """The winding task, of which nothing but the reward, an observation, or the first one, is not finite.

    The rewards themselves stay finite whatever the observations and actions are.
    """
    task = make_winding_task()

    def reset(key):
        state = task.reset(key)
        return state._replace(obs=state.obs.at[1].set(spoil(state.obs[1], kind_of(state.physics.cue), STARTS)))

    def step(state, action):
        kind = kind_of(state.physics.cue)
        after = task.step(state, jnp.nan_to_num(action, posinf=1.0, neginf=-1.0))
        return after._replace(
            reward=spoil(after.reward, kind, REWARDS), obs=after.obs.at[1].set(spoil(after.obs[1], kind, OBSERVATIONS))
        )

    return dataclasses.replace(task, reset=reset, step=step)


def failing_network(task):
    """A network of which some members act with what is no number, by the cue that they observe.

    It sees finite observations only, so that nothing but what is tested here fails.
    """
    network = make_flax_network(
        "mlp", observation_size=task.observation_size, action_size=task.action_size, num_neurons=4
    )

    def step(params, carry, obs, active=None):
        carry, action = network.step(params, carry, jnp.nan_to_num(obs, posinf=0.0, neginf=0.0), active)
        return carry, spoil(action, kind_of(obs[:, :1]), ACTIONS)

    return dataclasses.replace(network, step=step)


@pytest.mark.slow
@pytest.mark.parametrize("options", CASES[:2] + CASES[3:4], ids=str)
def test_members_of_which_anything_is_not_finite_fail_and_spoil_nothing(options):
    task = failing_task()
    network = failing_network(task)
    strategy = make_gaussian(es_config(NUM_MEMBERS, sigma=0.1, learning_rate=0.1), network.initial_weights)
    rollout = Rollout(
        task,
        network,
        first_episode=options.first_episode,
        all_steps=options.all_steps,
        warmup_steps=options.warmup_steps,
    )
    generation = Generation(
        rollout,
        strategy,
        make_worker_mesh(jax.devices(), 2),
        population=NUM_MEMBERS + COPIES,
        evaluation_copies=COPIES,
        block=32,
        fresh_resets=options.fresh_resets,
        shaping=doubled_centered_ranks,
    )
    state = initial_run_state(strategy, observation_size=task.observation_size, seed=5)
    carries, members = None, generation.members
    if options.warmup_steps:
        carries, sums = jax.jit(generation.warm_up)(state, members)
        assert_all_finite(sums)
    evaluation = jax.jit(generation.simulate)(state, members, carries)
    after, metrics = jax.jit(generation.learn)(state, evaluation)

    kinds = kinds_of(task, state, options)
    failed = kinds < 11
    assert set(kinds) == set(range(NUM_KINDS)), "every kind occurs"
    fitness, ranks = np.asarray(evaluation.members.fitness)[:NUM_MEMBERS], np.asarray(evaluation.weights)
    assert {kind: bool(np.isfinite(fitness[kinds == kind]).any()) for kind in range(NUM_KINDS)} == {
        kind: kind >= 11 for kind in range(NUM_KINDS)
    }
    np.testing.assert_array_equal(~np.isfinite(fitness), failed)
    assert int(metrics["failed_members"]) == failed.sum()
    assert set(ranks[failed]) == {-(NUM_MEMBERS - failed.sum())}, "they share the last ranks"
    assert ranks[~failed].min() > ranks[failed].max()
    assert np.isclose(float(metrics["fitness_mean"]), fitness[~failed].mean())
    if options.first_episode:
        steps = np.asarray(evaluation.members.steps)[:NUM_MEMBERS]
        assert set(steps[failed]) == {1} and steps[~failed].min() > 3, "who has failed need not go on"
    assert_all_finite((after.strategy, after.normalizer))


@pytest.mark.slow
def test_an_evaluation_fails_the_same_episodes():
    task, num_episodes, seed = failing_task(), 100, 4
    network = failing_network(task)
    strategy = make_gaussian(es_config(2, sigma=0.1, learning_rate=0.1), network.initial_weights)
    workers = make_worker_mesh(jax.devices(), 2)
    program = Evaluation(
        task=task,
        network=network,
        strategy=strategy,
        workers=workers,
        num_episodes=num_episodes,
        block=50,
        sampled=False,
    )
    learned = Learned(strategy.init(jax.random.key(0)), initial_normalizer(3))
    results = jax.jit(program.run)(learned, evaluation_key(seed), Perturbation(), program.episodes)
    kinds = np.asarray([kind_of(task.reset(episode_keys(seed, e)[0]).physics.cue) for e in range(num_episodes)])
    assert set(kinds) == set(range(NUM_KINDS)), "every kind occurs"
    np.testing.assert_array_equal(np.isfinite(results.returns), kinds >= 11)


def kinds_of(task, state, options) -> np.ndarray:
    """Returns the kind of every member, from the draw of its start."""
    run_key = jax.random.wrap_key_data(state.key, impl=KEY_IMPLEMENTATION)
    key = jax.random.fold_in(jax.random.fold_in(run_key, 1 if options.fresh_resets else 0), RESET)
    kinds = jax.vmap(lambda member: kind_of(task.reset(jax.random.fold_in(key, member)).physics.cue))
    return np.asarray(jax.jit(kinds)(jnp.arange(NUM_MEMBERS)))


def assert_all_finite(tree):
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(np.asarray(leaf)).all()
