"""Layers of booleans, a bit an entry, and sums of numbers over them in an order that no processor changes.

Numbers are added in windows of 32 neighbours, then the windows likewise, as XLA does with a long axis on CPUs. XLA may
hand a sum to a library instead, whose order depends on the processor, and which is slow where outputs are few.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.networks import bits

_WINDOW = bits.WORD


def pack(layer: jax.Array) -> jax.Array:
    """Returns `[B, W, N]` uint32, a word for each window and output: its bits are the entries that are missing.

    Args:
        layer: `[B, I, N]` bool.
    """
    before = _before_first(layer.shape[1])
    padded = jnp.pad(layer, ((0, 0), (before, -layer.shape[1] % _WINDOW - before), (0, 0)))
    entries = padded.reshape(layer.shape[0], -1, _WINDOW, layer.shape[2])
    return ~bits.pack(jnp.swapaxes(entries, 1, 2).reshape(padded.shape), axis=1)


def weighted_sum(packed: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `[B, N]` float32 sums of inputs times entries.

    Args:
        packed: `[B, W, N]` uint32 from `pack`.
        x: `[B, I]` float32.
    """
    # Members last. XLA takes out of a loop of steps what is the same in all of them, unless it only moves axes: that is
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
    """Returns how many zeros are in the first window before the first number; as many or one more end the last."""
    return -count % _WINDOW // 2
