from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.engine import normalizer as norm


def learn(state, batch):
    """Returns the statistics after a batch `[B, O]`, each member having observed once."""
    obs = jnp.asarray(batch, jnp.float32).T
    sums = norm.empty_sums(obs.shape[0], obs.shape[1])
    sums = norm.add_observation(state, sums, obs, jnp.ones(obs.shape[1], bool))
    return norm.update(state, norm.total(sums))


@pytest.mark.slow
def test_golden_updates(golden):
    arrays = golden("normalizer")
    state = norm.initial_normalizer(7)
    for t, batch in enumerate(arrays["batches"]):
        state = learn(state, batch)
        assert float(state.count) == arrays["count"][t]
        np.testing.assert_allclose(state.mean, arrays["mean"][t], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.std, arrays["std"][t], rtol=1e-5, atol=1e-6)
    normalized = norm.normalize(state, jnp.asarray(arrays["x"]).T)
    np.testing.assert_allclose(normalized.T, arrays["normalized"], rtol=1e-4, atol=1e-5)


def test_before_the_first_update_observations_are_left_as_they_are():
    obs = jnp.asarray([[1.5, -2.0], [1e4, 0.0], [3.0, 7.0]])
    np.testing.assert_array_equal(norm.normalize(norm.initial_normalizer(3), obs), obs)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [5, 1, 30], [100]])
def test_statistics_are_those_of_all_observations_together(sizes):
    rng = np.random.default_rng(0)
    seen = np.zeros((0, 4))
    state = norm.initial_normalizer(4)
    for size in sizes:
        batch = rng.normal([0, 3, -20, 0.1], [1, 0.1, 5, 3], (size, 4)).astype(np.float32)
        state = learn(state, batch)
        seen = np.concatenate([seen, batch])
        assert float(state.count) == len(seen)
        np.testing.assert_allclose(state.mean, seen.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state.std, np.maximum(seen.std(axis=0), norm.STD_MIN), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_sums_over_several_steps_count_only_who_counts():
    rng = np.random.default_rng(1)
    state = learn(norm.initial_normalizer(3), rng.normal(size=(10, 3)))
    steps = rng.normal(1.0, 2.0, (6, 3, 5)).astype(np.float32)
    counts = rng.random((6, 5)) < 0.5
    sums = norm.empty_sums(3, 5)
    for obs, count in zip(steps, counts, strict=True):
        sums = norm.add_observation(state, sums, jnp.asarray(obs), jnp.asarray(count))
    np.testing.assert_array_equal(sums.count, counts.sum(axis=0))
    once = learn(state, np.moveaxis(steps, 1, -1)[counts])
    several = norm.update(state, norm.total(sums))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), several, once)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_member_whose_observations_are_not_finite_is_left_out_whole(bad):
    rng = np.random.default_rng(2)
    state = norm.initial_normalizer(3)
    first, second = rng.normal(size=(2, 3, 4)).astype(np.float32)
    spoilt = first.copy()
    spoilt[1, 2] = bad  # 1e30 is finite, its square is not
    sums = norm.empty_sums(3, 4)
    for obs in (spoilt, second):
        sums = norm.add_observation(state, sums, jnp.asarray(obs), jnp.ones(4, bool))
    others = [0, 1, 3]
    expected = learn(state, np.concatenate([first[:, others].T, second[:, others].T]))
    updated = norm.update(state, norm.total(sums))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), updated, expected)


def test_a_member_that_does_not_count_cannot_spoil_anything():
    state = norm.initial_normalizer(2)
    sums = norm.empty_sums(2, 2)
    obs = jnp.asarray([[1.0, jnp.nan], [2.0, jnp.inf]])
    sums = norm.add_observation(state, sums, obs, jnp.asarray([True, False]))
    updated = norm.update(state, norm.total(sums))
    np.testing.assert_array_equal(updated.mean, [1.0, 2.0])
    assert float(updated.count) == 1


def test_no_observation_leaves_the_state_as_it_is():
    state = learn(norm.initial_normalizer(3), np.random.default_rng(3).normal(size=(10, 3)))
    for before in (state, norm.initial_normalizer(3)):
        after = norm.update(before, norm.total(norm.empty_sums(3, 4)))
        jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.slow
def test_the_standard_deviation_is_clipped():
    constant = learn(norm.initial_normalizer(2), np.full((5, 2), 3.0))
    np.testing.assert_array_equal(constant.std, np.float32(norm.STD_MIN))
    wide = learn(norm.initial_normalizer(1), np.asarray([[-1e8], [1e8]]))
    np.testing.assert_array_equal(wide.std, np.float32(norm.STD_MAX))
    assert (norm.STD_MIN, norm.STD_MAX) == (1e-6, 1e6)
