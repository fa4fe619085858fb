"""Leaky integrate-and-fire neurons with exponential synapses, shared by all spiking networks.

Source: arXiv 2305.17650, section 3.1 and supplement; discretised as in the published code (exact decay per
sub-step, strict threshold, reset to rest, read-out by an exponential trace of the signed spikes).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.config.schema import SpikingConfig
from evoconn_cli.networks import Activity, Gains


@dataclass(frozen=True)
class LifConstants:
    """Constants of the neurons; times in [ms], potentials are dimensionless."""

    tau_syn_ms: float = 5.0
    tau_m_ms: float = 10.0
    tau_out_ms: float = 10.0
    dt_ms: float = 0.5
    step_ms: float = 16.6
    v_rest: float = 0.0
    v_threshold: float = 1.0

    @classmethod
    def of(cls, config: SpikingConfig) -> LifConstants:
        """Returns the constants of a network's configuration, which has them under the same names."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @property
    def num_substeps(self) -> int:
        """Sub-steps of an environment step."""
        return round(self.step_ms / self.dt_ms)

    @property
    def alpha_syn(self) -> float:
        """Decay of the synaptic current over a sub-step."""
        return math.exp(-self.dt_ms / self.tau_syn_ms)

    @property
    def alpha_m(self) -> float:
        """Decay of the membrane potential over a sub-step."""
        return math.exp(-self.dt_ms / self.tau_m_ms)

    @property
    def alpha_out(self) -> float:
        """Decay of the read-out rate over a sub-step."""
        return math.exp(-self.dt_ms / self.tau_out_ms)


def make_gains(config: SpikingConfig, observation_size: int, density: float = 1.0) -> Gains:
    """Returns the gains of the three layers, which keep the neurons' input in the range of the threshold.

    Args:
        config: Configuration of the network.
        observation_size: O.
        density: Expected share of connections that exist.
    """
    scale = config.v_threshold * config.tau_m_ms
    return Gains(
        input=config.gain_in * scale * math.sqrt(2.0 / (density * observation_size)),
        recurrent=config.gain_recurrent * scale / config.tau_syn_ms * math.sqrt(2.0 / (density * config.num_neurons)),
        output=config.gain_out * math.sqrt(1.0 / (density * config.num_neurons)),
    )


SpikingCarry = TypeVar("SpikingCarry", bound=Any)
"""A `NamedTuple` with `neurons`, a `LifState`, and `spikes` of the last sub-step."""


class LifState(NamedTuple):
    """State of a layer of neurons; `...` are any leading axes."""

    v: jax.Array  # [..., N] float32 membrane potential
    i_syn: jax.Array  # [..., N] float32 synaptic current
    rate: jax.Array  # [..., N] float32 signed read-out rate [1/ms]


def initial_state(constants: LifConstants, keys: jax.Array, num_neurons: int) -> LifState:
    """Returns the state at rest of currents and rates, with potentials drawn from U(v_rest, v_threshold).

    Args:
        constants: Constants of the neurons.
        keys: `[B]`, one per member.
        num_neurons: N.
    """
    v = jax.vmap(lambda key: jax.random.uniform(key, (num_neurons,)))(keys)
    v = constants.v_rest + (constants.v_threshold - constants.v_rest) * v
    return LifState(v, jnp.zeros_like(v), jnp.zeros_like(v))


def substep(
    constants: LifConstants, state: LifState, synaptic: jax.Array, i_in: jax.Array, sign: jax.Array
) -> tuple[LifState, jax.Array]:
    """Returns the state after one sub-step and which neurons spiked.

    Neurons that spiked keep their potential until the next sub-step or `reset`: a compiler then computes a potential
    once, not again for each of spikes, rates and reset potentials.

    Args:
        constants: Constants of the neurons.
        state: State before the sub-step.
        synaptic: `[..., N]` current that the spikes of the previous sub-step inject into the synapses.
        i_in: `[..., N]` input current, which bypasses the synapses.
        sign: `[N]` +1 for excitatory, -1 for inhibitory neurons.
    """
    c = constants
    i_syn = c.alpha_syn * state.i_syn + synaptic
    target = c.v_rest + i_syn + i_in
    v = target + c.alpha_m * (reset(c, state).v - target)
    spike = v > c.v_threshold
    impulse = jnp.where(spike, sign / c.dt_ms, 0.0)
    rate = impulse + c.alpha_out * (state.rate - impulse)
    return LifState(v, i_syn, rate), spike


def reset(constants: LifConstants, state: LifState) -> LifState:
    """Returns `state` with the potentials above the threshold at rest."""
    return state._replace(v=jnp.where(state.v > constants.v_threshold, constants.v_rest, state.v))


def run(
    constants: LifConstants,
    substep: Callable[[SpikingCarry], SpikingCarry],
    carry: SpikingCarry,
    num_substeps: int | jax.Array | None = None,
) -> SpikingCarry:
    """Returns the carry after all sub-steps of an environment step.

    Args:
        constants: Constants of the neurons.
        substep: `substep(carry) -> carry`, a sub-step of the network.
        carry: Carry before the step.
        num_substeps: Number of sub-steps, by default all.
    """
    num_substeps = constants.num_substeps if num_substeps is None else num_substeps
    carry = lax.fori_loop(0, num_substeps, lambda _, carry: substep(carry), carry)
    return carry._replace(neurons=reset(constants, carry.neurons))


def record(
    constants: LifConstants, substep: Callable[[SpikingCarry], SpikingCarry], carry: SpikingCarry
) -> tuple[SpikingCarry, jax.Array, jax.Array]:
    """Returns the result of `run`, and for every sub-step the spikes (as in the carry) and which potentials changed.

    Args:
        constants: Constants of the neurons.
        substep: `substep(carry) -> carry`, a sub-step of the network.
        carry: Carry before the step.
    """

    def body(before: SpikingCarry, _: None) -> tuple[SpikingCarry, tuple[jax.Array, jax.Array]]:
        after = substep(before)
        after = after._replace(neurons=reset(constants, after.neurons))
        return after, (after.spikes, after.neurons.v != before.neurons.v)

    carry, (spikes, changed) = lax.scan(body, carry, None, length=constants.num_substeps)
    return carry, spikes, changed


def spikes_per_ms(state: LifState) -> jax.Array:
    """Returns `[...]` the mean absolute rate of the neurons [1/ms]."""
    return jnp.mean(jnp.abs(state.rate), axis=-1)


def activity(state: LifState, i_in: jax.Array, spikes: jax.Array, changed: jax.Array) -> Activity:
    """Returns the activity in a step.

    Args:
        state: `[B, N]`, state after the step.
        i_in: `[B, N]` input current.
        spikes: `[S, B, N]` bool.
        changed: `[S, B, N]` bool, whether the membrane potential changed in the sub-step.
    """
    return Activity(spikes, i_in, state.rate, jnp.sum(changed | spikes, axis=0))
