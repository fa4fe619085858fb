from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_configs import ec_config

from evoconn_cli.config.schema import ConnSnnConfig, EcConfig
from evoconn_cli.engine.strategies import connectivity
from evoconn_cli.engine.strategies.connectivity import make_connectivity
from evoconn_cli.engine.strategies.shaping import doubled_centered_ranks
from evoconn_cli.networks import bits
from evoconn_cli.networks.conn_snn import make_conn_snn

KEY = jax.random.key(0)
SHAPES = {"input": (6, 5), "recurrent": (37, 5), "output": (4, 3)}


def make_ec(num_members=1000, connection_shapes=SHAPES, wiring=1.0, **keys):
    return make_connectivity(ec_config(num_members, **keys), connection_shapes=connection_shapes, wiring=wiring)


def pack(connections):
    return {name: bits.pack(jnp.asarray(layer), axis=1) for name, layer in connections.items()}


def unpack(candidates, shapes=SHAPES):
    return {k: np.asarray(bits.unpack(words, axis=1, length=shapes[k][0])) for k, words in candidates.items()}


def random_connections(num_members, seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {name: rng.random((num_members, *shape)) < 0.5 for name, shape in shapes.items()}


def update(strategy, state, connections, fitness):
    ranks = doubled_centered_ranks(jnp.asarray(fitness, jnp.float32))
    return strategy.tell(state, strategy.weighted_sums(state, pack(connections), ranks), ranks)


def with_probs(state, probs):
    return state._replace(probs={name: jnp.asarray(p, jnp.float32) for name, p in probs.items()})


def uneven_state(strategy, seed=0):
    rng = np.random.default_rng(seed)
    return with_probs(strategy.init(KEY), {k: rng.uniform(0.02, 0.98, shape) for k, shape in SHAPES.items()})


@pytest.mark.parametrize(("certainty", "absent", "present"), [(0.9, 0.025, 0.925), (1.0, 1e-3, 0.999)])
def test_a_random_first_connectome(certainty, absent, present):
    shapes = {"input": (90, 50), "output": (90, 50)}
    strategy = make_ec(connection_shapes=shapes, initial_prob=0.25, initial_certainty=certainty)
    probs = jax.tree.map(np.asarray, strategy.init(KEY).probs)
    for layer in probs.values():
        np.testing.assert_allclose(np.unique(layer), [absent, present], rtol=1e-6)
        assert np.mean(layer > 0.5) == pytest.approx(0.25, abs=0.03)
    assert (probs["input"] != probs["output"]).any() and (
        probs["input"] != strategy.init(jax.random.key(1)).probs["input"]
    ).any()
    again = strategy.init(KEY).probs
    assert all((probs[name] == again[name]).all() for name in shapes)


@pytest.mark.slow
@pytest.mark.parametrize("certainty", [0.0, 0.9])
def test_connections_outside_the_wiring_never_form(certainty):
    network = make_conn_snn(ConnSnnConfig("conn_snn", 40, wiring=0.25), observation_size=20, action_size=12)
    shapes = {name: layer.shape for name, layer in network.shapes.items()}
    strategy = connectivity.make(EcConfig(population=72, evaluation_copies=8, initial_certainty=certainty), network)
    first = state = strategy.init(KEY)
    possible = {name: np.asarray(layer > 0) for name, layer in state.probs.items()}
    assert all(layer.mean() == pytest.approx(0.25, abs=0.07) for layer in possible.values())
    for generation in range(3):
        candidates = strategy.ask(jax.random.key(generation), state, jnp.arange(64))
        drawn = unpack(candidates, shapes)
        assert not any((drawn[name] & ~possible[name]).any() for name in shapes)
        weights = doubled_centered_ranks(jnp.asarray(np.random.default_rng(generation).random(64), jnp.float32))
        state, _ = strategy.tell(state, strategy.weighted_sums(state, candidates, weights), weights)
        assert all(((layer > 0) == possible[name]).all() for name, layer in state.probs.items())
    assert float(strategy.metrics(first)["entropy"]) == pytest.approx(1.0 if certainty == 0 else 0.286, abs=1e-3)

    connectome = {name: jnp.ones(shape, bool).at[0].set(False) for name, shape in shapes.items()}
    near = strategy.init_near(first, connectome)
    assert all(((layer > 0) == (possible[name] | connectome[name])).all() for name, layer in near.probs.items())


@pytest.mark.slow
def test_golden_updates(golden):
    arrays = golden("ec_update")
    strategy = make_ec(
        connection_shapes={"only": (6, 5)},
        num_members=arrays["theta"].shape[1],
        learning_rate=float(arrays["lr"]),
        eps=float(arrays["eps"]),
    )
    state = strategy.init(KEY)
    np.testing.assert_array_equal(state.probs["only"], arrays["p"][0])
    num_members = arrays["theta"].shape[1]
    assert arrays["p"].min() < 0.2 and arrays["p"].max() > 0.8
    for t, (theta, fitness) in enumerate(zip(arrays["theta"], arrays["fitness"], strict=True)):
        ranks = doubled_centered_ranks(jnp.asarray(fitness))
        sums = strategy.weighted_sums(state, pack({"only": theta}), ranks)
        ascent = np.asarray(sums["only"]) / (2 * num_members * (num_members - 1))
        # The published code descends along minus the gradient of fitness.
        np.testing.assert_allclose(ascent, -arrays["grad"][t], rtol=1e-4, atol=1e-7)
        state, _ = strategy.tell(state, sums, ranks)
        np.testing.assert_allclose(state.probs["only"], arrays["p"][t + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_samples_have_their_probabilities():
    strategy = make_ec()
    state = uneven_state(strategy)
    num_members = 3000
    samples = unpack(strategy.ask(jax.random.key(0), state, jnp.arange(num_members)))
    for name, layer in samples.items():
        p = np.asarray(state.probs[name], np.float64)
        sigmas = (layer.mean(axis=0) - p) / np.sqrt(p * (1 - p) / num_members)
        assert np.abs(sigmas).max() < 5
        assert np.abs(sigmas).max() > 0.5, "too good to be drawn"


@pytest.mark.slow
def test_bits_of_a_member_and_of_different_members_are_independent():
    shapes = {"one": (8, 6), "two": (8, 6)}
    strategy = make_ec(num_members=4000, connection_shapes=shapes)
    drawn = unpack(strategy.ask(jax.random.key(1), strategy.init(KEY), jnp.arange(4000)), shapes)
    flat = np.concatenate([layer.reshape(4000, -1) for layer in drawn.values()], axis=1) * 2.0 - 1.0
    between_bits = flat.T @ flat / np.sqrt(len(flat))
    np.fill_diagonal(between_bits, 0)
    assert np.abs(between_bits).max() < 5.5
    neighbours = (flat[1:] * flat[:-1]).sum(axis=0) / np.sqrt(len(flat))
    assert np.abs(neighbours).max() < 5
    between_members = flat[:500] @ flat[:500].T / np.sqrt(flat.shape[1])
    np.fill_diagonal(between_members, 0)
    assert np.abs(between_members).max() < 6


@pytest.mark.slow
def test_a_draw_is_a_function_of_key_and_member_alone():
    strategy = make_ec()
    state, key = uneven_state(strategy), jax.random.key(2)
    ask = jax.jit(strategy.ask)
    together = ask(key, state, jnp.arange(40))
    for members in ([7], [39, 0, 7], list(range(20, 37)), [3] * 16):
        some = ask(key, state, jnp.asarray(members))
        for name in SHAPES:
            np.testing.assert_array_equal(some[name], together[name][np.asarray(members)])
    other_key = ask(jax.random.key(3), state, jnp.arange(40))
    assert not any(np.array_equal(other_key[name], together[name]) for name in SHAPES)
    assert len({np.asarray(together["recurrent"][m]).tobytes() for m in range(40)}) == 40


@functools.cache
def compiled_sums():
    """Returns a state, and the sums of one strategy, compiled once for all examples."""
    strategy = make_ec()
    return strategy.init(KEY), jax.jit(strategy.weighted_sums)


@pytest.mark.slow
@settings(max_examples=20)
@given(num_members=st.sampled_from([2, 40]), seed=st.integers(0, 10_000))
def test_sums_are_whole_numbers_in_any_order(num_members, seed):
    connections = random_connections(num_members, seed)
    rng = np.random.default_rng(seed)
    ranks = rng.integers(-90_000, 90_000, num_members).astype(np.int32)
    order = rng.permutation(num_members)
    state, add = compiled_sums()
    sums = add(state, pack(connections), jnp.asarray(ranks))
    shuffled = add(state, pack({k: x[order] for k, x in connections.items()}), jnp.asarray(ranks[order]))
    for name, layer in connections.items():
        expected = np.einsum("m,mij->ij", ranks.astype(np.int64), layer.astype(np.int64))
        assert sums[name].dtype == jnp.int32
        np.testing.assert_array_equal(sums[name], expected)
        np.testing.assert_array_equal(shuffled[name], expected)


@pytest.mark.slow
def test_members_of_rank_0_do_not_take_part():
    strategy = make_ec()
    state, connections = strategy.init(KEY), random_connections(4)
    ranks = jnp.asarray([3, 0, -1, 0])
    others = {k: x[[0, 2]] for k, x in connections.items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        strategy.weighted_sums(state, pack(connections), ranks),
        strategy.weighted_sums(state, pack(others), ranks[jnp.asarray([0, 2])]),
    )


@pytest.mark.slow
def test_equal_fitness_leaves_the_probabilities_unchanged():
    strategy = make_ec()
    state = uneven_state(strategy)
    after, metrics = update(strategy, state, random_connections(30), np.full(30, 17.0))
    jax.tree.map(np.testing.assert_array_equal, after.probs, state.probs)
    assert float(metrics["update_snr"]) == 0


@pytest.mark.slow
def test_better_members_pull_the_probabilities_toward_their_connections():
    strategy = make_ec(learning_rate=0.1)
    connections = random_connections(200)
    wanted, unwanted = connections["input"][:, 2, 3], connections["output"][:, 1, 0]
    state = strategy.init(KEY)
    after, _ = update(strategy, state, connections, wanted * 1.0 - unwanted * 1.0)
    # Adam's first step has the length of the learning rate.
    assert float(after.probs["input"][2, 3]) == pytest.approx(0.6, abs=1e-3)
    assert float(after.probs["output"][1, 0]) == pytest.approx(0.4, abs=1e-3)


@pytest.mark.slow
def test_adam_with_other_constants_is_the_textbooks():
    b1, b2, adam_eps, lr, decay = 0.8, 0.95, 1e-3, 0.05, 0.3
    strategy = make_ec(
        learning_rate=lr,
        adam_beta1=b1,
        adam_beta2=b2,
        adam_eps=adam_eps,
        weight_decay=decay,
        initial_prob=0.3,
    )
    state = strategy.init(KEY)
    p = np.full(SHAPES["input"], 0.3)
    m = v = np.zeros(SHAPES["input"])
    for t in range(1, 5):
        connections = random_connections(30, seed=t)
        fitness = connections["input"].reshape(30, -1) @ np.random.default_rng(t).normal(size=30)
        w = np.argsort(np.argsort(fitness)) / 29 - 0.5
        g = np.einsum("m,mij->ij", w, connections["input"] - p) / 30
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + adam_eps)
        p = np.clip(p + lr * (step - decay * p), 1e-3, 1 - 1e-3)
        state, _ = update(strategy, state, connections, fitness)
        np.testing.assert_allclose(state.probs["input"], p, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_weight_decay_moves_toward_0():
    strategy = make_ec(learning_rate=0.1, weight_decay=0.5)
    state = uneven_state(strategy)
    after, _ = update(strategy, state, random_connections(10), np.zeros(10))
    for name, p in state.probs.items():
        np.testing.assert_allclose(after.probs[name], np.asarray(p) * 0.95, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("eps", [1e-3, 0.1])
def test_probabilities_stay_away_from_0_and_1(eps):
    strategy = make_ec(learning_rate=3.0, eps=eps)
    state = strategy.init(KEY)
    for seed in range(3):
        connections = random_connections(50, seed)
        state, _ = update(strategy, state, connections, np.random.default_rng(seed).normal(size=50))
        p = np.concatenate([np.asarray(x).ravel() for x in state.probs.values()])
        assert p.min() == np.float32(eps) and p.max() == np.float32(1 - eps)


@pytest.mark.slow
def test_the_centre_has_the_connections_more_likely_than_not():
    strategy = make_ec()
    assert not any(layer.any() for layer in unpack(strategy.center(strategy.init(KEY))).values())
    state = uneven_state(strategy)
    for name, layer in unpack(strategy.center(state)).items():
        np.testing.assert_array_equal(layer, np.asarray(state.probs[name])[None] > 0.5)


def test_metrics_of_the_probabilities():
    eps = 0.01
    strategy = make_ec(eps=eps)
    state = uneven_state(strategy)
    # Within 2·eps of a bound, which is at eps and 1 - eps.
    edges = {"output": np.asarray([[0.01, 0.0299, 0.0301], [0.99, 0.9701, 0.9699], [0.5] * 3, [0.2] * 3])}
    state = with_probs(state, {**state.probs, **edges})
    p = np.concatenate([np.asarray(x, np.float64).ravel() for x in state.probs.values()])
    metrics = strategy.metrics(state)
    assert float(metrics["density"]) == pytest.approx(p.mean(), rel=1e-5)
    entropy = np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p))
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-5)
    saturated = np.mean((p < 3 * eps) | (p > 1 - 3 * eps))
    assert saturated >= 4 / len(p)
    assert float(metrics["saturated"]) == pytest.approx(saturated, rel=1e-5)
    start = {k: float(v) for k, v in strategy.metrics(strategy.init(KEY)).items()}
    assert start == pytest.approx({"density": 0.5, "entropy": 1.0, "saturated": 0.0}, rel=1e-6)


@pytest.mark.parametrize("eps", [0.17, 0.4])
def test_undecided_probabilities_are_not_saturated_whatever_their_bounds(eps):
    strategy = make_ec(eps=eps)
    state = strategy.init(KEY)
    assert float(strategy.metrics(state)["saturated"]) == 0
    at_bounds = with_probs(
        state, {k: np.where(np.arange(p.size).reshape(p.shape) % 2, eps, 1 - eps) for k, p in state.probs.items()}
    )
    assert float(strategy.metrics(at_bounds)["saturated"]) == pytest.approx(1)


def test_a_probability_that_rounds_to_1_has_no_entropy():
    assert float(make_ec(initial_prob=1 - 1e-9).metrics(make_ec(initial_prob=1 - 1e-9).init(KEY))["entropy"]) == 0


def test_update_snr_is_0_on_average_where_fitness_says_nothing():
    strategy = make_ec()
    state, members = uneven_state(strategy), jnp.arange(60)

    @jax.jit
    def snr(seed):
        key, fitness_key = jax.random.split(jax.random.key(seed))
        ranks = doubled_centered_ranks(jax.random.normal(fitness_key, (60,)))
        sums = strategy.weighted_sums(state, strategy.ask(key, state, members), ranks)
        return strategy.tell(state, sums, ranks)[1]["update_snr"]

    values = np.asarray([snr(seed) for seed in range(200)])
    standard_error = values.std() / np.sqrt(len(values))
    assert abs(values.mean()) < 4 * standard_error
    assert 0.05 < values.std() < 0.3


@pytest.mark.slow
def test_update_snr_is_clear_where_fitness_follows_a_connection():
    strategy = make_ec()
    connections = random_connections(400)
    _, metrics = update(strategy, strategy.init(KEY), connections, connections["input"][:, 0, 0] * 1.0)
    # One of 227 components has w and its bit in lockstep: mean(w²)·M / 4 of power, against mean(w²) / 4 a component.
    assert float(metrics["update_snr"]) == pytest.approx(400 / 227, rel=0.25)


@pytest.mark.slow
def test_the_next_probabilities_depend_on_nothing_but_state_sums_and_ranks():
    strategy = make_ec()
    connections, fitness = random_connections(20), np.arange(20.0)
    order = np.random.default_rng(1).permutation(20)
    straight, _ = update(strategy, strategy.init(KEY), connections, fitness)
    shuffled, _ = update(strategy, strategy.init(KEY), {k: x[order] for k, x in connections.items()}, fitness[order])
    jax.tree.map(np.testing.assert_array_equal, shuffled, straight)


@pytest.mark.slow
def test_large_populations_are_added_in_two_parts():
    """Ranks so large that int32 sums of them overflow; each part alone is far from it."""
    whole = make_ec()
    in_parts = make_ec(num_members=2_000_000)
    num_members = 3000
    connections = random_connections(num_members)
    ranks = np.linspace(-(2**23), 2**23, num_members).astype(np.int32)
    low, high = jax.jit(in_parts.weighted_sums)(whole.init(KEY), pack(connections), jnp.asarray(ranks))
    positive = {name: layer * (ranks > 0)[:, None, None] for name, layer in connections.items()}
    for name, layer in connections.items():
        expected = np.einsum("m,mij->ij", ranks.astype(np.int64), layer.astype(np.int64))
        added = np.asarray(low[name], np.int64) + 1024 * np.asarray(high[name], np.int64)
        np.testing.assert_array_equal(added, expected)
        assert np.einsum("m,mij->ij", ranks.astype(np.int64), positive[name]).max() > 2**31 - 1


@pytest.mark.slow
def test_two_parts_move_the_probabilities_as_one_does(monkeypatch):
    state, connections = make_ec().init(KEY), random_connections(40)
    fitness = np.random.default_rng(3).normal(size=40)
    in_one, _ = update(make_ec(num_members=40), state, connections, fitness)
    monkeypatch.setattr(connectivity, "_MAX_IN_ONE_PART", 39)
    in_two, _ = update(make_ec(num_members=40), state, connections, fitness)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), in_two.probs, in_one.probs)


def test_no_sum_can_overflow():
    """All members of a connection have it or not, so a sum is at most that of the ranks above 0: M² / 4."""
    low = 2**connectivity._LOW_BITS
    in_one, most = connectivity._MAX_IN_ONE_PART, connectivity.MAX_MEMBERS
    assert in_one**2 / 4 < 2**31
    assert (low - 1) * most < 2**31 and most**2 / 4 / low + most < 2**31
    with pytest.raises(ValueError, match="2000001 members"):
        make_ec(num_members=most + 1)
    (bound,) = (f.metadata["high"] for f in dataclasses.fields(EcConfig) if f.name == "population")
    assert bound <= most
