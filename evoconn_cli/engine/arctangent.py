"""The arctangent of `members_last`: XLA would call the C library for each member."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from evoconn_cli.engine.batching import Batch, Value

_ATAN_NUMERATOR = (1.0, 1.13175269, 0.28787937, 0.0089984)
_ATAN_DENOMINATOR = (1.0, 1.46508593, 0.57624362, 0.05089879)
"""Coefficients in rising powers of `t²`: `atan(t) / t` for t in [0, 1] is their ratio, to 1e-9 (least squares)."""


def atan2(batch: Batch, eqn: Any, args: list[Value]) -> list[Value]:
    """In float32 from operations that vectorise, to 3e-7 of the value (2.8e-7 measured).

    A zero has no sign, so `atan2(-0, -1)` is +pi and `atan2(0, -0)` is 0; numbers below the normal ones count as 0,
    as they do in XLA on CPUs; two infinities give NaN.
    """
    y, x = batch.all_with_members(args)
    if y.dtype != jnp.float32:
        return batch.bind(eqn, [y, x], eqn.params)
    height, width = lax.abs(y), lax.abs(x)
    steep, backward = height > width, x < 0
    longer = jnp.where(steep, height, width)
    # Selections, because XLA's min and max may lose a NaN.
    t = jnp.where(steep, width, height) / jnp.where(longer == 0, np.float32(1.0), longer)
    numerator = t * _polynomial(_ATAN_NUMERATOR, t * t)
    denominator = _polynomial(_ATAN_DENOMINATOR, t * t)
    numerator = jnp.where(steep != backward, -numerator, numerator)
    offset = jnp.where(steep, np.float32(math.pi / 2), jnp.where(backward, np.float32(math.pi), np.float32(0)))
    angle = offset * denominator + numerator
    # The division comes last because XLA does not repeat one in every fusion that reads the result.
    return [(jnp.where(y < 0, -angle, angle) / denominator, True)]


def _polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + np.float32(coefficient)
    return total
