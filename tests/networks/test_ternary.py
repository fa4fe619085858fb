"""Layers of -1, 0 and 1 in two bits an entry."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.networks import ternary


def random_layer(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1, 2, shape).astype(np.int8)


@pytest.mark.parametrize("inputs", [1, 3, 4, 5, 240])
def test_every_entry_is_in_its_two_bits(inputs):
    layer = random_layer(2, inputs, 5)
    packed = np.asarray(ternary.pack(jnp.asarray(layer)))
    assert packed.shape == (2, -(-inputs // 4), 5)
    for entry in range(inputs):
        code = packed[:, entry // 4] >> np.uint8(6 - 2 * (entry % 4)) & 3
        np.testing.assert_array_equal(np.select([code == 1, code == 3], [1, -1]), layer[:, entry])


@pytest.mark.parametrize("inputs", [1, 4, 27])
def test_the_sum_is_that_of_floats_in_order(inputs):
    layer = random_layer(3, inputs, 7)
    x = np.random.default_rng(1).normal(size=(3, inputs)).astype(np.float32)
    total = np.zeros((3, 7), np.float32)
    for i in range(inputs):
        total = total + layer[:, i].astype(np.float32) * x[:, i, None]
    packed, fours, sums = ternary.pack(jnp.asarray(layer)), ternary.by_fours(x), jax.jit(ternary.weighted_sum)
    np.testing.assert_array_equal(sums(packed, fours), total)
    for member in range(3):
        np.testing.assert_array_equal(sums(packed, fours, member), total[member])
    assert not sums(packed, fours, 1, False).any()


def test_what_is_not_a_number_reaches_every_neuron_that_it_is_connected_to():
    packed = ternary.pack(jnp.asarray([[1, 0, -1]], jnp.int8))
    np.testing.assert_array_equal(
        np.isnan(ternary.weighted_sum(packed, ternary.by_fours(jnp.asarray([jnp.inf])))), [False, True, False]
    )
