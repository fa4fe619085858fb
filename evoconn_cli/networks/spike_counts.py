"""Counts the spikes that reach each neuron, on packed bits.

A neuron's input is the number of excitatory minus the number of inhibitory spikes that reach it, exact at any size.
One count serves both types: the recurrent layer has the rows of inhibitory neurons inverted, so that an inhibitory
spike counts unless it reaches the neuron; subtracting the number of inhibitory spikes then leaves -1 if it does.

Shapes: `B` members, `N` neurons, `W` words of 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from evoconn_cli.networks import bits

_WORDS = 8
"""Words of spikes counted in one loop: they have as many bytes as a word has bits."""

_ALL = np.uint32(0xFFFFFFFF)
"""A word of spikes or connections, none missing."""


def count_words(layer: jax.Array, inhibitory: np.ndarray, spikes: jax.Array) -> jax.Array:
    """Returns `[..., N]` int32, the excitatory minus the inhibitory spikes that reach each neuron.

    Args:
        layer: `[..., W, N]` uint32 packed connections, those from inhibitory neurons inverted; or `rows_of_bytes`.
        inhibitory: `[W]` uint32, the bits of inhibitory neurons.
        spikes: `[..., W]` uint32 packed spikes.
    """
    total = -_num_bits(spikes & inhibitory)[..., None]
    if layer.dtype == jnp.uint8:
        spikes = bits.to_bytes(spikes, axis=-1)
    for word in range(spikes.shape[-1]):
        total += lax.population_count(layer[..., word, :] & spikes[..., word, None]).astype(jnp.int32)
    return total


def rows_of_bytes(layer: jax.Array) -> jax.Array:
    """Returns `[..., 4·W + 1, N]` uint8, the bytes of a layer `[..., W, N]` and a last row of zeros."""
    rows = bits.to_bytes(layer, axis=-2)
    return jnp.pad(rows, [*[(0, 0)] * (rows.ndim - 2), (0, 1), (0, 0)])


def may_overflow(layer: jax.Array) -> jax.Array:
    """Returns `[B]`, whether more spikes than a byte can count may reach a neuron of a layer `[B, W, N]`.

    That takes all of the 256 neurons that are counted together: their rows, inverted or not, have the neuron's bit set.
    """
    by_all = jnp.zeros(layer.shape[::2], bool)
    for first in range(0, layer.shape[1] - _WORDS + 1, _WORDS):
        by_all |= jnp.all(layer[:, first : first + _WORDS] == _ALL, axis=1)
    return jnp.any(by_all, axis=1)


def count_spiking_bytes(layer: jax.Array, inhibitory: np.ndarray, spikes: jax.Array, *, overflow: bool) -> jax.Array:
    """Returns the result of `count_words` for `rows_of_bytes` of one member, reading only bytes that have a spike.

    Without `overflow` counts of 256 come out as 0.
    """
    total = 0
    for first in range(0, spikes.size, _WORDS):
        words = spikes[first : first + _WORDS]
        rows = layer[4 * first : 4 * (first + words.size) + 1]
        counted = _count_up_to_255(rows, words).astype(jnp.int32)
        if overflow and words.size == _WORDS:
            counted = jnp.where(jnp.all(words == _ALL), _num_bits(rows[:-1].T), counted)
        total += counted
    return total - _num_bits(spikes & inhibitory)


def _count_up_to_255(layer: jax.Array, words: jax.Array) -> jax.Array:
    """Returns `[N]` uint8, the number of bits that a layer and spikes have in common.

    Bytes count into bytes, of which a vector register holds the most. Four at a time are added to what is in memory, as
    long as two are left.

    Args:
        layer: `[4·W + 1, N]` uint8. The last row counts for nothing: it is read when no row is left, from a place that
            needs no check.
        words: `[W]` uint32.
    """
    spikes = jnp.pad(bits.to_bytes(words, axis=0), (0, 1))

    def count(rows: int) -> Callable[[tuple[jax.Array, jax.Array]], tuple[jax.Array, jax.Array]]:
        def body(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            waiting, total = now
            for _ in range(rows):
                row = lax.population_count((waiting & -waiting) - 1)  # of the lowest bit; 32, without a spike, if none
                total = total + lax.population_count(layer[row] & spikes[row])
                waiting = waiting & (waiting - 1)
            return waiting, total

        return body

    # A single word, which `bits.pack` makes so slowly that the network takes a tenth longer.
    places = jnp.uint32(1) << jnp.arange(layer.shape[0] - 1, dtype=jnp.uint32)
    waiting = jnp.sum(jnp.where(spikes[:-1] != 0, places, 0), dtype=jnp.uint32)
    now = waiting, jnp.zeros(layer.shape[1:], jnp.uint8)
    now = lax.while_loop(lambda now: lax.population_count(now[0]) > 1, count(4), now)
    return lax.while_loop(lambda now: now[0] != 0, count(1), now)[1]


def _num_bits(words: jax.Array) -> jax.Array:
    """Returns `[...]` int32, the number of bits set in `[..., W]` words."""
    return jnp.sum(lax.population_count(words), axis=-1, dtype=jnp.int32)
