"""Whole generations: against loops over single members, on one device and several, straight and resumed."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_configs import ec_config

from evoconn_cli.config.schema import ConnSnnConfig, TaskConfig
from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.generation import Generation, compile_generation, learn_observations
from evoconn_cli.engine.mesh import WorkerMesh, make_worker_mesh
from evoconn_cli.engine.rollout import Rollout
from evoconn_cli.engine.state import KEY_IMPLEMENTATION, RunState, StepCounter, initial_run_state
from evoconn_cli.engine.strategies import Strategy, connectivity
from evoconn_cli.engine.strategies.connectivity import make_connectivity
from evoconn_cli.engine.strategies.shaping import SHAPINGS
from evoconn_cli.networks import Network
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.tasks import Task, TaskState, limit_episodes, make_task

CANDIDATES, CARRY, RESET = 0, 1, 2
"""Numbers of the streams of random numbers, which a checkpoint's future depends on: they must never change."""


class Options(NamedTuple):
    first_episode: bool = True
    all_steps: bool = True
    fresh_resets: bool = False
    shaping: str = "centered_rank"
    shaping_generations: int | None = None
    alive_bonus: float = 1.0
    alive_bonus_generations: int | None = None
    warmup_steps: int = 0
    population: int = 22
    evaluation_copies: int = 3
    block: int = 4
    num_neurons: int = 40
    substeps_ms: float = 5.0
    learning_rate: float = 0.15
    keeps_candidates: bool = True

    def __str__(self):
        changed = [f"{k}={v}" for k, v in self._asdict().items() if v != self._field_defaults[k]]
        return " ".join(changed) or "defaults"


class Setup(NamedTuple):
    task: Task
    network: Network
    strategy: Strategy
    generation: Generation
    workers: WorkerMesh
    state: RunState
    options: Options


def make_winding_task() -> Task:
    """A task in which everything matters: action, history, start; episodes of 1 to 8 steps."""

    class Physics(NamedTuple):
        cue: jax.Array
        path: jax.Array

    def state_of(physics: Physics, reward, steps) -> TaskState:
        obs = jnp.stack([physics.cue, physics.path, jnp.sin(steps * physics.cue)])
        done = steps >= 1 + jnp.floor((physics.cue + 1.0) * 4.0).astype(jnp.int32)
        return TaskState(physics, obs, reward, done & (steps > 0), steps)

    def reset(key):
        cue = jax.random.uniform(key, (), minval=-1.0, maxval=1.0)
        return state_of(Physics(cue, -cue), jnp.zeros(()), jnp.zeros((), jnp.int32))

    def step(state, action):
        action = jnp.clip(action, -1.0, 1.0)
        cue, path = state.physics
        path = 0.7 * path + action[0] - 0.5 * action[1]
        reward = 1.0 + path * cue + action[1]
        return state_of(Physics(cue, path), reward, state.steps + 1)

    return limit_episodes(Task("winding", 3, 2, 0.01, reset, step, alive_bonus=2.0), episode_length=7)


DEFAULTS = Options()


def build(task: Task, options: Options = DEFAULTS, num_workers: int = 1, network: Network | None = None) -> Setup:
    workers = make_worker_mesh(jax.devices(), num_workers)
    network = network or make_conn_snn(
        ConnSnnConfig("conn_snn", options.num_neurons, step_ms=options.substeps_ms),
        observation_size=task.observation_size,
        action_size=task.action_size,
    )
    shapes = {name: layer.shape for name, layer in network.shapes.items()}
    strategy = make_connectivity(
        ec_config(options.population - options.evaluation_copies, learning_rate=options.learning_rate),
        connection_shapes=shapes,
        keeps_candidates=options.keeps_candidates,
    )
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
        workers,
        population=options.population,
        evaluation_copies=options.evaluation_copies,
        block=options.block,
        fresh_resets=options.fresh_resets,
        shaping=SHAPINGS[options.shaping],
        shaping_generations=options.shaping_generations,
        alive_bonus=options.alive_bonus,
        alive_bonus_generations=options.alive_bonus_generations,
    )
    state = initial_run_state(strategy, observation_size=task.observation_size, seed=5)
    return Setup(task, network, strategy, generation, workers, state, options)


def compiled(setup: Setup):
    return compile_generation(setup.generation, setup.state)


def run(setup: Setup, num_generations: int) -> tuple[RunState, list[dict[str, Any]]]:
    step, state, history = compiled(setup), setup.state, []
    for _ in range(num_generations):
        state, metrics = step(state)
        history.append({name: value for name, value in metrics.items() if name != "steps_simulated"})
    return jax.tree.map(np.asarray, (state, history))


def assert_equal_bits(ours, theirs):
    def equal(path, a, b):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), jax.tree_util.keystr(path)
        assert a.tobytes() == b.tobytes(), f"{jax.tree_util.keystr(path)}: {a} {b}"

    jax.tree_util.tree_map_with_path(equal, ours, theirs)


CASES = [
    Options(),
    Options(first_episode=False, all_steps=False, warmup_steps=5),
    Options(first_episode=False, fresh_resets=True),
    Options(all_steps=False, fresh_resets=True, shaping="log_rank"),
    Options(warmup_steps=3, fresh_resets=True, alive_bonus=0.25),
    Options(alive_bonus=0.25, alive_bonus_generations=2, shaping="log_rank", shaping_generations=1),
    Options(first_episode=False, all_steps=False),
]
"""Both ways of each option, and the published combination with and without the warm-up."""


# --- a plain oracle: one member after the other, one step after the other


class Member(NamedTuple):
    fitness: float
    steps: int
    episodes: int
    rate: float
    counted: list[np.ndarray]  # observations that led to a step that counts
    last: np.ndarray  # observation at hand at the end


class Plain:
    """Plays members alone: no blocks, no batching of the task, no packing into devices."""

    def __init__(self, setup: Setup):
        self.setup = setup
        network = setup.network

        @jax.jit
        def act(params, normalizer, state, carry):
            obs = (state.obs - normalizer.mean) / normalizer.std
            carry, action = network.step(params, carry, obs[None])
            return setup.task.step(state, action[0]), carry, network.spikes_per_ms(carry)[0]

        self.act = act
        self.start = jax.jit(self._start)

    def evaluate(self, state: RunState, normalizer, settled: list[Any] | None = None) -> list[Member]:
        options = self.setup.options
        players = [self.start(state, jnp.int32(i)) for i in range(options.population)]
        if settled is not None:
            players = [(params, initial, carry) for (params, initial, _), carry in zip(players, settled, strict=True)]
        first = [self._play(player, normalizer, 1, None) for player in players]
        if options.first_episode:
            return first
        num_steps = max(member.steps for member in first)
        return [self._play(player, normalizer, None, num_steps) for player in players]

    def warm_up(self, state: RunState) -> tuple[list[Any], list[np.ndarray]]:
        """Returns the carries after the warm-up and the observations at its end."""
        carries, observations = [], []
        for i in range(self.setup.options.population):
            params, initial, carry = self.start(state, jnp.int32(i))
            now = initial
            for _ in range(self.setup.options.warmup_steps):
                now, carry, _ = self.act(params, state.normalizer, now, carry)
                now = initial if now.done else now
            carries.append(carry)
            observations.append(np.asarray(now.obs))
        return carries, observations

    def _start(self, state: RunState, i: jax.Array):
        """Returns what member `i` starts the next generation with."""
        options, network, strategy = self.setup.options, self.setup.network, self.setup.strategy
        run_key = jax.random.wrap_key_data(state.key, impl=KEY_IMPLEMENTATION)
        key = jax.random.fold_in(run_key, state.generation + 1)
        reset_key = key if options.fresh_resets else jax.random.fold_in(run_key, 0)
        candidates = jax.tree.map(
            lambda drawn, center: jnp.where(i < options.population - options.evaluation_copies, drawn, center),
            strategy.ask(jax.random.fold_in(key, CANDIDATES), state.strategy, i[None]),
            strategy.center(state.strategy),
        )
        carry = network.initial_carry(jax.random.fold_in(jax.random.fold_in(key, CARRY), i)[None])
        initial = self.setup.task.reset(jax.random.fold_in(jax.random.fold_in(reset_key, RESET), i))
        return network.prepare(candidates), initial, carry

    def _play(self, player, normalizer, num_episodes: int | None, num_steps: int | None) -> Member:
        """Plays so many episodes, or so many steps; only whole episodes count, the network's state lives on."""
        params, initial, carry = player
        now, counted, episode = initial, [], []
        rewards, rates, returns, steps = [], [], [], 0
        while len(returns) != num_episodes and steps != num_steps:
            episode.append(np.asarray(now.obs))
            now, carry, rate = self.act(params, normalizer, now, carry)
            rewards.append(float(now.reward))
            rates.append(float(rate))
            steps += 1
            last = np.asarray(now.obs)
            if now.done:
                returns.append((sum(rewards), sum(rates)))
                counted += episode
                rewards, rates, episode = [], [], []
                if num_episodes is None:
                    now = initial
                    last = np.asarray(now.obs)
        total, rate = np.sum(returns, axis=0)
        return Member(total / len(returns), len(counted), len(returns), rate, counted, last)


@pytest.mark.slow
@pytest.mark.parametrize("options", CASES, ids=str)
def test_a_generation_is_what_members_do_alone(options):
    setup = build(make_winding_task(), options)
    generation, plain = setup.generation, Plain(setup)
    simulate, learn, warm_up = (jax.jit(fn) for fn in (generation.simulate, generation.learn, generation.warm_up))
    state, seen = setup.workers.put_whole(setup.state), []  # where `learn` leaves it, or all is compiled twice
    num_members = options.population - options.evaluation_copies
    steps = 0
    for _ in range(3):
        carries, settled, normalizer = None, None, state.normalizer
        if options.warmup_steps:
            carries, sums = warm_up(state, generation.members)
            normalizer = learn_observations(normalizer, sums)
            settled, at_end = plain.warm_up(state)
            if not options.all_steps:
                seen += at_end
                assert_statistics(normalizer, seen)
        state = state._replace(normalizer=normalizer)
        evaluation = simulate(state, generation.members, carries)
        members = plain.evaluate(state, normalizer, settled)
        results = evaluation.members
        for name in ("steps", "episodes"):
            np.testing.assert_array_equal(getattr(results, name), [getattr(m, name) for m in members], name)
        fitness, rate = np.asarray([m.fitness for m in members]), np.asarray([m.rate for m in members])
        np.testing.assert_allclose(results.fitness, fitness, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(results.rate, rate, rtol=1e-4, atol=1e-5)
        left_out = 1.0 - options.alive_bonus
        if options.alive_bonus_generations is not None and int(state.generation) >= options.alive_bonus_generations:
            left_out = 0.0
        ranked = results.fitness - left_out * 2.0 * results.steps
        shaping = options.shaping
        if options.shaping_generations is not None and int(state.generation) >= options.shaping_generations:
            shaping = "centered_rank"
        np.testing.assert_array_equal(evaluation.weights, SHAPINGS[shaping](ranked[:num_members]))
        steps += sum(m.steps for m in members)
        state, metrics = learn(state, evaluation)
        assert int(state.env_steps) == steps
        assert int(metrics["steps_simulated"]) == steps_of_all_lanes(options, members)
        if options.all_steps:
            seen += [obs for m in members for obs in m.counted]
        elif not options.warmup_steps:
            seen += [m.last for m in members]
        assert_statistics(state.normalizer, seen)
        assert_metrics(metrics, members, num_members)
    assert int(state.generation) == 3
    assert len({m.steps for m in members}) > 3 and len(set(fitness.round(4))) > options.population // 2


def steps_of_all_lanes(options: Options, members: list[Member]) -> int:
    """Steps that one device takes, times its lanes, idle ones too."""
    if not options.first_episode:
        blocks = -(-options.population // options.block)
        return max(m.steps // m.episodes for m in members) * blocks * options.block
    waiting = [m.steps for m in members]
    lanes, steps = [], 0
    while waiting or lanes:
        lanes, waiting = lanes + waiting[: options.block - len(lanes)], waiting[options.block - len(lanes) :]
        until_next_ends = min(lanes)
        steps += until_next_ends
        lanes = [left - until_next_ends for left in lanes if left > until_next_ends]
    return steps * options.block


def assert_statistics(normalizer: norm.NormalizerState, seen: list[np.ndarray]):
    assert float(normalizer.count) == len(seen)
    np.testing.assert_allclose(normalizer.mean, np.mean(seen, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(normalizer.std, np.std(seen, axis=0), rtol=1e-3, atol=1e-4)


def assert_metrics(metrics, members: list[Member], num_members: int):
    fitness = np.asarray([m.fitness for m in members])
    expected = {
        "fitness_mean": fitness[:num_members].mean(),
        "fitness_std": fitness[:num_members].std(),
        "fitness_best": fitness[:num_members].max(),
        "eval_fitness": fitness[num_members:].mean(),
        "episode_length_mean": np.mean([m.steps / m.episodes for m in members[:num_members]]),
        "episode_length_max": np.max([m.steps / m.episodes for m in members[:num_members]]),
        "spikes_per_ms": sum(m.rate for m in members) / sum(m.steps for m in members),
        "failed_members": 0,
    }
    assert {k: float(metrics[k]) for k in expected} == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert set(metrics) == set(expected) | {"density", "entropy", "saturated", "update_snr", "steps_simulated"}


# --- the same bits whatever the devices


@pytest.fixture(scope="module")
def on_one_worker():
    done = {}

    def get(options: Options):
        if options not in done:
            done[options] = run(build(make_winding_task(), options), 3)
        return done[options]

    return get


SMALL = Options(population=3, evaluation_copies=1, block=4)
# The published combination on every number of workers; `make test` has the others.
WORKERS = [
    *((CASES[1], n) for n in (2, 3, 4)),
    (CASES[0], 3),
    (SMALL, 2),
    *(pytest.param(options, n, marks=pytest.mark.slow) for options in CASES[2:] for n in (2, 3, 4)),
    *(pytest.param(CASES[0], n, marks=pytest.mark.slow) for n in (2, 4)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "num_workers"), WORKERS, ids=str)
def test_any_number_of_workers_gives_the_same_bits(options, num_workers, on_one_worker):
    state, history = run(build(make_winding_task(), options, num_workers), 3)
    assert_equal_bits((state, history), on_one_worker(options))
    assert not np.all(state.strategy.probs["recurrent"] == 0.5), "nothing was learnt, so nothing was compared"


@pytest.mark.slow
def test_members_that_are_drawn_again_where_they_are_needed_give_the_same_bits(on_one_worker):
    state, history = run(build(make_winding_task(), CASES[0]._replace(keeps_candidates=False)), 3)
    assert_equal_bits((state, history), on_one_worker(CASES[0]))


@pytest.mark.slow
def test_sums_in_two_parts_give_the_same_generation(monkeypatch, on_one_worker):
    monkeypatch.setattr(connectivity, "_MAX_IN_ONE_PART", 3)
    setup = build(make_winding_task(), CASES[0])
    sums = jax.eval_shape(setup.generation.simulate, setup.state, setup.generation.members, None).sums
    assert isinstance(sums, tuple) and len(sums) == 2
    state, _ = run(setup, 3)
    expected, _ = on_one_worker(CASES[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.strategy.probs, expected.strategy.probs
    )


@pytest.mark.slow
@pytest.mark.parametrize("first_episode", [True, False])
def test_hopper_gives_the_same_bits_on_one_worker_and_three(first_episode):
    """With three workers each has one block and no member waits; with one, two in three are loaded into used lanes."""
    options = Options(
        first_episode=first_episode, population=24, evaluation_copies=4, block=8, num_neurons=64, substeps_ms=16.6
    )
    task = make_task(TaskConfig("hopper", episode_length=60))
    one, three = (run(build(task, options, num_workers), 2) for num_workers in (1, 3))
    assert_equal_bits(one, three)
    assert len({float(m["fitness_mean"]) for m in one[1]}) == 2


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4))
def test_every_member_is_dealt_once_in_whole_blocks(population, block, num_workers):
    workers = make_worker_mesh(jax.devices(), num_workers)
    num_blocks = -(-population // block)
    members = workers.deal_blocks(num_blocks, block, absent=population)
    a_device = -(-num_blocks // num_workers)
    assert members.shape == (workers.mesh.size * a_device, block)
    present = members[members < population]
    np.testing.assert_array_equal(present, np.arange(population))
    for number, row in enumerate(members[: num_workers * a_device]):
        for lane, member in enumerate(row):
            assert member == min(number * block + lane, population)
    assert (members[num_workers * a_device :] >= population).all(), "a companion has no members"


def test_as_many_workers_as_devices_at_most():
    assert len(jax.devices()) == 4
    assert make_worker_mesh(jax.devices()).num_workers == 4
    for number in (0, 5, -1):
        with pytest.raises(ValueError, match=f"{number} workers for 4 devices"):
            make_worker_mesh(jax.devices(), number)


# --- going on from a state


@pytest.mark.slow
def test_a_restored_state_goes_on_with_the_same_bits():
    setup = build(make_winding_task(), CASES[1])
    step = compiled(setup)
    straight, saved, history = setup.state, None, []
    for number in range(4):
        if number == 2:
            saved = jax.tree.map(np.array, straight)
        straight, metrics = step(straight)
        history.append(metrics)
    # As after a restart: another program, compiled anew, and arrays that come from a file.
    resumed, step = jax.tree.map(jnp.asarray, saved), compiled(build(make_winding_task(), CASES[1]))
    for number in (2, 3):
        resumed, metrics = step(resumed)
        assert_equal_bits(metrics, history[number])
    assert_equal_bits(resumed, straight)
    assert int(resumed.generation) == 4


@pytest.mark.slow
def test_nothing_is_traced_or_compiled_after_the_first_generation(caplog):
    traces = []
    task = make_winding_task()
    task = dataclasses.replace(task, step=lambda *args, step=task.step: traces.append(1) or step(*args))
    setup = build(task, CASES[1], 2)
    step = compiled(setup)
    state, _ = step(setup.state)
    num_traces = len(traces)
    assert num_traces > 0
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for _ in range(2):
            state, metrics = step(state)
        jax.block_until_ready((state, metrics))
        assert not [record.message for record in caplog.records]
        jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
        assert caplog.records, "else the log says nothing"
    assert len(traces) == num_traces


# --- resets, copies, failures, counters


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_fixed_resets_repeat_and_fresh_ones_differ(fresh):
    setup = build(make_task(TaskConfig("probe_steps")), Options(fresh_resets=fresh))
    simulate = jax.jit(setup.generation.simulate)
    lengths = []
    for number in range(3):
        state = setup.state._replace(generation=jnp.int32(number))
        lengths.append(simulate(state, setup.generation.members, None).members.steps.tolist())
    assert len(set(lengths[0])) > 5
    assert len({tuple(x) for x in lengths}) == (3 if fresh else 1)


@pytest.mark.slow
def test_until_slowest_plays_as_many_whole_episodes_as_fit():
    setup = build(make_task(TaskConfig("probe_steps")), Options(first_episode=False))
    results = jax.jit(setup.generation.simulate)(setup.state, setup.generation.members, None)
    first = build(make_task(TaskConfig("probe_steps")))
    lengths = jax.jit(first.generation.simulate)(first.state, first.generation.members, None).members.steps
    lengths = np.asarray(lengths)
    episodes = lengths.max() // lengths
    np.testing.assert_array_equal(results.members.episodes, episodes)
    np.testing.assert_array_equal(results.members.steps, episodes * lengths)
    np.testing.assert_array_equal(results.members.fitness, lengths)
    assert int(results.steps_simulated) == lengths.max() * 24


def uneven_probs(setup: Setup) -> RunState:
    rng = np.random.default_rng(0)
    probs = {k: jnp.asarray(rng.random(p.shape), jnp.float32) for k, p in setup.state.strategy.probs.items()}
    return setup.state._replace(strategy=setup.state.strategy._replace(probs=probs))


@pytest.mark.slow
def test_evaluation_copies_are_the_centre():
    task = make_task(TaskConfig("probe_bias", episode_length=6))
    network = build(task).network
    start = network.initial_carry(jax.random.split(jax.random.key(9), 1))
    alike = dataclasses.replace(
        network,
        initial_carry=lambda keys: jax.tree.map(lambda x: jnp.repeat(x, keys.shape[0], axis=0), start),
    )
    setup = build(task, Options(evaluation_copies=5), network=alike)
    state = uneven_probs(setup)
    results = jax.jit(setup.generation.simulate)(state, setup.generation.members, None)
    params, carry, total = network.prepare(setup.strategy.center(state.strategy)), start, 0.0
    for t in range(6):
        carry, action = network.step(params, carry, jnp.asarray([[1.0, np.cos(t)]]))
        total += float(jnp.clip(action[0, 0], -1, 1))
    fitness = np.asarray(results.members.fitness)
    assert total != 0
    np.testing.assert_allclose(fitness[-5:], total, rtol=1e-5)
    assert len(set(fitness[:-5].tolist())) > 5
    assert results.weights.shape == (17,), "copies are not ranked"


@pytest.mark.slow
def test_at_generation_0_the_centre_is_empty_and_does_nothing():
    setup = build(make_task(TaskConfig("probe_bias", episode_length=6)))
    _, history = run(setup, 1)
    assert float(history[0]["eval_fitness"]) == 0
    assert float(history[0]["fitness_std"]) > 0


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6), st.integers(0, 2**40))
def test_the_step_counter_outgrows_32_bits(additions, start):
    counter = StepCounter(np.uint32(start % 2**32), np.uint32(start >> 32))
    with np.errstate(over="ignore"):
        for steps in additions:
            counter = counter.add(np.uint32(steps))
    assert int(counter) == start + sum(additions)


def test_the_step_counter_carries_in_jax_too():
    counter = StepCounter(jnp.uint32(2**32 - 3), jnp.uint32(1))
    after = jax.jit(lambda c: c.add(jnp.int32(5)))(counter)
    assert int(after) == int(counter) + 5 == 2**33 + 2


# --- learning


@pytest.mark.slow
@pytest.mark.parametrize(("name", "first_episode"), [("probe_bias", False), ("probe_sign", True)])
def test_ec_learns(name, first_episode):
    options = Options(
        first_episode=first_episode,
        fresh_resets=True,
        population=104,
        evaluation_copies=8,
        block=26,
        substeps_ms=16.6,
    )
    _, history = run(build(make_task(TaskConfig(name, episode_length=8)), options, 2), 40)
    start, end = history[0], history[-1]
    assert abs(float(start["fitness_mean"])) < 2.0
    assert float(end["fitness_mean"]) > 6.0
    assert float(end["eval_fitness"]) > 6.0
    assert float(end["entropy"]) < float(start["entropy"])
