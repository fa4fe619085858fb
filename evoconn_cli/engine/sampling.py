"""Bernoulli samples drawn 32 at a time, as packed words.

A connection is there where a uniform number of 16 bits is below its threshold. Numbers and thresholds are laid out in
bit planes, word `[plane, w]` holding one bit of 32 of them, and compared plane by plane: half a random word a
connection, a few operations on words, and the sample is packed when it is done.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.networks import bits

NUM_PLANES = 16
"""Bits of the uniform numbers; probabilities are rounded to multiples of 2^-16."""

_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
"""Constants of Threefry-2x32."""


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
    half = NUM_PLANES // 2
    counters = jnp.arange(half * planes[0].size, dtype=jnp.uint32).reshape(half, *planes.shape[1:])
    x, y = _threefry(jax.random.key_data(key), counters, counters + np.uint32(counters.size))
    below = jnp.zeros(planes.shape[1:], jnp.uint32)
    # The stream has the first words of all counters before the second ones.
    for plane, drawn in zip(planes, [*x, *y], strict=True):
        # Where the bits differ they decide, unless a higher plane does; where they are equal the lower planes decide.
        below ^= (plane ^ drawn) & (below ^ plane)
    return below


def _threefry(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the random words of counters `(x, y)`, as JAX's generator does.

    Written out, because JAX's own is a loop on CPUs, whose words go through memory: in one pass a sample takes half the
    time. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, Threefry-2x32-20.

    Args:
        key: `[2]` uint32.
        x: uint32 of any shape.
        y: uint32 of the same shape.
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ _PARITY
    x, y = x + keys[0], y + keys[1]
    for rounds in range(5):  # of four
        for left in _ROTATIONS[rounds % 2]:
            x += y
            y = x ^ ((y << np.uint32(left)) | (y >> np.uint32(32 - left)))
        x, y = x + keys[(rounds + 1) % 3], y + keys[(rounds + 2) % 3] + np.uint32(rounds + 1)
    return x, y
