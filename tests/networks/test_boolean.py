"""Layers of booleans in one bit an entry."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.export.bundle.run_network import Network as Replay
from evoconn_cli.networks import boolean


def random_layer(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape) < 0.5


@pytest.mark.parametrize("inputs", [1, 31, 32, 33, 256, 300])
def test_every_missing_entry_is_a_bit_of_its_window(inputs):
    layer = random_layer(2, inputs, 5)
    packed = np.asarray(boolean.pack(jnp.asarray(layer)))
    windows = -(-inputs // 32)
    assert packed.shape == (2, windows, 5)
    before = (32 * windows - inputs) // 2
    for entry in range(inputs):
        window, bit = divmod(before + entry, 32)
        np.testing.assert_array_equal(packed[:, window] >> np.uint32(bit) & 1, ~layer[:, entry])
    assert np.bitwise_count(~packed).sum() == layer.sum()


@pytest.mark.parametrize("inputs", [1, 32, 33, 256, 300, 1024, 1100])
def test_the_sum_is_that_of_the_exported_simulator_to_the_last_bit(inputs):
    layer = random_layer(3, inputs, 7)
    x = np.random.default_rng(1).normal(size=(3, inputs)).astype(np.float32)
    total = jax.jit(lambda layer, x: boolean.weighted_sum(boolean.pack(layer), x))(layer, x)
    simulator = object.__new__(Replay)  # the sum needs none of its files
    expected = [
        Replay.sum_over_neurons(simulator, k.astype(np.float32) * row[:, None]) for k, row in zip(layer, x, strict=True)
    ]
    np.testing.assert_array_equal(total, expected)


def test_what_is_not_a_number_reaches_what_it_is_connected_to():
    packed = boolean.pack(jnp.asarray([[[True, False]]]))
    np.testing.assert_array_equal(np.isnan(boolean.weighted_sum(packed, jnp.asarray([[jnp.nan]]))), [[True, False]])
