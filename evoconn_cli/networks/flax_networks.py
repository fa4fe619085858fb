"""The networks without spikes: GRU, LSTM and MLP, on Flax's cells.

Source: the baselines of arXiv 2305.17650; layers as in the published code, a cell and a dense read-out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from evoconn_cli.config.schema import NetworkConfig
from evoconn_cli.networks import Carry, Layer, Network
from evoconn_cli.networks.layers import arrays_by_name


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


class _Kind(NamedTuple):
    """One of the networks."""

    make_module: Callable[..., nn.Module]
    carry: tuple[str, ...]  # names of its arrays of `num_neurons` in the equations
    equations: tuple[str, ...]


_KINDS = {
    "gru": _Kind(
        functools.partial(Recurrent, nn.GRUCell),
        ("h",),
        (
            "r = sigmoid(x @ ir + b_ir + h @ hr)",
            "z = sigmoid(x @ iz + b_iz + h @ hz)",
            "n = tanh(x @ in + b_in + r · (h @ hn + b_hn))",
            "h = (1 - z) · n + z · h",
            "raw_action = h @ Dense_0 + b_Dense_0",
        ),
    ),
    "lstm": _Kind(
        functools.partial(Recurrent, nn.OptimizedLSTMCell),
        ("c", "h"),
        (
            "i = sigmoid(x @ ii + h @ hi + b_hi)",
            "f = sigmoid(x @ if + h @ hf + b_hf)",
            "g = tanh(x @ ig + h @ hg + b_hg)",
            "o = sigmoid(x @ io + h @ ho + b_ho)",
            "c = f · c + i · g",
            "h = o · tanh(c)",
            "raw_action = h @ Dense_0 + b_Dense_0",
        ),
    ),
    "mlp": _Kind(
        Mlp,
        (),
        ("h = tanh(x @ Dense_0 + b_Dense_0)", "raw_action = h @ Dense_1 + b_Dense_1"),
    ),
}


def make(config: NetworkConfig, *, observation_size: int, action_size: int, on_cpu: bool) -> Network:
    """Returns the network of a run.

    Args:
        config: Configuration of the network.
        observation_size: O.
        action_size: A.
        on_cpu: Whether it runs on a CPU, which makes no difference here.
    """
    del on_cpu
    return make_flax_network(
        config.name, observation_size=observation_size, action_size=action_size, num_neurons=config.num_neurons
    )


def make_flax_network(name: str, *, observation_size: int, action_size: int, num_neurons: int) -> Network:
    """Returns the network `gru`, `lstm` or `mlp`.

    Args:
        name: Name of the network.
        observation_size: O.
        action_size: A.
        num_neurons: N, size of the cell or hidden layer.
    """
    kind = _KINDS[name]
    module: Any = kind.make_module(num_neurons, action_size)

    def zeros(*batch: int) -> Carry:
        arrays = tuple(jnp.zeros((*batch, num_neurons)) for _ in kind.carry)
        return arrays[0] if len(arrays) == 1 else arrays

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
        initial_carry=lambda keys: zeros(keys.shape[0]),
        step=step,
        state_arrays=lambda carry: dict(zip(kind.carry, jax.tree.leaves(carry), strict=True)),
        equations=kind.equations,
    )


def _layers(shapes: Any) -> dict[str, Layer]:
    """Returns what the layers connect: Flax's cells name theirs `i.` for the input and `h.` for the hidden state."""
    names = [name for name in arrays_by_name(shapes) if name.endswith("/kernel")]
    read_out = max(name for name in names if name.startswith("Dense_"))
    is_gate = {name: name.split("/")[-2].startswith("h") for name in names}
    layers = {name: Layer("hidden" if is_gate[name] else "observation", "neurons") for name in names}
    return {**layers, read_out: Layer("hidden", "action")}
