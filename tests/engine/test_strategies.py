"""What holds for every strategy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_configs import ec_config, es_config

from evoconn_cli.engine.strategies.connectivity import make_connectivity
from evoconn_cli.engine.strategies.gaussian import make_gaussian
from evoconn_cli.engine.strategies.shaping import doubled_centered_ranks
from evoconn_cli.networks import bits

M, SHAPE = 48, (7, 5)


def unpacked(candidates):
    return bits.unpack(candidates["kernel"], axis=1, length=SHAPE[0]).astype(jnp.float32)


STRATEGIES = {
    "ec": (make_connectivity(ec_config(M), connection_shapes={"kernel": SHAPE}), unpacked),
    "es": (
        make_gaussian(
            es_config(M, sigma=0.1, learning_rate=0.05, weight_decay=0.0),
            lambda key: {"kernel": jax.random.normal(key, SHAPE)},
        ),
        lambda candidates: candidates["kernel"],
    ),
}


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return STRATEGIES[request.param]


def generation(strategy, state, key, fitness_fn):
    candidates = strategy.ask(key, state, jnp.arange(M))
    ranks = doubled_centered_ranks(fitness_fn(candidates))
    return strategy.tell(state, strategy.weighted_sums(state, candidates, ranks), ranks)


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.slow
def test_the_state_keeps_its_shapes_and_dtypes(strategy):
    strategy, values = strategy
    state = strategy.init(jax.random.key(0))
    after, metrics = generation(strategy, state, jax.random.key(1), lambda c: values(c).sum((1, 2)))
    described = [jax.tree.map(lambda x: (x.shape, x.dtype), s) for s in (state, after)]
    assert described[0] == described[1]
    assert all(x.shape == () for x in (*metrics.values(), *strategy.metrics(after).values()))


def test_the_center_has_no_chance_in_it_and_looks_like_a_candidate(strategy):
    strategy, _ = strategy
    state = strategy.init(jax.random.key(0))
    center, drawn = strategy.center(state), strategy.ask(jax.random.key(1), state, jnp.arange(1))
    assert same(center, strategy.center(state))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), center) == jax.tree.map(lambda x: (x.shape, x.dtype), drawn)


def test_better_members_pull_the_center_toward_them(strategy):
    strategy, values = strategy
    target = (jnp.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) % 3 == 0).astype(jnp.float32)

    def fitness(candidates):
        return -jnp.sum(jnp.square(values(candidates) - target), axis=(1, 2))

    state = strategy.init(jax.random.key(0))
    before = float(fitness(strategy.center(state))[0])
    tell = jax.jit(lambda state, key: generation(strategy, state, key, fitness)[0])
    for seed in range(40):
        state = tell(state, jax.random.key(seed))
    assert float(fitness(strategy.center(state))[0]) > before / 3


@pytest.mark.slow
def test_equal_fitness_gives_no_update(strategy):
    strategy, _ = strategy
    state = strategy.init(jax.random.key(0))
    after, metrics = generation(strategy, state, jax.random.key(1), lambda c: jnp.ones((M,)))
    assert same(strategy.center(state), strategy.center(after))
    assert float(metrics["update_snr"]) == 0.0


@pytest.mark.slow
def test_a_block_asks_for_the_same_members_as_the_whole(strategy):
    strategy, values = strategy
    state, key = strategy.init(jax.random.key(0)), jax.random.key(1)
    whole = values(strategy.ask(key, state, jnp.arange(M)))
    for start in range(0, M, 16):
        block = values(strategy.ask(key, state, jnp.arange(start, start + 16)))
        np.testing.assert_array_equal(block, whole[start : start + 16])


def test_sums_add_up_over_blocks(strategy):
    strategy, _ = strategy
    state = strategy.init(jax.random.key(0))
    candidates = strategy.ask(jax.random.key(1), state, jnp.arange(M))
    ranks = doubled_centered_ranks(jax.random.normal(jax.random.key(2), (M,)))
    whole = strategy.weighted_sums(state, candidates, ranks)
    parts = []
    for block in (slice(0, 16), slice(16, 32), slice(32, 48)):
        own = jax.tree.map(lambda x, block=block: x[block], candidates)
        parts.append(strategy.weighted_sums(state, own, ranks[block]))
    total = jax.tree.map(lambda *x: sum(x), *parts)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_members_of_rank_zero_do_not_count(strategy):
    strategy, _ = strategy
    state = strategy.init(jax.random.key(0))
    candidates = strategy.ask(jax.random.key(1), state, jnp.arange(M))
    sums = strategy.weighted_sums(state, candidates, jnp.zeros((M,), jnp.int32))
    assert all(not np.any(x) for x in jax.tree.leaves(sums))
