"""Layers in one or two bits per entry, and weighted sums over them in a fixed order.

Boolean layers take one bit per entry. Their sums are added in windows of 32 neighbours, then the windows likewise, as
XLA does with a long axis on CPUs. XLA may hand a sum to a library instead, whose order depends on the processor, and
which is slow if outputs are few.

Ternary layers (-1, 0 and 1) take two bits per entry: a sixteenth of float32 to read, and reading is what such a layer
costs. An entry's two bits, moved to the top of a word that is zero otherwise, are the float32 numbers -2, 0 and 2.
Four entries are read at a time, because each sum waits for the one before it and a processor looks ahead only so far.

Shapes: `B` members, `I` inputs, `N` outputs, `W` words of 32 bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from evoconn_cli.networks import bits

_WINDOW = bits.WORD

_PER_BYTE = 4
"""Ternary entries per byte; entry `4·b + i` is in the bits `7 - 2·i` (its sign) and `6 - 2·i` of byte `b`."""

_TOP = np.uint32(0xC0000000)


def pack_boolean(layer: jax.Array) -> jax.Array:
    """Returns `[B, W, N]` uint32, one word per window and output; its bits are the missing entries.

    Args:
        layer: `[B, I, N]` bool.
    """
    before = _before_first(layer.shape[1])
    padded = jnp.pad(layer, ((0, 0), (before, -layer.shape[1] % _WINDOW - before), (0, 0)))
    entries = padded.reshape(layer.shape[0], -1, _WINDOW, layer.shape[2])
    return ~bits.pack(jnp.swapaxes(entries, 1, 2).reshape(padded.shape), axis=1)


def boolean_sum(packed: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `[B, N]` float32, the sums of inputs times entries.

    Args:
        packed: `[B, W, N]` uint32 from `pack_boolean`.
        x: `[B, I]` float32.
    """
    # Members last. XLA moves out of a loop of steps what is the same in all of them, unless it only moves axes: that is
    # why the words are stored inverted.
    words, x = ~jnp.moveaxis(packed, 0, -1), x.T
    before = _before_first(x.shape[0])

    def term(place: jax.Array) -> jax.Array:
        window, entry = jnp.divmod(place + before, _WINDOW)
        connected = (words[window] >> entry.astype(jnp.uint32)) & 1 != 0
        return jnp.where(connected, x[place], 0.0)

    return _sum_in_windows(term, x.shape[0], words.shape[1:]).T


def _sum_in_windows(term: Callable[[jax.Array], jax.Array], count: int, shape: tuple[int, ...]) -> jax.Array:
    """Returns the sum of `term(0)` to `term(count - 1)`, arrays of this shape."""

    def add(first: int | jax.Array, end: int | jax.Array) -> jax.Array:
        return lax.fori_loop(first, end, lambda place, total: total + term(place), jnp.zeros(shape, jnp.float32))

    if count <= _WINDOW:
        return add(0, count)
    before = _before_first(count)

    def sum_window(window: jax.Array) -> jax.Array:
        first = window * _WINDOW - before
        return add(jnp.maximum(first, 0), jnp.minimum(first + _WINDOW, count))

    return _sum_in_windows(sum_window, -(-count // _WINDOW), shape)


def _before_first(count: int) -> int:
    """Returns the number of zeros in front of the first window; as many or one more end the last."""
    return -count % _WINDOW // 2


def pack_ternary(layer: jax.Array) -> jax.Array:
    """Returns `[..., ceil(I / 4), N]` uint8.

    Args:
        layer: `[..., I, N]` of whole numbers from -1 to 1.
    """
    inputs, outputs = layer.shape[-2:]
    padding = [*[(0, 0)] * (layer.ndim - 2), (0, -inputs % _PER_BYTE), (0, 0)]
    entries = jnp.pad(layer, padding).reshape(*layer.shape[:-2], -1, _PER_BYTE, outputs)
    codes = entries.astype(jnp.int8).astype(jnp.uint8) & 3  # -1 is 0b11
    # Not a sum over the axis, which XLA would not write into a lane of a block in place.
    return functools.reduce(jnp.bitwise_or, [codes[..., i, :] << np.uint8(6 - 2 * i) for i in range(_PER_BYTE)])


def by_fours(x: jax.Array) -> jax.Array:
    """Returns inputs `[..., I]` in the form that `ternary_sum` reads: `[ceil(I / 4), 4, ...]`, halved, members last."""
    halves = 0.5 * jnp.moveaxis(x, -1, 0)
    padding = [(0, -halves.shape[0] % _PER_BYTE), *[(0, 0)] * (x.ndim - 1)]
    return jnp.pad(halves, padding).reshape(-1, _PER_BYTE, *halves.shape[1:])


def ternary_sum(
    packed: jax.Array,
    fours: jax.Array,
    member: jax.Array | None = None,
    wanted: jax.Array | None = None,
    *,
    unroll: int | None = None,
) -> jax.Array:
    """Returns `[..., N]` float32, the sums of inputs times entries, added in the order of the inputs.

    It is a loop, because XLA for CPUs would unpack the layers of a block to float32 ahead of the steps, and read those
    instead.

    Args:
        packed: `[..., K, N]` uint8 from `pack_ternary`.
        fours: `[K, 4, ...]` float32 from `by_fours`.
        member: Index of the only member whose sums `[N]` are returned, from layers `[B, K, N]` and inputs `[K, 4, B]`.
            Both are read in place; XLA would copy a slice.
        wanted: Whether the sums are needed; otherwise they are zero and take no time.
        unroll: Rows per iteration of the loop if all sums are wanted; 1 by default. The sums are the same.
    """
    num_outputs = packed.shape[-1]

    def row(place: jax.Array) -> jax.Array:
        if member is None:
            return lax.dynamic_index_in_dim(packed, place, axis=-2, keepdims=False)
        return lax.dynamic_slice(packed, (member, place, 0), (1, 1, num_outputs)).reshape(num_outputs)

    def add(place: jax.Array, total: jax.Array) -> jax.Array:
        word = row(place).astype(jnp.uint32)
        halves = fours[place] if member is None else fours[place, :, member]
        for i in range(_PER_BYTE):
            doubled = lax.bitcast_convert_type((word << np.uint32(24 + 2 * i)) & _TOP, jnp.float32)
            total = total + doubled * halves[i, ..., None]
        return total

    start = jnp.zeros((*(fours.shape[2:] if member is None else ()), num_outputs), jnp.float32)
    rows = fours.shape[0] if wanted is None else jnp.where(wanted, fours.shape[0], 0)
    return lax.fori_loop(0, rows, add, start, unroll=unroll)
