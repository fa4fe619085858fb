"""Conn-RSNN: a recurrent spiking network of boolean connections, signed by the type of the pre-synaptic neuron.

The recurrence is computed on packed bits: a neuron's input is the number of excitatory minus the number of
inhibitory spikes that reach it, from `population_count(kernel & spikes)`, exact at any size. One count serves both
types: the kernel has the rows of inhibitory neurons inverted, so that an inhibitory spike counts where it does not
reach; subtracting the number of inhibitory spikes then leaves -1 where it does.

Source: arXiv 2305.17650, sections 3.1 and 4; gains and update order as in the published code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from evoconn_cli.networks import Activity, Candidates, Layer, Network, bits, boolean, lif, ternary
from evoconn_cli.networks.fused_substeps import make_fused_substeps
from evoconn_cli.networks.lif import LifConstants, LifState

Count: TypeAlias = Callable[[jax.Array], jax.Array]
"""`count(spikes [..., W] uint32) -> [..., N]` int32, excitatory minus inhibitory spikes that reach each neuron."""


class ConnSnnParams(NamedTuple):
    """Kernels of a block in the form that `step` reads."""

    input: jax.Array  # [B, ceil(O / 4), N] uint8, connection from +x minus connection from -x, see `ternary`
    recurrent: jax.Array  # [B, W, N] uint32 packed along the pre-synaptic axis, or its bytes, see `_rows_of_bytes`
    output: jax.Array  # [B, N, A] int8, or [B, ceil(N / 32), A] uint32, see `boolean`
    may_overflow: jax.Array  # [B] bool, where spikes are counted in bytes, see `_may_overflow`


class ConnSnnCarry(NamedTuple):
    """State that lives on from one environment step to the next."""

    neurons: LifState  # [B, N]
    spikes: jax.Array  # [B, W] uint32, of the last sub-step


def make_conn_snn(
    *,
    observation_size: int,
    action_size: int,
    num_neurons: int = 256,
    excitatory_ratio: float = 0.5,
    expected_density: float = 0.5,
    gain_in: float = 0.1,
    gain_recurrent: float = 1.0,
    gain_out: float = 5.0,
    constants: LifConstants | None = None,
    one_by_one: bool = True,
    fused: Literal["compiled", "interpreted"] | None = None,
) -> Network:
    """Returns the boolean spiking network.

    Args:
        observation_size: O.
        action_size: A.
        num_neurons: N, any number.
        excitatory_ratio: the first `round(N * excitatory_ratio)` neurons are excitatory.
        expected_density: share of connections that the gains are normalised by.
        gain_in: K_in.
        gain_recurrent: K_h.
        gain_out: K_out.
        constants: of the neurons.
        one_by_one: members run through all sub-steps one after the other, so that a member's recurrent bits (8 KiB at
            256 neurons) stay in a CPU's nearest cache, and bytes without a spike are passed over; otherwise the whole
            block runs together. Results do not depend on it, but for the rounding of actions.
        fused: the sub-steps run in one GPU kernel, whatever `one_by_one` says; `interpreted` on any device, slowly.

    Raises:
        ValueError: the kernel cannot hold so many neurons.
    """
    c = constants or LifConstants()
    num_excitatory = round(num_neurons * excitatory_ratio)
    sign = jnp.where(np.arange(num_neurons) < num_excitatory, 1.0, -1.0)
    gains = lif.make_gains(
        c,
        gain_in=gain_in,
        gain_recurrent=gain_recurrent,
        gain_out=gain_out,
        observation_size=observation_size,
        num_neurons=num_neurons,
        density=expected_density,
    )
    inhibitory = np.asarray(bits.pack(jnp.asarray(np.arange(num_neurons) >= num_excitatory), axis=0))
    one_by_one = one_by_one and not fused
    run_fused = fused and make_fused_substeps(
        c,
        num_neurons=num_neurons,
        num_excitatory=num_excitatory,
        r_recurrent=gains.recurrent,
        interpret=fused == "interpreted",
    )

    def prepare(candidates: Candidates) -> ConnSnnParams:
        both = bits.unpack(candidates["input"], axis=1, length=2 * observation_size).astype(jnp.int8)
        output = bits.unpack(candidates["output"], axis=1, length=num_neurons)
        inputs = ternary.pack(both[:, :observation_size] - both[:, observation_size:])
        recurrent = candidates["recurrent"] ^ inhibitory[:, None]
        may_overflow = _may_overflow(recurrent)
        if one_by_one:
            return ConnSnnParams(inputs, _rows_of_bytes(recurrent), boolean.pack(output), may_overflow)
        return ConnSnnParams(inputs, recurrent, output.astype(jnp.int8), may_overflow)

    def initial_carry(keys: jax.Array) -> ConnSnnCarry:
        spikes = jnp.zeros((keys.shape[0], bits.num_words(num_neurons)), jnp.uint32)
        return ConnSnnCarry(lif.initial_state(c, keys, num_neurons), spikes)

    def substep(count: Count, carry: ConnSnnCarry, i_in: jax.Array) -> ConnSnnCarry:
        synaptic = gains.recurrent * count(carry.spikes).astype(jnp.float32)
        neurons, spike = lif.substep(c, carry.neurons, synaptic, i_in, sign)
        return ConnSnnCarry(neurons, bits.pack(spike, axis=-1))

    def run_substeps(count: Count, carry: ConnSnnCarry, i_in: jax.Array) -> ConnSnnCarry:
        return lif.run(c, lambda carry: substep(count, carry, i_in), carry)

    def count_in(recurrent: jax.Array) -> Count:
        return lambda spikes: _count(recurrent, spikes, inhibitory)

    def input_current(kernels: jax.Array, obs: jax.Array) -> jax.Array:
        return gains.input * ternary.weighted_sum(
            kernels, ternary.by_fours(obs), unroll=None if one_by_one else _GPU_ROWS
        )

    def read_out(params: ConnSnnParams, carry: ConnSnnCarry) -> jax.Array:
        # Rates carry the sign of their neuron, so the output kernel needs none.
        if one_by_one:
            return gains.output * boolean.weighted_sum(params.output, carry.neurons.rate)
        return gains.output * jnp.sum(params.output.astype(jnp.float32) * carry.neurons.rate[:, :, None], axis=1)

    def step(
        params: ConnSnnParams, carry: ConnSnnCarry, obs: jax.Array, active: jax.Array | None = None
    ) -> tuple[ConnSnnCarry, jax.Array]:
        active = jnp.ones(obs.shape[:1], bool) if active is None else active
        if run_fused:
            i_in = input_current(params.input, obs)
            carry = ConnSnnCarry(*run_fused(params.recurrent, carry.neurons, carry.spikes, i_in, active))
        elif one_by_one:
            carry = run_one_by_one(params, carry, obs, active)
        else:
            carry = run_substeps(count_in(params.recurrent), carry, input_current(params.input, obs))
        return carry, read_out(params, carry)

    def run_one_by_one(params: ConnSnnParams, carries: ConnSnnCarry, obs: jax.Array, active: jax.Array) -> ConnSnnCarry:
        fours = ternary.by_fours(obs)

        def run_all(carries: ConnSnnCarry, *, may_overflow: bool) -> ConnSnnCarry:
            def run_member(member: jax.Array, carries: ConnSnnCarry) -> ConnSnnCarry:
                # XLA copies what is cut out, and here it shall: rows are read again and again, in an order that no
                # processor foresees, and the copy fetches them all.
                recurrent = params.recurrent[member]
                i_in = gains.input * ternary.weighted_sum(params.input, fours, member, active[member])
                count = functools.partial(_count_spiking_bytes, recurrent, inhibitory, may_overflow=may_overflow)
                # A member that is not active takes no sub-steps. A branch around them, even where it is always taken,
                # makes them a twentieth slower.
                num_substeps = jnp.where(active[member], c.num_substeps, 0)
                carry = jax.tree.map(lambda x: x[member], carries)
                carry = lif.run(c, lambda carry: substep(count, carry, i_in), carry, num_substeps)
                return jax.tree.map(lambda x, y: lax.dynamic_update_index_in_dim(x, y, member, 0), carries, carry)

            # No branch either: one of the two loops takes no members.
            num_members = jnp.where(jnp.any(params.may_overflow) == may_overflow, obs.shape[0], 0)
            return lax.fori_loop(0, num_members, run_member, carries)

        return run_all(run_all(carries, may_overflow=False), may_overflow=True)

    def record(params: ConnSnnParams, carry: ConnSnnCarry, obs: jax.Array) -> tuple[ConnSnnCarry, jax.Array, Activity]:
        i_in, count = input_current(params.input, obs), count_in(params.recurrent)
        carry, words, changed = lif.record(c, lambda carry: substep(count, carry, i_in), carry)
        spikes = bits.unpack(words, axis=2, length=num_neurons)
        return carry, read_out(params, carry), lif.activity(carry.neurons, i_in, spikes, changed)

    return Network(
        name="conn_snn",
        shapes={
            "input": jax.ShapeDtypeStruct((2 * observation_size, num_neurons), bool),
            "recurrent": jax.ShapeDtypeStruct((num_neurons, num_neurons), bool),
            "output": jax.ShapeDtypeStruct((num_neurons, action_size), bool),
        },
        layers={
            "input": Layer("observation", "neurons"),
            "recurrent": Layer("spikes", "neurons"),
            "output": Layer("rate", "action"),
        },
        initial_weights=None,
        prepare=prepare,
        initial_carry=initial_carry,
        step=step,
        spikes_per_ms=lambda carry: lif.spikes_per_ms(carry.neurons),
        record=record,
        gains=gains,
    )


def _count(kernel: jax.Array, spikes: jax.Array, inhibitory: np.ndarray) -> jax.Array:
    """Returns `[..., N]` int32: excitatory minus inhibitory spikes that reach each neuron.

    Args:
        kernel: `[..., W, N]` uint32 packed connections, those from inhibitory neurons inverted; or `_rows_of_bytes`.
        spikes: `[..., W]` uint32 packed spikes.
        inhibitory: `[W]` uint32, which bits are of inhibitory neurons.
    """
    total = -_num_bits(spikes & inhibitory)[..., None]
    if kernel.dtype == jnp.uint8:
        spikes = bits.to_bytes(spikes, axis=-1)
    for word in range(spikes.shape[-1]):
        total += lax.population_count(kernel[..., word, :] & spikes[..., word, None]).astype(jnp.int32)
    return total


_WORDS = 8
"""Words of spikes that are counted in one loop: they have as many bytes as a word has bits."""

_GPU_ROWS = 12
"""Rows of the input kernel in a turn of their loop on a GPU, which launches every turn on its own. With all of a
humanoid's rows in one turn XLA writes partial sums to memory: 386 instead of 5 MB for 2,048 members."""

_ALL = np.uint32(0xFFFFFFFF)
"""A word of spikes or connections, none missing."""


def _rows_of_bytes(kernel: jax.Array) -> jax.Array:
    """Returns `[..., 4·W + 1, N]` uint8, the bytes of a kernel `[..., W, N]` and a last row of zeros."""
    rows = bits.to_bytes(kernel, axis=-2)
    return jnp.pad(rows, [*[(0, 0)] * (rows.ndim - 2), (0, 1), (0, 0)])


def _may_overflow(kernel: jax.Array) -> jax.Array:
    """Returns `[B]` whether a neuron of a kernel `[B, W, N]` may be reached by more spikes than a byte can count.

    That takes all of the 256 neurons that are counted together: their rows, inverted or not, have the neuron's bit set.
    """
    by_all = jnp.zeros(kernel.shape[::2], bool)
    for first in range(0, kernel.shape[1] - _WORDS + 1, _WORDS):
        by_all |= jnp.all(kernel[:, first : first + _WORDS] == _ALL, axis=1)
    return jnp.any(by_all, axis=1)


def _count_spiking_bytes(
    kernel: jax.Array, inhibitory: np.ndarray, spikes: jax.Array, *, may_overflow: bool
) -> jax.Array:
    """Returns what `_count` does for one member's `_rows_of_bytes`, by way of those bytes that have a spike.

    Without `may_overflow` nothing is done about counts of 256, which then come out as 0.
    """
    total = 0
    for first in range(0, spikes.size, _WORDS):
        words = spikes[first : first + _WORDS]
        rows = kernel[4 * first : 4 * (first + words.size) + 1]
        counted = _count_up_to_255(rows, words).astype(jnp.int32)
        if may_overflow and words.size == _WORDS:
            counted = jnp.where(jnp.all(words == _ALL), _num_bits(rows[:-1].T), counted)
        total += counted
    return total - _num_bits(spikes & inhibitory)


def _count_up_to_255(kernel: jax.Array, words: jax.Array) -> jax.Array:
    """Returns `[N]` uint8 bits that a kernel and spikes have in common.

    Bytes count into bytes, of which a vector register holds the most. Four at a time are added to what is in memory, as
    long as two are left.

    Args:
        kernel: `[4·W + 1, N]` uint8. The last row counts for nothing: it is what is read where no row waits, at a place
            that needs no check.
        words: `[W]` uint32.
    """
    spikes = jnp.pad(bits.to_bytes(words, axis=0), (0, 1))

    def count(rows: int) -> Callable[[tuple[jax.Array, jax.Array]], tuple[jax.Array, jax.Array]]:
        def body(now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            waiting, total = now
            for _ in range(rows):
                row = lax.population_count((waiting & -waiting) - 1)  # of the lowest bit; 32, without a spike, if none
                total = total + lax.population_count(kernel[row] & spikes[row])
                waiting = waiting & (waiting - 1)
            return waiting, total

        return body

    # A single word, which `bits.pack` makes so slowly that the network takes a tenth longer.
    places = jnp.uint32(1) << jnp.arange(kernel.shape[0] - 1, dtype=jnp.uint32)
    waiting = jnp.sum(jnp.where(spikes[:-1] != 0, places, 0), dtype=jnp.uint32)
    now = waiting, jnp.zeros(kernel.shape[1:], jnp.uint8)
    now = lax.while_loop(lambda now: lax.population_count(now[0]) > 1, count(4), now)
    return lax.while_loop(lambda now: now[0] != 0, count(1), now)[1]


def _num_bits(words: jax.Array) -> jax.Array:
    """Returns `[...]` int32 bits that are set in `[..., W]` words."""
    return jnp.sum(lax.population_count(words), axis=-1, dtype=jnp.int32)
