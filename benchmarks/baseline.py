"""The baseline of the benchmark: a generation as the published code computes it, on current JAX.

Brax under plain `vmap` on one device, boolean layers as int8 matrices, and all members in lock-step until the slowest
is done. The published code itself, at the versions that it needs, is slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.networks.lif import LifConstants
from evoconn_cli.tasks import Task

NUM_NEURONS = 256
_GAIN_IN, _GAIN_RECURRENT, _GAIN_OUT = 0.1, 1.0, 5.0


class DenseCarry(NamedTuple):
    """State of the dense network between environment steps."""

    v: jax.Array  # [P, N]
    i_syn: jax.Array  # [P, N]
    rate: jax.Array  # [P, N]
    spikes: jax.Array  # [P, N] int8, signed


class DenseLayers(NamedTuple):
    """Boolean layers of a population, one byte per connection."""

    input: jax.Array  # [P, 2 O, N] int8
    recurrent: jax.Array  # [P, N, N] int8
    output: jax.Array  # [P, N, A] int8


def random_layers(task: Task, population: int) -> DenseLayers:
    """Returns layers of density 0.5."""
    shapes = (
        (population, 2 * task.observation_size, NUM_NEURONS),
        (population, NUM_NEURONS, NUM_NEURONS),
        (population, NUM_NEURONS, task.action_size),
    )
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return DenseLayers(*(jax.random.bernoulli(k, 0.5, s).astype(jnp.int8) for k, s in zip(keys, shapes, strict=True)))


def initial_carry(population: int) -> DenseCarry:
    """Returns potentials between rest and threshold, and silence."""
    v = jax.random.uniform(jax.random.key(1), (population, NUM_NEURONS))
    return DenseCarry(v, jnp.zeros_like(v), jnp.zeros_like(v), jnp.zeros(v.shape, jnp.int8))


def dense_step(layers: DenseLayers, carry: DenseCarry, obs: jax.Array) -> tuple[DenseCarry, jax.Array]:
    """Returns the carry and the actions `[P, A]` after an environment step with observations `[P, O]`."""
    c = LifConstants()
    scale = c.v_threshold * c.tau_m_ms
    r_in = _GAIN_IN * scale * np.sqrt(2.0 / (0.5 * obs.shape[1])).astype(np.float32)
    r = _GAIN_RECURRENT * scale / c.tau_syn_ms * np.sqrt(2.0 / (0.5 * NUM_NEURONS)).astype(np.float32)
    r_out = _GAIN_OUT * np.sqrt(1.0 / (0.5 * NUM_NEURONS)).astype(np.float32)
    sign = np.where(np.arange(NUM_NEURONS) < NUM_NEURONS // 2, 1, -1).astype(np.int8)
    both = jnp.concatenate([obs, -obs], axis=1)
    i_in = r_in * jnp.einsum("bi,bij->bj", both, layers.input.astype(jnp.float32))

    def substep(_: jax.Array, now: DenseCarry) -> DenseCarry:
        reached = jnp.einsum("bi,bij->bj", now.spikes, layers.recurrent, preferred_element_type=jnp.int8)
        i_syn = c.alpha_syn * now.i_syn + r * reached.astype(jnp.float32)
        target = c.v_rest + i_syn + i_in
        v = target + c.alpha_m * (now.v - target)
        spike = v > c.v_threshold
        spikes = jnp.where(spike, sign, np.int8(0))
        impulse = spikes.astype(jnp.float32) / c.dt_ms
        rate = impulse + c.alpha_out * (now.rate - impulse)
        return DenseCarry(jnp.where(spike, c.v_rest, v), i_syn, rate, spikes)

    carry = jax.lax.fori_loop(0, c.num_substeps, substep, carry)
    return carry, r_out * jnp.einsum("bi,bij->bj", carry.rate, layers.output.astype(jnp.float32))


def make_baseline_steps(task: Task, population: int) -> Callable[[int], jax.Array]:
    """Returns `run(steps)`, which simulates `steps` lock-steps of the whole population on one device."""
    physics = jax.vmap(task.step)
    state = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(2), population))
    arguments = (random_layers(task, population), initial_carry(population), state)

    @jax.jit
    def run(layers, carry, state, steps):
        def body(_, now):
            carry, state = now
            carry, action = dense_step(layers, carry, state.obs)
            return carry, physics(state, action)

        return jax.lax.fori_loop(0, steps, body, (carry, state))[1].obs

    return lambda steps: run(*arguments, steps)


def make_dense_network_steps(task: Task, population: int) -> Callable[[int], jax.Array]:
    """Returns `run(steps)`, which takes `steps` steps of the dense network alone, on random observations."""
    obs = jax.random.normal(jax.random.key(3), (population, task.observation_size))
    arguments = (random_layers(task, population), initial_carry(population), obs)

    @jax.jit
    def run(layers, carry, obs, steps):
        return jax.lax.fori_loop(0, steps, lambda _, carry: dense_step(layers, carry, obs + carry.v[:, :1])[0], carry)

    return lambda steps: run(*arguments, steps).rate
