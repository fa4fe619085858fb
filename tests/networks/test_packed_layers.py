"""Layers packed in one or two bits per entry, and sums over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.export.bundle.run_network import Network as Replay
from evoconn_cli.networks.packed_layers import boolean_sum, by_fours, pack_boolean, pack_ternary, ternary_sum


def random_boolean(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape) < 0.5


def random_ternary(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1, 2, shape).astype(np.int8)


@pytest.mark.parametrize("inputs", [1, 31, 32, 33, 256, 300])
def test_every_missing_entry_is_a_bit_of_its_window(inputs):
    layer = random_boolean(2, inputs, 5)
    packed = np.asarray(pack_boolean(jnp.asarray(layer)))
    windows = -(-inputs // 32)
    assert packed.shape == (2, windows, 5)
    before = (32 * windows - inputs) // 2
    for entry in range(inputs):
        window, bit = divmod(before + entry, 32)
        np.testing.assert_array_equal(packed[:, window] >> np.uint32(bit) & 1, ~layer[:, entry])
    assert np.bitwise_count(~packed).sum() == layer.sum()


@pytest.mark.parametrize("inputs", [1, 32, 33, 256, 300, 1024, 1100])
def test_the_sum_over_booleans_is_that_of_the_exported_simulator_to_the_last_bit(inputs):
    layer = random_boolean(3, inputs, 7)
    x = np.random.default_rng(1).normal(size=(3, inputs)).astype(np.float32)
    total = jax.jit(lambda layer, x: boolean_sum(pack_boolean(layer), x))(layer, x)
    simulator = object.__new__(Replay)  # the sum needs none of its files
    expected = [
        Replay.sum_over_neurons(simulator, k.astype(np.float32) * row[:, None]) for k, row in zip(layer, x, strict=True)
    ]
    np.testing.assert_array_equal(total, expected)


def test_what_is_not_a_number_reaches_what_a_boolean_connects():
    packed = pack_boolean(jnp.asarray([[[True, False]]]))
    np.testing.assert_array_equal(np.isnan(boolean_sum(packed, jnp.asarray([[jnp.nan]]))), [[True, False]])


@pytest.mark.parametrize("inputs", [1, 3, 4, 5, 240])
def test_every_ternary_entry_is_in_its_two_bits(inputs):
    layer = random_ternary(2, inputs, 5)
    packed = np.asarray(pack_ternary(jnp.asarray(layer)))
    assert packed.shape == (2, -(-inputs // 4), 5)
    for entry in range(inputs):
        code = packed[:, entry // 4] >> np.uint8(6 - 2 * (entry % 4)) & 3
        np.testing.assert_array_equal(np.select([code == 1, code == 3], [1, -1]), layer[:, entry])


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [1, 4, 27])
def test_the_sum_over_ternaries_is_that_of_floats_in_order(inputs):
    layer = random_ternary(3, inputs, 7)
    x = np.random.default_rng(1).normal(size=(3, inputs)).astype(np.float32)
    total = np.zeros((3, 7), np.float32)
    for i in range(inputs):
        total = total + layer[:, i].astype(np.float32) * x[:, i, None]
    packed, fours, sums = pack_ternary(jnp.asarray(layer)), by_fours(x), jax.jit(ternary_sum)
    np.testing.assert_array_equal(sums(packed, fours), total)
    for member in range(3):
        np.testing.assert_array_equal(sums(packed, fours, member), total[member])
    assert not sums(packed, fours, 1, False).any()


def test_what_is_not_a_number_reaches_every_neuron_that_it_is_connected_to():
    packed = pack_ternary(jnp.asarray([[1, 0, -1]], jnp.int8))
    np.testing.assert_array_equal(np.isnan(ternary_sum(packed, by_fours(jnp.asarray([jnp.inf])))), [False, True, False])
