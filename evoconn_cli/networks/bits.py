"""Booleans packed into words of 32 bits.

Bit `b` of word `w` holds element `32·w + b` of the packed axis; the last word is filled up with zeros.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

WORD = 32


def num_words(length: int) -> int:
    """Returns how many words hold `length` bits."""
    return -(-length // WORD)


def pack(bits: jax.Array, axis: int) -> jax.Array:
    """Returns booleans packed along `axis` into uint32 words.

    Args:
        bits: bool array; axis of length `L`.
        axis: the axis to pack; it has `ceil(L / 32)` words in the result.
    """
    axis %= bits.ndim
    length = bits.shape[axis]
    padding = [(0, 0)] * bits.ndim
    padding[axis] = (0, num_words(length) * WORD - length)
    split = (*bits.shape[:axis], num_words(length), WORD, *bits.shape[axis + 1 :])
    bits = jnp.pad(bits, padding).reshape(split)
    return jnp.sum(bits.astype(jnp.uint32) << _places(bits.ndim, axis + 1), axis=axis + 1, dtype=jnp.uint32)


def unpack(words: jax.Array, axis: int, length: int) -> jax.Array:
    """Returns the first `length` booleans that are packed along `axis` of `words`; the inverse of `pack`."""
    axis %= words.ndim
    bits = (jnp.expand_dims(words, axis + 1) >> _places(words.ndim + 1, axis + 1)) & 1
    merged = (*words.shape[:axis], words.shape[axis] * WORD, *words.shape[axis + 1 :])
    return jax.lax.slice_in_dim(bits.reshape(merged), 0, length, axis=axis).astype(bool)


def _places(ndim: int, axis: int) -> jax.Array:
    """Returns 0..31 along `axis` of an array with `ndim` axes."""
    shape = [1] * ndim
    shape[axis] = WORD
    return jnp.arange(WORD, dtype=jnp.uint32).reshape(shape)
