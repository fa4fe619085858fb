"""Samples drawn in bit planes, against the same random bits compared as whole numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from evoconn_cli.engine.strategies.connectivity import NUM_PLANES, packed_bernoulli, threshold_planes
from evoconn_cli.networks import bits


def numbers_of(planes: np.ndarray, length: int) -> np.ndarray:
    """Returns the numbers `[pre, post]` whose bits are in `planes` `[16, W, post]`, least significant first."""
    return sum(np.asarray(bits.unpack(plane, 0, length), np.int64) << k for k, plane in enumerate(planes))


@pytest.mark.slow
def test_a_connection_is_there_where_its_number_is_below_its_threshold():
    probs = np.random.default_rng(0).random((70, 5)).astype(np.float32)
    key = jax.random.key(3)
    planes = threshold_planes(jnp.asarray(probs))
    drawn = threefry_2x32(jax.random.key_data(key), jnp.arange(planes.size, dtype=jnp.uint32)).reshape(planes.shape)
    sample = bits.unpack(packed_bernoulli(key, planes), 0, 70)
    np.testing.assert_array_equal(sample, numbers_of(drawn, 70) < numbers_of(planes, 70))
    assert 0.3 < np.mean(sample) < 0.7


@pytest.mark.slow
def test_thresholds_are_probabilities_to_16_bits():
    probs = np.array([[0.0, 2**-18, 2**-16, 0.001, 0.5, 0.999, 1.0 - 2**-16, 1.0]], np.float32)
    thresholds = numbers_of(threshold_planes(jnp.asarray(probs)), 1)
    np.testing.assert_array_equal(thresholds, [[0, 0, 1, 66, 2**15, 65470, 2**16 - 1, 2**16 - 1]])
    assert NUM_PLANES == 16


@pytest.mark.slow
def test_what_is_beyond_the_end_stays_empty():
    words = packed_bernoulli(jax.random.key(0), threshold_planes(jnp.full((33, 4), 0.99)))
    assert np.asarray(bits.unpack(words, 0, 64))[33:].sum() == 0
