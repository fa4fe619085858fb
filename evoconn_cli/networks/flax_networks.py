"""The networks without spikes: GRU, LSTM and MLP, on Flax's cells.

Source: the baselines of arXiv 2305.17650; layers as in the published code, a cell and a dense read-out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from evoconn_cli.networks import Carry, Layer, Network


class Recurrent(nn.Module):
    """A recurrent cell and a dense read-out."""

    cell: Callable[[int], nn.RNNCellBase]
    num_neurons: int
    action_size: int

    @nn.compact
    def __call__(self, carry: Any, obs: jax.Array) -> tuple[Any, jax.Array]:
        """Returns the new carry and the action of one member."""
        carry, hidden = self.cell(self.num_neurons)(carry, obs)
        return carry, nn.Dense(self.action_size)(hidden)


class Mlp(nn.Module):
    """One tanh layer and a dense read-out, without a state."""

    num_neurons: int
    action_size: int

    @nn.compact
    def __call__(self, carry: Any, obs: jax.Array) -> tuple[Any, jax.Array]:
        """Returns the carry, which is empty, and the action of one member."""
        hidden = nn.tanh(nn.Dense(self.num_neurons)(obs))
        return carry, nn.Dense(self.action_size)(hidden)


_MODULES: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "gru": (functools.partial(Recurrent, nn.GRUCell), 1),
    "lstm": (functools.partial(Recurrent, nn.OptimizedLSTMCell), 2),
    "mlp": (Mlp, 0),
}
"""Module, and how many arrays of `num_neurons` its carry has."""


def make_flax_network(name: str, *, observation_size: int, action_size: int, num_neurons: int) -> Network:
    """Returns the network `gru`, `lstm` or `mlp`.

    Args:
        name: of the network.
        observation_size: O.
        action_size: A.
        num_neurons: N, size of the cell or of the hidden layer.
    """
    make_module, num_arrays = _MODULES[name]
    module: Any = make_module(num_neurons, action_size)

    def zeros(*batch: int) -> Carry:
        arrays = tuple(jnp.zeros((*batch, num_neurons)) for _ in range(num_arrays))
        return arrays[0] if num_arrays == 1 else arrays

    def initial_weights(key: jax.Array) -> Any:
        return module.init(key, zeros(), jnp.zeros((observation_size,)))["params"]

    def apply(weights: Any, carry: Carry, obs: jax.Array) -> tuple[Carry, jax.Array]:
        return module.apply({"params": weights}, carry, obs)

    def step(weights: Any, carry: Carry, obs: jax.Array, active: jax.Array | None = None) -> tuple[Carry, jax.Array]:
        del active
        return jax.vmap(apply)(weights, carry, obs)

    shapes = jax.eval_shape(initial_weights, jax.random.key(0))
    return Network(
        name=name,
        shapes=shapes,
        layers=_layers(shapes),
        initial_weights=initial_weights,
        prepare=lambda candidates: candidates,
        initial_carry=lambda keys: zeros(keys.shape[0]),
        step=step,
        spikes_per_ms=None,
        record=None,
    )


def _layers(shapes: Any) -> dict[str, Layer]:
    """Returns what the layers connect: Flax's cells name theirs `i.` for the input and `h.` for the hidden state."""
    names = ["/".join(str(part.key) for part in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    names = [name for name in names if name.endswith("/kernel")]
    last_dense = max(name for name in names if name.startswith("Dense_"))

    def connects(name: str) -> Layer:
        if name == last_dense:
            return Layer("hidden", "action")
        gate = name.split("/")[-2]
        return Layer("hidden" if gate.startswith("h") else "observation", "neurons")

    return {name: connects(name) for name in names}
