from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoconn_cli.engine.strategies.shaping import SHAPINGS, doubled_centered_ranks, log_ranks

# Few distinct values, so that ties are common; subnormal numbers are flushed to 0 by some devices.
VALUES = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 3.5]),
    st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
)
# Few lengths, since each is compiled.
FITNESS = st.sampled_from([2, 3, 8, 33]).flatmap(lambda n: st.lists(VALUES, min_size=n, max_size=n))


def plain_ranks(fitness: list[float]) -> list[int]:
    """Doubled centred ranks by counting: twice the mean rank of those equal to a member, less M - 1."""
    fitness = [f if np.isfinite(f) else -np.inf for f in fitness]
    ranks = []
    for f in fitness:
        below = sum(g < f for g in fitness)
        equal = sum(g == f for g in fitness)
        ranks.append(2 * below + (equal - 1) - (len(fitness) - 1))
    return ranks


@pytest.mark.slow
@given(FITNESS)
def test_ties_share_the_mean_rank_and_what_is_not_finite_ranks_worst(fitness):
    ranks = np.asarray(doubled_centered_ranks(jnp.asarray(fitness, jnp.float32)))
    assert ranks.dtype == np.int32
    assert ranks.tolist() == plain_ranks(np.asarray(fitness, np.float32).tolist())
    assert ranks.sum() == 0


@pytest.mark.slow
@given(FITNESS, st.randoms(use_true_random=False))
def test_ranks_follow_their_members(fitness, random):
    order = list(range(len(fitness)))
    random.shuffle(order)
    fitness = np.asarray(fitness, np.float32)
    ranks = np.asarray(doubled_centered_ranks(jnp.asarray(fitness)))
    np.testing.assert_array_equal(doubled_centered_ranks(jnp.asarray(fitness[order])), ranks[order])


def test_extremes_without_ties():
    assert doubled_centered_ranks(jnp.asarray([3.0, -2.0, 0.5, 9.0])).tolist() == [1, -3, -1, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_failed_members_rank_below_the_worst_one(bad):
    assert doubled_centered_ranks(jnp.asarray([-1e30, bad, 1.0])).tolist() == [0, -2, 2]


def test_all_equal_pull_nowhere():
    assert doubled_centered_ranks(jnp.full(7, 4.0)).tolist() == [0] * 7
    assert doubled_centered_ranks(jnp.full(7, jnp.nan)).tolist() == [0] * 7


def test_weights_of_the_published_code(golden):
    arrays = golden("ec_update")
    for fitness, weight in zip(arrays["fitness"], arrays["weight"], strict=True):
        assert len(set(fitness.tolist())) == len(fitness), "ties are ranked otherwise there"
        ranks = np.asarray(doubled_centered_ranks(jnp.asarray(fitness)))
        np.testing.assert_allclose(ranks / (2 * (len(fitness) - 1)), weight, rtol=1e-6, atol=1e-7)


def plain_log_ranks(fitness: list[float]) -> np.ndarray:
    """Weights by place, those of equal members averaged, with the mean square of doubled centred ranks."""
    num_members = len(fitness)
    weight = np.asarray([-np.log(k) for k in range(1, num_members + 1)])
    weight -= weight.mean()
    weight *= np.sqrt(np.mean((2.0 * np.arange(num_members) - (num_members - 1)) ** 2) / np.mean(weight**2))
    fitness = [f if np.isfinite(f) else -np.inf for f in fitness]
    places = [[k for k, g in enumerate(sorted(fitness, reverse=True)) if g == f] for f in fitness]
    return np.asarray([weight[equal].mean() for equal in places])


@pytest.mark.slow
@given(FITNESS)
def test_log_ranks_are_those_of_the_places_with_equal_members_averaged(fitness):
    weights = np.asarray(log_ranks(jnp.asarray(fitness, jnp.float32)))
    assert weights.dtype == np.int32 and weights.sum() == 0
    assert np.abs(weights - plain_log_ranks(np.asarray(fitness, np.float32).tolist())).max() <= 1.001


@pytest.mark.slow
@pytest.mark.parametrize("num_members", [2, 512, 10_112, 100_000, 2_000_000])
@pytest.mark.parametrize("name", SHAPINGS)
def test_sums_of_weights_are_exact(name, num_members):
    """Sums over any members stay within what two parts of int32 hold, and all sum to 0."""
    fitness = jnp.asarray(np.random.default_rng(0).normal(size=num_members), jnp.float32)
    weights = np.asarray(SHAPINGS[name](fitness), np.int64)
    assert weights.sum() == 0
    assert weights[weights > 0].sum() <= num_members**2 / 4
    assert np.diff(weights[np.argsort(fitness)]).min() >= -1


@pytest.mark.slow
def test_a_rare_member_that_is_much_better_outweighs_many_that_are_luckier_than_some():
    fitness = jnp.asarray([1000.0] + [347.0] * 400 + [300.0] * 111)
    both = (np.asarray(shaping(fitness), float) for shaping in (doubled_centered_ranks, log_ranks))
    pull_of_many = [400 * weights[1] / weights[0] for weights in both]
    assert pull_of_many[0] > 80
    assert 0 < pull_of_many[1] < 20
