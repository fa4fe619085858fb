"""Kernels of -1, 0 and 1, two bits an entry: a sixteenth of float32 to read, where reading is what a layer costs.

An entry's two bits, moved to the top of a word that is zero otherwise, are the float32 numbers -2, 0 and 2. Four
entries are read at a time: each sum waits for the one before it, and a processor looks only so far ahead for others.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PER_BYTE = 4
"""Entries in a byte; entry `4·b + i` is in the bits `7 - 2·i` (its sign) and `6 - 2·i` of byte `b`."""

_TOP = np.uint32(0xC0000000)


def pack(kernel: jax.Array) -> jax.Array:
    """Returns `[..., K, N]` uint8 of a kernel.

    Args:
        kernel: `[..., I, N]` of whole numbers from -1 to 1; I inputs are `K = ceil(I / 4)` bytes.
    """
    inputs, outputs = kernel.shape[-2:]
    padding = [*[(0, 0)] * (kernel.ndim - 2), (0, -inputs % PER_BYTE), (0, 0)]
    entries = jnp.pad(kernel, padding).reshape(*kernel.shape[:-2], -1, PER_BYTE, outputs)
    codes = entries.astype(jnp.int8).astype(jnp.uint8) & 3  # -1 is 0b11
    places = 6 - 2 * jnp.arange(PER_BYTE, dtype=jnp.uint8)
    return jnp.sum(codes << places[:, None], axis=-2, dtype=jnp.uint8)


def weighted_sum(packed: jax.Array, x: jax.Array, member: jax.Array | None = None) -> jax.Array:
    """Returns `[..., N]` float32 sums of inputs times entries, added in the order of the inputs.

    A loop, because XLA would unpack the kernels of a block to float32 ahead of the steps, and read all of that instead.

    Args:
        packed: `[..., K, N]` uint8 from `pack`.
        x: `[..., I]` float32.
        member: whose kernel of `packed` `[B, K, N]` the inputs `[I]` of one member meet. It is read where it lies,
            while XLA would copy a kernel that is cut out.
    """
    num_bytes, num_outputs = packed.shape[-2:]
    padding = [*[(0, 0)] * (x.ndim - 1), (0, PER_BYTE * num_bytes - x.shape[-1])]
    halves = jnp.pad(0.5 * x, padding).reshape(*x.shape[:-1], num_bytes, PER_BYTE)

    def row(place: jax.Array) -> jax.Array:
        if member is None:
            return lax.dynamic_index_in_dim(packed, place, axis=-2, keepdims=False)
        return lax.dynamic_slice(packed, (member, place, 0), (1, 1, num_outputs)).reshape(num_outputs)

    def add(place: jax.Array, total: jax.Array) -> jax.Array:
        word, half = row(place).astype(jnp.uint32), lax.dynamic_index_in_dim(halves, place, axis=-2, keepdims=False)
        for i in range(PER_BYTE):
            doubled = lax.bitcast_convert_type((word << np.uint32(24 + 2 * i)) & _TOP, jnp.float32)
            total = total + doubled * half[..., i, None]
        return total

    return lax.fori_loop(0, num_bytes, add, jnp.zeros((*x.shape[:-1], num_outputs), jnp.float32))
