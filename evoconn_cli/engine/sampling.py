"""Bernoulli samples drawn 32 at a time, as packed words.

A connection is there where a uniform number of 16 bits is below its threshold. Numbers and thresholds are laid out in
bit planes, word `[plane, w]` holding one bit of 32 of them, and compared plane by plane: half a random word a
connection, a few operations on words, and the sample is packed when it is done.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

from evoconn_cli.networks import bits

NUM_PLANES = 16
"""Bits of the uniform numbers; probabilities are rounded to multiples of 2^-16."""


def threshold_planes(probs: jax.Array) -> jax.Array:
    """Returns `[16, W, post]` uint32 thresholds of `probs` `[pre, post]`, least significant plane first.

    Below 2^-17 a probability is rounded to 0; above 1 - 2^-16 it is rounded down to that.
    """
    levels = 2**NUM_PLANES
    thresholds = jnp.minimum(jnp.round(probs * levels), levels - 1).astype(jnp.uint32)
    planes = (thresholds >> jnp.arange(NUM_PLANES, dtype=jnp.uint32)[:, None, None]) & 1
    return bits.pack(planes.astype(bool), axis=1)


def packed_bernoulli(key: jax.Array, planes: jax.Array) -> jax.Array:
    """Returns `[W, post]` uint32, a packed boolean sample with the probabilities of `planes`.

    Args:
        key: a threefry key; the words are its stream from the start, both halves of each counter.
        planes: of `threshold_planes`.
    """
    counters = jnp.arange(planes.size, dtype=jnp.uint32)
    random = threefry_2x32(jax.random.key_data(key), counters).reshape(planes.shape)
    below = jnp.zeros(planes.shape[1:], jnp.uint32)
    for plane, drawn in zip(planes, random, strict=True):
        # Where the bits differ they decide, unless a higher plane does; where they are equal the lower planes decide.
        below ^= (plane ^ drawn) & (below ^ plane)
    return below
