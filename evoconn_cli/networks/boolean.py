"""Kernels of booleans, a bit an entry, and sums of numbers over them in an order that no processor changes.

Numbers are added in windows of 32 neighbours, then the windows likewise, as XLA does with a long axis on CPUs. XLA may
hand a sum to a library instead, whose order depends on the processor, and which is slow where outputs are few.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.networks import bits

_WINDOW = bits.WORD


def pack(kernel: jax.Array) -> jax.Array:
    """Returns `[B, W, N]` uint32, a word for each window and output: its bits are the window's entries.

    Args:
        kernel: `[B, I, N]` bool.
    """
    windows = _windows(kernel, axis=1)
    return bits.pack(jnp.swapaxes(windows, 1, 2).reshape(kernel.shape[0], -1, kernel.shape[2]), axis=1)


def weighted_sum(packed: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `[B, N]` float32 sums of inputs times entries.

    Args:
        packed: `[B, W, N]` uint32 from `pack`.
        x: `[B, I]` float32.
    """
    words, windows = jnp.moveaxis(packed, 0, -1), _windows(x.T, axis=0)  # members last

    # No `lax.map`, whose windows XLA would copy.
    def sum_window(window: jax.Array, sums: jax.Array) -> jax.Array:
        def add(entry: jax.Array, total: jax.Array) -> jax.Array:
            connected = (words[window] >> entry.astype(jnp.uint32)) & 1 != 0
            return total + jnp.where(connected, windows[window, entry], 0.0)

        start = jnp.zeros(words.shape[1:], jnp.float32)
        return sums.at[window].set(lax.fori_loop(0, _WINDOW, add, start))

    sums = lax.fori_loop(0, words.shape[0], sum_window, jnp.zeros(words.shape, jnp.float32))
    while sums.shape[0] > _WINDOW:
        sums = _in_order(jnp.swapaxes(_windows(sums, axis=0), 0, 1))
    return _in_order(sums).T


def _windows(x: jax.Array, axis: int) -> jax.Array:
    """Returns `x` with `axis` split into windows and their entries; zeros are added at both ends."""
    size = x.shape[axis]
    windows = -(-size // _WINDOW)
    missing = windows * _WINDOW - size
    padding = [(0, 0)] * x.ndim
    padding[axis] = (missing // 2, missing - missing // 2)
    return jnp.pad(x, padding).reshape(*x.shape[:axis], windows, _WINDOW, *x.shape[axis + 1 :])


def _in_order(terms: jax.Array) -> jax.Array:
    """Returns the sum over the first axis, added one after the other."""
    return lax.fori_loop(0, terms.shape[0], lambda i, total: total + terms[i], jnp.zeros_like(terms[0]))
