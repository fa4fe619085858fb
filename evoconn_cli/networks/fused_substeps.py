"""All sub-steps of the packed spiking network as one GPU kernel, one program per member.

A member's recurrent bits (8 KiB at 256 neurons) are read once and stay in the registers of its program for all
sub-steps, as do its neurons; the plain path reads the bits again in each sub-step. The kernel is written in Pallas and
compiled by Triton, because Pallas's other GPU backend, Mosaic, has no `population_count`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.networks import bits, lif
from evoconn_cli.networks.lif import LifConstants, LifState

MAX_NEURONS = 1024
"""The recurrent bits of this many neurons take half of the registers of a multiprocessor (128 KiB)."""

_WORDS_PER_THREAD = 16
"""Words of recurrent bits per thread, up to 1024 threads in all."""

FusedSubsteps: TypeAlias = Callable[[jax.Array, LifState, jax.Array, jax.Array, jax.Array], tuple[LifState, jax.Array]]
"""`run(recurrent [B, W, N], neurons [B, N], spikes [B, W], i_in [B, N], active [B]) -> (neurons, spikes)`."""


def why_not_fused(num_neurons: int) -> str | None:
    """Returns why a network of this size cannot run in the kernel, or None if it can."""
    if bits.WORD <= num_neurons <= MAX_NEURONS and num_neurons & (num_neurons - 1) == 0:
        return None
    return f"the kernel takes a power of two from {bits.WORD} to {MAX_NEURONS} neurons, not {num_neurons}"


def make_fused_substeps(
    constants: LifConstants,
    *,
    num_neurons: int,
    num_excitatory: int,
    r_recurrent: float,
    interpret: bool = False,
) -> FusedSubsteps:
    """Returns the function that takes a block of members through all sub-steps of an environment step.

    Members that are not active keep their state, except that potentials above the threshold are reset.

    Args:
        constants: Constants of the neurons.
        num_neurons: N, for which `why_not_fused` returns None.
        num_excitatory: Number of excitatory neurons, which come first.
        r_recurrent: Current that a spike injects.
        interpret: Whether to run as plain JAX operations on any device, to test the kernel.

    Raises:
        ValueError: The kernel cannot hold that many neurons.
    """
    if (objection := why_not_fused(num_neurons)) is not None:
        raise ValueError(objection)
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    c, words = constants, bits.num_words(num_neurons)
    num_threads = min(max(num_neurons * words // _WORDS_PER_THREAD, 32), 1024)

    def pack_signed(bit: jax.Array) -> jax.Array:
        """Returns the result of `bits.pack` as int32, because Triton has no operations on unsigned numbers."""
        places = lax.broadcasted_iota(jnp.int32, (bits.WORD, words), 0)
        bit = bit.reshape(bits.WORD, words)
        return jnp.sum(jnp.where(bit, jnp.int32(1) << places, 0), axis=0, dtype=jnp.int32)

    def kernel(active, recurrent, v, i_syn, rate, spikes, i_in, *outputs):
        bits_of_member, current = recurrent[...], i_in[...]
        excitatory = lax.broadcasted_iota(jnp.int32, (num_neurons,), 0) < num_excitatory
        sign = jnp.where(excitatory, 1.0, -1.0)
        inhibitory = pack_signed(~excitatory)

        def substep(_: jax.Array, now: tuple[LifState, jax.Array]) -> tuple[LifState, jax.Array]:
            neurons, spikes = now
            reached = lax.population_count(bits_of_member & spikes[:, None])
            count = jnp.sum(reached - lax.population_count(spikes & inhibitory)[:, None], axis=0, dtype=jnp.int32)
            neurons, spike = lif.substep(c, neurons, r_recurrent * count.astype(jnp.float32), current, sign)
            return neurons, pack_signed(spike)

        start = LifState(v[...], i_syn[...], rate[...]), spikes[...]
        # A product, since a selection between whole numbers would be lowered to one between booleans.
        neurons, packed = lax.fori_loop(0, active[...] * c.num_substeps, substep, start)
        for ref, value in zip(outputs, (*lif.reset(c, neurons), packed), strict=True):
            ref[...] = value

    def of_member(*shape: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, *shape), lambda member: (member, *[0] * len(shape)))

    scalar, per_neuron, per_word = of_member(), of_member(num_neurons), of_member(words)

    def run(
        recurrent: jax.Array, neurons: LifState, spikes: jax.Array, i_in: jax.Array, active: jax.Array
    ) -> tuple[LifState, jax.Array]:
        num_members = i_in.shape[0]
        floats = jax.ShapeDtypeStruct((num_members, num_neurons), jnp.float32)
        *state, spikes = pl.pallas_call(
            kernel,
            grid=(num_members,),
            in_specs=[scalar, of_member(words, num_neurons), *[per_neuron] * 3, per_word, per_neuron],
            out_specs=[*[per_neuron] * 3, per_word],
            out_shape=[*[floats] * 3, jax.ShapeDtypeStruct((num_members, words), jnp.int32)],
            compiler_params=triton.CompilerParams(num_warps=num_threads // 32, num_stages=1),
            interpret=interpret,
            name="fused_substeps",
        )(active.astype(jnp.int32), _signed(recurrent), *neurons, _signed(spikes), i_in)
        return LifState(*state), lax.bitcast_convert_type(spikes, jnp.uint32)

    return run


def _signed(words: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(words, jnp.int32)
