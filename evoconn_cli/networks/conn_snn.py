"""Conn-RSNN: a recurrent spiking network of boolean connections, signed by the type of the pre-synaptic neuron.

The recurrence is computed on packed bits, see `spike_counts`. There are three programs for the sub-steps with equal
results: member by member for CPUs, the whole block together for GPUs, and a GPU kernel.

Source: arXiv 2305.17650, sections 3.1 and 4; gains and update order as in the published code.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from evoconn_cli.config.schema import ConnSnnConfig
from evoconn_cli.networks import (
    Activity,
    Candidates,
    Gains,
    Layer,
    Network,
    SpikingNeurons,
    bits,
    lif,
    packed_layers,
    spike_counts,
)
from evoconn_cli.networks.fused_substeps import FusedSubsteps, make_fused_substeps, why_not_fused
from evoconn_cli.networks.lif import LifConstants, LifState

Count: TypeAlias = Callable[[jax.Array], jax.Array]
"""`count(spikes [..., W] uint32) -> [..., N]` int32, excitatory minus inhibitory spikes that reach each neuron."""

_GPU_ROWS = 12
"""Rows of the input layer per iteration on a GPU, which launches every iteration on its own. With all of a humanoid's
rows in one iteration XLA writes partial sums to memory: 386 instead of 5 MB for 2,048 members."""


class ConnSnnParams(NamedTuple):
    """Layers of a block in the form that `step` reads."""

    input: jax.Array  # [B, ceil(O / 4), N] uint8, connection from +x minus connection from -x, see `packed_layers`
    recurrent: jax.Array  # [B, W, N] uint32 packed along the pre-synaptic axis, or its bytes, see `rows_of_bytes`
    output: jax.Array  # [B, N, A] int8, or [B, W, A] uint32, see `packed_layers`
    may_overflow: jax.Array  # [B] bool, for spikes counted in bytes, see `spike_counts.may_overflow`


class ConnSnnCarry(NamedTuple):
    """State kept from one environment step to the next."""

    neurons: LifState  # [B, N]
    spikes: jax.Array  # [B, W] uint32, of the last sub-step


@dataclass(frozen=True)
class _Together:
    """The whole block takes each sub-step together, by XLA."""

    observation_size: int
    num_neurons: int
    constants: LifConstants
    gains: Gains
    sign: jax.Array  # [N] float32, +1 of excitatory and -1 of inhibitory neurons
    inhibitory: np.ndarray  # [W] uint32, the bits of inhibitory neurons

    def prepare(self, candidates: Candidates) -> ConnSnnParams:
        num_inputs = self.observation_size
        both = bits.unpack(candidates["input"], axis=1, length=2 * num_inputs).astype(jnp.int8)
        output = bits.unpack(candidates["output"], axis=1, length=self.num_neurons)
        inputs = packed_layers.pack_ternary(both[:, :num_inputs] - both[:, num_inputs:])
        recurrent = candidates["recurrent"] ^ self.inhibitory[:, None]
        may_overflow = spike_counts.may_overflow(recurrent)
        return ConnSnnParams(inputs, *self._pack(recurrent, output), may_overflow)

    def initial_carry(self, keys: jax.Array) -> ConnSnnCarry:
        spikes = jnp.zeros((keys.shape[0], bits.num_words(self.num_neurons)), jnp.uint32)
        return ConnSnnCarry(lif.initial_state(self.constants, keys, self.num_neurons), spikes)

    def step(
        self, params: ConnSnnParams, carry: ConnSnnCarry, obs: jax.Array, active: jax.Array | None = None
    ) -> tuple[ConnSnnCarry, jax.Array]:
        active = jnp.ones(obs.shape[:1], bool) if active is None else active
        carry = self._run(params, carry, obs, active)
        return carry, self._read_out(params, carry)

    def record(
        self, params: ConnSnnParams, carry: ConnSnnCarry, obs: jax.Array
    ) -> tuple[ConnSnnCarry, jax.Array, Activity]:
        i_in, count = self._input_current(params.input, obs), self._count_in(params.recurrent)
        carry, words, changed = lif.record(self.constants, lambda carry: self._substep(count, carry, i_in), carry)
        spikes = bits.unpack(words, axis=2, length=self.num_neurons)
        return carry, self._read_out(params, carry), lif.activity(carry.neurons, i_in, spikes, changed)

    def state_arrays(self, carry: ConnSnnCarry) -> dict[str, jax.Array]:
        return {**carry.neurons._asdict(), "spikes": bits.unpack(carry.spikes, axis=1, length=self.num_neurons)}

    def _pack(self, recurrent: jax.Array, output: jax.Array) -> tuple[jax.Array, jax.Array]:
        return recurrent, output.astype(jnp.int8)

    def _run(self, params: ConnSnnParams, carry: ConnSnnCarry, obs: jax.Array, active: jax.Array) -> ConnSnnCarry:
        """Returns the carry after all sub-steps; members that are not active need not be computed."""
        del active
        count = self._count_in(params.recurrent)
        i_in = self._input_current(params.input, obs)
        return lif.run(self.constants, lambda carry: self._substep(count, carry, i_in), carry)

    def _read_out(self, params: ConnSnnParams, carry: ConnSnnCarry) -> jax.Array:
        # Rates carry the sign of their neuron, so the output layer needs none.
        return self.gains.output * jnp.sum(params.output.astype(jnp.float32) * carry.neurons.rate[:, :, None], axis=1)

    def _input_current(self, layer: jax.Array, obs: jax.Array) -> jax.Array:
        return self.gains.input * packed_layers.ternary_sum(layer, packed_layers.by_fours(obs), unroll=_GPU_ROWS)

    def _count_in(self, recurrent: jax.Array) -> Count:
        return functools.partial(spike_counts.count_words, recurrent, self.inhibitory)

    def _substep(self, count: Count, carry: ConnSnnCarry, i_in: jax.Array) -> ConnSnnCarry:
        synaptic = self.gains.recurrent * count(carry.spikes).astype(jnp.float32)
        neurons, spike = lif.substep(self.constants, carry.neurons, synaptic, i_in, self.sign)
        return ConnSnnCarry(neurons, bits.pack(spike, axis=-1))


@dataclass(frozen=True)
class _OneByOne(_Together):
    """Each member takes all sub-steps before the next one, by XLA for CPUs.

    A member's recurrent bits (8 KiB at 256 neurons) stay in a CPU's nearest cache, and bytes without a spike are
    passed over.
    """

    def _pack(self, recurrent: jax.Array, output: jax.Array) -> tuple[jax.Array, jax.Array]:
        return spike_counts.rows_of_bytes(recurrent), packed_layers.pack_boolean(output)

    def _run(self, params: ConnSnnParams, carry: ConnSnnCarry, obs: jax.Array, active: jax.Array) -> ConnSnnCarry:
        fours = packed_layers.by_fours(obs)

        def run_all(carries: ConnSnnCarry, *, overflow: bool) -> ConnSnnCarry:
            def run_member(member: jax.Array, carries: ConnSnnCarry) -> ConnSnnCarry:
                # XLA copies this slice, which helps: rows are read again and again, in an order that no processor
                # foresees, and the copy fetches them all.
                recurrent = params.recurrent[member]
                i_in = self.gains.input * packed_layers.ternary_sum(params.input, fours, member, active[member])
                count = functools.partial(
                    spike_counts.count_spiking_bytes, recurrent, self.inhibitory, overflow=overflow
                )
                # A member that is not active takes no sub-steps. A branch around them, even one that is always taken,
                # makes them a twentieth slower.
                num_substeps = jnp.where(active[member], self.constants.num_substeps, 0)
                carry = jax.tree.map(lambda x: x[member], carries)
                carry = lif.run(self.constants, lambda carry: self._substep(count, carry, i_in), carry, num_substeps)
                return jax.tree.map(lambda x, y: lax.dynamic_update_index_in_dim(x, y, member, 0), carries, carry)

            # No branch here either: one of the two loops has no iterations.
            num_members = jnp.where(jnp.any(params.may_overflow) == overflow, obs.shape[0], 0)
            return lax.fori_loop(0, num_members, run_member, carries)

        return run_all(run_all(carry, overflow=False), overflow=True)

    def _read_out(self, params: ConnSnnParams, carry: ConnSnnCarry) -> jax.Array:
        return self.gains.output * packed_layers.boolean_sum(params.output, carry.neurons.rate)

    def _input_current(self, layer: jax.Array, obs: jax.Array) -> jax.Array:
        return self.gains.input * packed_layers.ternary_sum(layer, packed_layers.by_fours(obs))


@dataclass(frozen=True)
class _Fused(_Together):
    """The sub-steps run in one GPU kernel; the rest is done by XLA."""

    substeps: FusedSubsteps

    def _run(self, params: ConnSnnParams, carry: ConnSnnCarry, obs: jax.Array, active: jax.Array) -> ConnSnnCarry:
        i_in = self._input_current(params.input, obs)
        return ConnSnnCarry(*self.substeps(params.recurrent, carry.neurons, carry.spikes, i_in, active))


def make(config: ConnSnnConfig, *, observation_size: int, action_size: int, on_cpu: bool) -> Network:
    """Returns the network of a run.

    Args:
        config: Configuration of the network.
        observation_size: O.
        action_size: A.
        on_cpu: Whether it runs on a CPU.
    """
    make_it = functools.partial(make_conn_snn, config, observation_size=observation_size, action_size=action_size)
    return dataclasses.replace(
        make_it(one_by_one=on_cpu),
        fused=lambda interpret: make_it(one_by_one=False, fused="interpreted" if interpret else "compiled"),
    )


def why_no_gpu_kernel(config: ConnSnnConfig) -> str | None:
    """Returns why the GPU kernel cannot run the network, None if it can."""
    return why_not_fused(config.num_neurons)


def make_conn_snn(
    config: ConnSnnConfig,
    *,
    observation_size: int,
    action_size: int,
    one_by_one: bool = True,
    fused: Literal["compiled", "interpreted"] | None = None,
) -> Network:
    """Returns the boolean spiking network, whose first `round(N * excitatory_ratio)` neurons are excitatory.

    Args:
        config: Configuration of the network.
        observation_size: O.
        action_size: A.
        one_by_one: Whether members run one after the other, for CPUs; otherwise the whole block runs together. Results
            do not depend on it, except for the rounding of actions.
        fused: Whether the sub-steps run in one GPU kernel, whatever `one_by_one` says; `interpreted` runs on any
            device, slowly.

    Raises:
        ValueError: The GPU kernel cannot hold that many neurons.
    """
    c, num_neurons = LifConstants.of(config), config.num_neurons
    num_excitatory = round(num_neurons * config.excitatory_ratio)
    gains = lif.make_gains(config, observation_size, config.expected_density * config.wiring)
    make = _OneByOne if one_by_one else _Together
    if fused:
        substeps = make_fused_substeps(
            c,
            num_neurons=num_neurons,
            num_excitatory=num_excitatory,
            r_recurrent=gains.recurrent,
            interpret=fused == "interpreted",
        )
        make = functools.partial(_Fused, substeps=substeps)
    program = make(
        observation_size=observation_size,
        num_neurons=num_neurons,
        constants=c,
        gains=gains,
        sign=jnp.where(np.arange(num_neurons) < num_excitatory, 1.0, -1.0),
        inhibitory=np.asarray(bits.pack(jnp.asarray(np.arange(num_neurons) >= num_excitatory), axis=0)),
    )
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
        prepare=program.prepare,
        initial_carry=program.initial_carry,
        step=program.step,
        spikes_per_ms=lambda carry: lif.spikes_per_ms(carry.neurons),
        record=program.record,
        neurons=SpikingNeurons(num_neurons, num_excitatory, c, gains),
        wiring=config.wiring,
        state_arrays=program.state_arrays,
    )
