"""Layers of -1, 0 and 1, two bits an entry: a sixteenth of float32 to read, where reading is what a layer costs.

An entry's two bits, moved to the top of a word that is zero otherwise, are the float32 numbers -2, 0 and 2. Four
entries are read at a time: each sum waits for the one before it, and a processor looks only so far ahead for others.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PER_BYTE = 4
"""Entries in a byte; entry `4·b + i` is in the bits `7 - 2·i` (its sign) and `6 - 2·i` of byte `b`."""

_TOP = np.uint32(0xC0000000)


def pack(layer: jax.Array) -> jax.Array:
    """Returns `[..., K, N]` uint8 of a layer.

    Args:
        layer: `[..., I, N]` of whole numbers from -1 to 1; I inputs are `K = ceil(I / 4)` bytes.
    """
    inputs, outputs = layer.shape[-2:]
    padding = [*[(0, 0)] * (layer.ndim - 2), (0, -inputs % PER_BYTE), (0, 0)]
    entries = jnp.pad(layer, padding).reshape(*layer.shape[:-2], -1, PER_BYTE, outputs)
    codes = entries.astype(jnp.int8).astype(jnp.uint8) & 3  # -1 is 0b11
    # Not a sum over the axis, which XLA would not write into a lane of a block in place.
    return functools.reduce(jnp.bitwise_or, [codes[..., i, :] << np.uint8(6 - 2 * i) for i in range(PER_BYTE)])


def by_fours(x: jax.Array) -> jax.Array:
    """Returns inputs `[..., I]` as `weighted_sum` reads them: `[ceil(I / 4), 4, ...]`, halved, members last."""
    halves = 0.5 * jnp.moveaxis(x, -1, 0)
    padding = [(0, -halves.shape[0] % PER_BYTE), *[(0, 0)] * (x.ndim - 1)]
    return jnp.pad(halves, padding).reshape(-1, PER_BYTE, *halves.shape[1:])


def weighted_sum(
    packed: jax.Array,
    fours: jax.Array,
    member: jax.Array | None = None,
    wanted: jax.Array | None = None,
    *,
    unroll: int | None = None,
) -> jax.Array:
    """Returns `[..., N]` float32 sums of inputs times entries, added in the order of the inputs.

    A loop, because XLA for CPUs would unpack the layers of a block to float32 ahead of the steps, and read all of that
    instead.

    Args:
        packed: `[..., K, N]` uint8 from `pack`.
        fours: `[K, 4, ...]` float32 from `by_fours`.
        member: whose sums `[N]` are wanted, of layers `[B, K, N]` and inputs `[K, 4, B]`. Both are read where they
            lie, while XLA would copy what is cut out.
        wanted: whether the sums are wanted; otherwise they are zero and take no time.
        unroll: rows that a turn of the loop takes, where all sums are wanted; one by default. The sums are the same.
    """
    num_outputs = packed.shape[-1]

    def row(place: jax.Array) -> jax.Array:
        if member is None:
            return lax.dynamic_index_in_dim(packed, place, axis=-2, keepdims=False)
        return lax.dynamic_slice(packed, (member, place, 0), (1, 1, num_outputs)).reshape(num_outputs)

    def add(place: jax.Array, total: jax.Array) -> jax.Array:
        word = row(place).astype(jnp.uint32)
        halves = fours[place] if member is None else fours[place, :, member]
        for i in range(PER_BYTE):
            doubled = lax.bitcast_convert_type((word << np.uint32(24 + 2 * i)) & _TOP, jnp.float32)
            total = total + doubled * halves[i, ..., None]
        return total

    start = jnp.zeros((*(fours.shape[2:] if member is None else ()), num_outputs), jnp.float32)
    rows = fours.shape[0] if wanted is None else jnp.where(wanted, fours.shape[0], 0)
    return lax.fori_loop(0, rows, add, start, unroll=unroll)
