"""What the rules of `members_last` work on: arrays that have the member axis or not, and the evaluation of a jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

Value: TypeAlias = tuple[Any, bool]
"""An array, and whether it has the member axis."""


class Batch(Protocol):
    """What a rule may ask of the evaluation that it is part of."""

    num_members: int

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Returns the outputs of a jaxpr."""
        ...

    def bind(self, eqn: Any, args: Sequence[Any], params: dict[str, Any]) -> list[Value]:
        """Returns the outputs of an operation with other parameters; all have members."""
        ...

    def all_with_members(self, args: Sequence[Value]) -> list[jax.Array]:
        """Returns the arrays, all with the member axis."""
        ...


def with_members(x: Any, batched: bool, num_members: int) -> jax.Array:
    """Returns `x` with the member axis, repeated along it if it had none."""
    if batched:
        return x
    x = jnp.asarray(x)
    return lax.broadcast_in_dim(x, (*x.shape, num_members), tuple(range(x.ndim)))


Rule: TypeAlias = Callable[[Batch, Any, list[Value]], "list[Value] | None"]
"""Takes the evaluation, an operation and its operands; returns the outputs, or None where it does not apply."""
