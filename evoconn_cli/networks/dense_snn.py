"""Dense-RSNN: the neurons of Conn-RSNN with real weights and without neuron types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.config.schema import DenseSnnConfig
from evoconn_cli.networks import Activity, Candidates, Layer, Network, SpikingNeurons, lif
from evoconn_cli.networks.lif import LifConstants, LifState

_Output = TypeVar("_Output")


def map_tiles(fn: Callable[..., _Output], args: tuple[Any, ...], tile: int | None) -> _Output:
    """Returns `fn(*args)` computed for `tile` members at a time; all arrays have the member axis first.

    A block is computed at once if `tile` is None or does not divide it.
    """
    num_members = jax.tree.leaves(args)[0].shape[0]
    if tile is None or num_members <= tile or num_members % tile:
        return fn(*args)
    tiles = jax.tree.map(lambda x: x.reshape(num_members // tile, tile, *x.shape[1:]), args)
    out = lax.map(lambda arrays: fn(*arrays), tiles)
    return jax.tree.map(lambda x: x.reshape(num_members, *x.shape[2:]), out)


class DenseSnnCarry(NamedTuple):
    """State kept from one environment step to the next."""

    neurons: LifState  # [B, N]
    spikes: jax.Array  # [B, N] bool, of the last sub-step


_CPU_TILE = 2
"""Members whose recurrent weights (256 KiB each at 256 neurons) stay in a core's cache."""


def make(config: DenseSnnConfig, *, observation_size: int, action_size: int, on_cpu: bool) -> Network:
    """Returns the network of a run.

    Args:
        config: Configuration of the network.
        observation_size: O.
        action_size: A.
        on_cpu: Whether it runs on a CPU.
    """
    tile = _CPU_TILE if on_cpu else None
    return make_dense_snn(config, observation_size=observation_size, action_size=action_size, tile=tile)


def make_dense_snn(
    config: DenseSnnConfig, *, observation_size: int, action_size: int, tile: int | None = None
) -> Network:
    """Returns the real-weighted spiking network.

    Args:
        config: Configuration of the network.
        observation_size: O.
        action_size: A.
        tile: Members that run together through all sub-steps; None runs the whole block together.
    """
    c, num_neurons = LifConstants.of(config), config.num_neurons
    gains = lif.make_gains(config, observation_size)
    shapes = {
        "kernel_in": (observation_size, num_neurons),
        "kernel_h": (num_neurons, num_neurons),
        "kernel_out": (num_neurons, action_size),
    }
    no_types = jnp.ones((num_neurons,))

    def initial_weights(key: jax.Array) -> Candidates:
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        return {name: jax.random.normal(keys[name], shape) for name, shape in shapes.items()}

    def initial_carry(keys: jax.Array) -> DenseSnnCarry:
        return DenseSnnCarry(lif.initial_state(c, keys, num_neurons), jnp.zeros((keys.shape[0], num_neurons), bool))

    def substep(recurrent: jax.Array, carry: DenseSnnCarry, i_in: jax.Array) -> DenseSnnCarry:
        synaptic = gains.recurrent * _layer(carry.spikes.astype(jnp.float32), recurrent)
        return DenseSnnCarry(*lif.substep(c, carry.neurons, synaptic, i_in, no_types))

    def run_substeps(recurrent: jax.Array, carry: DenseSnnCarry, i_in: jax.Array) -> DenseSnnCarry:
        return lif.run(c, lambda carry: substep(recurrent, carry, i_in), carry)

    def step(
        params: Candidates, carry: DenseSnnCarry, obs: jax.Array, active: jax.Array | None = None
    ) -> tuple[DenseSnnCarry, jax.Array]:
        del active
        i_in = gains.input * _layer(obs, params["kernel_in"])
        carry = map_tiles(run_substeps, (params["kernel_h"], carry, i_in), tile)
        return carry, gains.output * _layer(carry.neurons.rate, params["kernel_out"])

    def record(params: Candidates, carry: DenseSnnCarry, obs: jax.Array) -> tuple[DenseSnnCarry, jax.Array, Activity]:
        i_in = gains.input * _layer(obs, params["kernel_in"])
        carry, spikes, changed = lif.record(c, lambda carry: substep(params["kernel_h"], carry, i_in), carry)
        action = gains.output * _layer(carry.neurons.rate, params["kernel_out"])
        return carry, action, lif.activity(carry.neurons, i_in, spikes, changed)

    return Network(
        name="dense_snn",
        shapes={name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()},
        layers={
            "kernel_in": Layer("observation", "neurons"),
            "kernel_h": Layer("spikes", "neurons"),
            "kernel_out": Layer("rate", "action"),
        },
        initial_weights=initial_weights,
        initial_carry=initial_carry,
        step=step,
        spikes_per_ms=lambda carry: lif.spikes_per_ms(carry.neurons),
        record=record,
        neurons=SpikingNeurons(num_neurons, None, c, gains),
        state_arrays=lambda carry: {**carry.neurons._asdict(), "spikes": carry.spikes},
    )


def _layer(x: jax.Array, layer: jax.Array) -> jax.Array:
    """Returns `[B, post]`, the products of each member's `x` `[B, pre]` and its own layer `[B, pre, post]`."""
    return jnp.einsum("bi,bij->bj", x, layer)
