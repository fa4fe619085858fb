"""Networks: policies with a state, as pure functions of a block of members.

Letters of shapes, everywhere: `P` population, `M` members without evaluation copies, `B` members of a block, `N`
neurons, `O` observation, `A` action, `T` environment steps, `S` sub-steps of an environment step, `W` words of 32 bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.networks import bits

if TYPE_CHECKING:
    from evoconn_cli.networks.lif import LifConstants

Candidates: TypeAlias = Any
"""Proposals of a strategy for a block: a pytree of arrays `[B, ...]`; packed bits or real weights."""

Params: TypeAlias = Any
"""Candidates in the form that a network computes with: a pytree of arrays `[B, ...]`."""

Carry: TypeAlias = Any
"""State of a network between environment steps: a pytree of arrays `[B, ...]`."""


class Activity(NamedTuple):
    """Activity of a spiking network during one environment step."""

    spikes: jax.Array  # [S, B, N] bool
    i_in: jax.Array  # [B, N] float32 input current, the same in all sub-steps
    rate: jax.Array  # [B, N] float32 signed rate that the read-out receives [1/ms]
    updates: jax.Array  # [B, N] int32 sub-steps in which the membrane potential changed or was reset


class Layer(NamedTuple):
    """Units that a layer `[pre, post]` of weights connects."""

    pre: Literal["observation", "spikes", "rate", "hidden"]  # spikes pass in every sub-step, the others once per step
    post: Literal["neurons", "action"]


class Gains(NamedTuple):
    """Factors of a spiking network's three layers."""

    input: float  # R_in, of the observations
    recurrent: float  # R, of the spikes
    output: float  # R_out, of the rates


class SpikingNeurons(NamedTuple):
    """The neurons of a spiking network."""

    num: int  # N
    num_excitatory: int | None  # the first ones are excitatory, the others inhibitory; None if neurons have no types
    constants: LifConstants
    gains: Gains

    @property
    def sizes(self) -> list[int]:
        """Numbers of excitatory and of inhibitory neurons, or N alone if neurons have no types."""
        return [self.num] if self.num_excitatory is None else [self.num_excitatory, self.num - self.num_excitatory]

    @property
    def types(self) -> np.ndarray | None:
        """`[N]` int8, +1 excitatory and -1 inhibitory; None if neurons have no types."""
        if self.num_excitatory is None:
            return None
        return np.where(np.arange(self.num) < self.num_excitatory, 1, -1).astype(np.int8)


@dataclass(frozen=True)
class Network:
    """A recurrent policy for a block of `B` members.

    Attributes:
        name: Name on the command line.
        shapes: Search space of the strategy, one member's arrays: a pytree of `ShapeDtypeStruct`s, bool (whose
            candidates are packed along their first axis) or float32.
        layers: What each layer of `shapes` connects, by its path, such as `GRUCell_0/hn/kernel`; without biases.
        initial_weights: `initial_weights(key) -> weights` of one member, or None for a boolean network.
        prepare: `prepare(candidates) -> params`, once per episode; by default connections as 0 and 1 (float32) in the
            shapes of `shapes`, and weights as they are.
        initial_carry: `initial_carry(keys [B]) -> carry`.
        step: `step(params, carry, obs [B, O], active [B] = None) -> (carry, action [B, A])`; results of members that
            are not active are unused, so a network may skip their work.
        spikes_per_ms: `spikes_per_ms(carry) -> [B]` mean rate of a member's neurons [1/ms], or None.
        record: `record(params, carry, obs [B, O]) -> (carry, action [B, A], Activity)`, the same as `step` to the
            last bit, or None for a network without spikes.
        neurons: The neurons of a spiking network, or None.
        wiring: Share of boolean connections, drawn at random for a run, that can form; the others stay absent.
        state_arrays: `state_arrays(carry) -> {name: [B, N]}`, the carry by the names that the network's equations use;
            of a spiking network `v`, `i_syn`, `rate` and `spikes` (bool).
        equations: Lines that say what a network without spikes computes in an environment step.
        fused: `fused(interpret) -> Network`, the same network with its sub-steps in one GPU kernel (interpreted on any
            device, to test it), or None if it has no such kernel.
    """

    name: str
    shapes: Any
    layers: Mapping[str, Layer]
    initial_weights: Callable[[jax.Array], Any] | None
    initial_carry: Callable[[jax.Array], Carry]
    step: Callable[..., tuple[Carry, jax.Array]]
    prepare: Callable[[Candidates], Params] = None  # pyright: ignore[reportAssignmentType]
    spikes_per_ms: Callable[[Carry], jax.Array] | None = None
    record: Callable[[Params, Carry, jax.Array], tuple[Carry, jax.Array, Activity]] | None = None
    neurons: SpikingNeurons | None = None
    wiring: float = 1.0
    state_arrays: Callable[[Carry], dict[str, jax.Array]] = lambda carry: {}
    equations: tuple[str, ...] = ()
    fused: Callable[[bool], Network] | None = None

    def __post_init__(self) -> None:
        if self.prepare is None:
            object.__setattr__(self, "prepare", functools.partial(_unpacked, self.shapes))

    @property
    def is_boolean(self) -> bool:
        """Whether a member has boolean connections, not real weights."""
        return self.initial_weights is None

    @property
    def num_parameters(self) -> int:
        """Number of connections or weights of one member."""
        return sum(math.prod(layer.shape) for layer in jax.tree.leaves(self.shapes))


def _unpacked(shapes: Any, candidates: Candidates) -> Params:
    """Returns `candidates` with packed connections as 0 and 1 (float32)."""

    def one(shape: jax.ShapeDtypeStruct, x: jax.Array) -> jax.Array:
        is_packed = shape.dtype == jnp.bool_
        return bits.unpack(x, axis=1, length=shape.shape[0]).astype(jnp.float32) if is_packed else x

    return jax.tree.map(one, shapes, candidates)
