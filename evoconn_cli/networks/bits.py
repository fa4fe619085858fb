"""Booleans packed into words of 32 bits.

Bit `b` of word `w`, of `W` words in all, holds element `b·W + w` of the packed axis; bits beyond its end are zero.
Neighbours are in different words, so packing takes 32 operations on whole words and none across a vector register.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

WORD = 32


def num_words(length: int) -> int:
    """Returns the number of words that hold `length` bits."""
    return -(-length // WORD)


def pack(bits: jax.Array, axis: int) -> jax.Array:
    """Returns booleans packed along `axis` into uint32 words.

    Args:
        bits: bool array.
        axis: Axis to pack, of length `L`; it has `ceil(L / 32)` words in the result.
    """
    axis %= bits.ndim
    words = num_words(bits.shape[axis])
    padding = [(0, 0)] * bits.ndim
    padding[axis] = (0, words * WORD - bits.shape[axis])
    split = (*bits.shape[:axis], WORD, words, *bits.shape[axis + 1 :])
    bits = jnp.pad(bits, padding).reshape(split)
    # Four sums of eight, because each addition waits for the one before it; all four have the same eight places.
    places = jax.lax.slice_in_dim(_places(bits.ndim, axis), 0, 8, axis=axis)
    in_bytes = [
        jnp.sum(jnp.where(byte, places, jnp.uint32(0)), axis=axis, dtype=jnp.uint32)
        for byte in jnp.split(bits, 4, axis)
    ]
    return functools.reduce(jnp.bitwise_or, [byte << np.uint32(8 * i) for i, byte in enumerate(in_bytes)])


def unpack(words: jax.Array, axis: int, length: int) -> jax.Array:
    """Returns the first `length` booleans that are packed along `axis` of `words`; the inverse of `pack`."""
    axis %= words.ndim
    bits = (jnp.expand_dims(words, axis) & _places(words.ndim + 1, axis)) != 0
    merged = (*words.shape[:axis], WORD * words.shape[axis], *words.shape[axis + 1 :])
    return jax.lax.slice_in_dim(bits.reshape(merged), 0, length, axis=axis)


def to_bytes(words: jax.Array, axis: int) -> jax.Array:
    """Returns the bytes of uint32 words as uint8, four per word along `axis`, the lowest first."""
    axis %= words.ndim
    split = jnp.moveaxis(jax.lax.bitcast_convert_type(words, jnp.uint8), -1, axis + 1)
    return split.reshape(*words.shape[:axis], -1, *words.shape[axis + 1 :])


def _places(ndim: int, axis: int) -> jax.Array:
    """Returns 2⁰ to 2³¹ along `axis` of an array with `ndim` axes."""
    shape = [1] * ndim
    shape[axis] = WORD
    return (jnp.uint32(1) << jnp.arange(WORD, dtype=jnp.uint32)).reshape(shape)
