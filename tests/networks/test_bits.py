from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoconn_cli.networks import bits


def numpy_pack(booleans: np.ndarray, axis: int) -> np.ndarray:
    """The plain way: numpy packs bytes, little end first, and four of them are a word; neighbours lie a word apart."""
    moved = np.moveaxis(booleans, axis, -1)
    words = -(-moved.shape[-1] // 32)
    padded = np.zeros((*moved.shape[:-1], words * 32), bool)
    padded[..., : moved.shape[-1]] = moved
    padded = np.swapaxes(padded.reshape(*moved.shape[:-1], 32, words), -1, -2).reshape(padded.shape)
    words = np.packbits(padded, axis=-1, bitorder="little").view("<u4")
    return np.moveaxis(words, -1, axis)


# Few shapes, since each is compiled.
SHAPES = [((1,), 0), ((31,), 0), ((32,), -1), ((33,), 0), ((100,), 0), ((65, 3), 0), ((3, 64), 1), ((2, 40, 3), -2)]


@st.composite
def booleans_and_axis(draw):
    shape, axis = draw(st.sampled_from(SHAPES))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(shape) < density, axis


@pytest.mark.slow
@given(booleans_and_axis())
def test_pack_is_numpys_and_unpack_is_its_inverse(case):
    booleans, axis = case
    words = bits.pack(jnp.asarray(booleans), axis)
    assert words.dtype == jnp.uint32
    np.testing.assert_array_equal(words, numpy_pack(booleans, axis % booleans.ndim))
    unpacked = bits.unpack(words, axis, booleans.shape[axis])
    assert unpacked.dtype == bool
    np.testing.assert_array_equal(unpacked, booleans)


@pytest.mark.parametrize("position", [0, 1, 2, 31, 32, 45])
def test_bit_b_of_word_w_is_element_bw_plus_w(position):
    booleans = np.zeros(46, bool)
    booleans[position] = True
    expected = np.zeros(2, np.uint32)
    expected[position % 2] = 1 << (position // 2)
    np.testing.assert_array_equal(bits.pack(jnp.asarray(booleans), 0), expected)


@given(st.integers(1, 5000))
def test_as_many_words_as_needed(length):
    assert 32 * (bits.num_words(length) - 1) < length <= 32 * bits.num_words(length)


def test_a_shorter_length_unpacks_the_first_bits():
    words = jnp.asarray([0b1011, 0b0110], jnp.uint32)
    np.testing.assert_array_equal(bits.unpack(words, 0, 5), [True, False, True, True, False])


def test_bytes_of_words_are_in_their_order():
    words = jnp.asarray([[0x04030201, 0xFF], [0x08070605, 0]], jnp.uint32)
    np.testing.assert_array_equal(bits.to_bytes(words, -1), [[1, 2, 3, 4, 255, 0, 0, 0], [5, 6, 7, 8, 0, 0, 0, 0]])
    np.testing.assert_array_equal(bits.to_bytes(words, 0), bits.to_bytes(words.T, 1).T)
