"""Leaky rate units with boolean connections; the first half of the units excites, the others inhibit.

    evoconn train --config laptop --plugin examples/leaky_network.py --network leaky \
        --plugin examples/point_mass.py --task point_mass algo.generations=40

Return: 82 of at most 100 after 40 generations, which are 2 million environment steps. Two CPU cores: 25 s.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from evoconn_cli import Layer, Network, NetworkConfig, option, register_network


@dataclass(frozen=True)
class LeakyConfig(NetworkConfig):
    num_neurons: int = option(64, "rate units", low=1)
    leak: float = option(0.5, "share of its state that a unit loses per step", above=0, high=1)
    gain: float = option(3.0, "factor of all connections", above=0)


@register_network("leaky", candidates="connections", config=LeakyConfig)
def make(config, *, observation_size, action_size, on_cpu):
    """Leaky rate units with boolean connections."""
    num = config.num_neurons
    shapes = {"input": (2 * observation_size, num), "recurrent": (num, num), "output": (num, action_size)}

    def passed(values, connections):  # [B, pre], [B, pre, post] -> [B, post]
        return config.gain / values.shape[1] ** 0.5 * jnp.einsum("bi,bij->bj", values, connections)

    def rates(carry):
        signs = jnp.where(jnp.arange(num) < num // 2, 1.0, -1.0)
        return signs * jnp.tanh(jnp.maximum(carry, 0.0))

    def step(params, carry, obs, active=None):
        both = jnp.concatenate([obs, -obs], axis=1)
        drive = passed(both, params["input"]) + passed(rates(carry), params["recurrent"])
        carry = carry + config.leak * (drive - carry)
        return carry, passed(rates(carry), params["output"])

    return Network(
        config.name,
        shapes={name: jax.ShapeDtypeStruct(shape, jnp.bool_) for name, shape in shapes.items()},
        layers={
            "input": Layer("observation", "neurons"),
            "recurrent": Layer("hidden", "neurons"),
            "output": Layer("hidden", "action"),
        },
        initial_weights=None,
        initial_carry=lambda keys: jnp.zeros((keys.shape[0], num)),
        step=step,
    )
