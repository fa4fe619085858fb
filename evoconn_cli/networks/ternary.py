"""Kernels of -1, 0 and 1, two bits an entry: a sixteenth of float32 to read, where reading is what a layer costs.

An entry's two bits, moved to the top of a word that is zero otherwise, are the float32 numbers -2, 0 and 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PER_WORD = 16
"""Entries in a word of 32 bits; entry `16·w + i` is in the bits `31 - 2·i` (its sign) and `30 - 2·i` of word `w`."""

_TOP = np.uint32(0xC0000000)


def pack(kernel: jax.Array) -> jax.Array:
    """Returns `[..., W, N]` uint32 words of a kernel.

    Args:
        kernel: `[..., I, N]` of whole numbers from -1 to 1; I inputs are `W = ceil(I / 16)` words.
    """
    inputs, outputs = kernel.shape[-2:]
    padding = [*[(0, 0)] * (kernel.ndim - 2), (0, -inputs % PER_WORD), (0, 0)]
    entries = jnp.pad(kernel, padding).reshape(*kernel.shape[:-2], -1, PER_WORD, outputs)
    codes = entries.astype(jnp.int32).astype(jnp.uint32) & 3  # -1 is 0b11
    places = 30 - 2 * jnp.arange(PER_WORD, dtype=jnp.uint32)
    return jnp.sum(codes << places[:, None], axis=-2, dtype=jnp.uint32)


def weighted_sum(words: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `[..., N]` float32 sums of inputs times entries, added in the order of the inputs.

    A loop, because XLA would unpack the kernels of a block to float32 ahead of the steps, and read all of that instead.

    Args:
        words: `[..., W, N]` uint32 from `pack`.
        x: `[..., I]` float32.
    """
    num_words = words.shape[-2]
    padding = [*[(0, 0)] * (x.ndim - 1), (0, PER_WORD * num_words - x.shape[-1])]
    halves = jnp.pad(0.5 * x, padding).reshape(*x.shape[:-1], num_words, PER_WORD)

    def add(total: jax.Array, entry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        word, half = entry
        for i in range(PER_WORD):
            doubled = lax.bitcast_convert_type((word << np.uint32(2 * i)) & _TOP, jnp.float32)
            total = total + doubled * half[..., i, None]
        return total, None

    start = jnp.zeros((*words.shape[:-2], words.shape[-1]), jnp.float32)
    return lax.scan(add, start, (jnp.moveaxis(words, -2, 0), jnp.moveaxis(halves, -2, 0)))[0]
