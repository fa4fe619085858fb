"""Rules of `members_last` for single operations."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from evoconn_cli.engine.control_flow_rules import Rule, Value, cond, scan, while_loop

if TYPE_CHECKING:
    from evoconn_cli.engine.members_last import Evaluator

_ATAN_NUMERATOR = (1.0, 1.13175269, 0.28787937, 0.0089984)
_ATAN_DENOMINATOR = (1.0, 1.46508593, 0.57624362, 0.05089879)
"""Coefficients in rising powers of `t²`: `atan(t) / t` for t in [0, 1] is their ratio, to 1e-9 (least squares)."""


def atan2(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value]:
    """Computes float32 from operations that vectorise, with a relative error of at most 3e-7 (2.8e-7 measured).

    A zero has no sign, so `atan2(-0, -1)` is +pi and `atan2(0, -0)` is 0; numbers below the normal ones count as 0,
    as in XLA on CPUs; two infinities give NaN.
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
    # The division comes last, because XLA does not repeat a division in every fusion that reads the result.
    return [(jnp.where(y < 0, -angle, angle) / denominator, True)]


def _polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + np.float32(coefficient)
    return total


_SCATTER_PARAMS = "dimension_numbers indices_are_sorted unique_indices mode update_jaxpr update_consts"

MAX_WRITTEN_OUT = 16
"""Sums of at most this many terms are written out."""


def _broadcast_in_dim(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    if len(args) > 1:  # dynamic shapes
        return None
    shape = (*eqn.params["shape"], batch.num_members)
    dims = (*eqn.params["broadcast_dimensions"], len(shape) - 1)
    return [(lax.broadcast_in_dim(args[0][0], shape, dims), True)]


def _reshape(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    if eqn.params["dimensions"] is not None or len(args) > 1:
        return None
    return [(lax.reshape(args[0][0], (*eqn.params["new_sizes"], batch.num_members)), True)]


def _transpose(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value]:
    permutation = eqn.params["permutation"]
    return [(lax.transpose(args[0][0], (*permutation, len(permutation))), True)]


def _slice(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value]:
    p = eqn.params
    start, limit = (*p["start_indices"], 0), (*p["limit_indices"], batch.num_members)
    strides = None if p["strides"] is None else (*p["strides"], 1)
    return [(lax.slice(args[0][0], start, limit, strides), True)]


def _pad(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    if args[1][1]:
        return None
    return [(lax.pad(args[0][0], args[1][0], (*eqn.params["padding_config"], (0, 0, 0))), True)]


def _clamp(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value]:
    del eqn
    low, x, high = args
    rank = jnp.ndim(x[0]) - x[1]
    arrays = batch.all_with_members([low, x, high])
    low_x, x_x, high_x = (
        a if a.ndim == rank + 1 else lax.broadcast_in_dim(a, arrays[1].shape, (rank,)) for a in arrays
    )
    return [(lax.clamp(low_x, x_x, high_x), True)]


def _reduce_sum(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value]:
    (x, _), axes = args[0], eqn.params["axes"]
    sizes = [x.shape[axis] for axis in axes]
    terms = math.prod(sizes)
    if not 0 < terms <= MAX_WRITTEN_OUT:
        return batch.bind(eqn, [x], eqn.params)
    picks = [_pick(x, dict(zip(axes, index, strict=True))) for index in itertools.product(*map(range, sizes))]
    return [(functools.reduce(lax.add, picks), True)]


def _dot_general(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Writes small contractions as sums of products; the axes of the output are batch, left, right."""
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    lhs, rhs = batch.all_with_members(args)
    sizes = [lhs.shape[axis] for axis in lhs_contract]
    terms = math.prod(sizes)
    if not 0 < terms <= MAX_WRITTEN_OUT:
        return None
    out_type = eqn.outvars[0].aval.dtype
    num_left = lhs.ndim - 1 - len(lhs_contract) - len(lhs_batch)
    num_right = rhs.ndim - 1 - len(rhs_contract) - len(rhs_batch)

    def term(index: tuple[int, ...]) -> jax.Array:
        left = _pick(lhs, dict(zip(lhs_contract, index, strict=True)), front=lhs_batch).astype(out_type)
        right = _pick(rhs, dict(zip(rhs_contract, index, strict=True)), front=rhs_batch).astype(out_type)
        num_batch = len(lhs_batch)
        left = lax.expand_dims(left, range(num_batch + num_left, num_batch + num_left + num_right))
        right = lax.expand_dims(right, range(num_batch, num_batch + num_left))
        return left * right

    products = [term(index) for index in itertools.product(*map(range, sizes))]
    return [(functools.reduce(lax.add, products), True)]


def _gather(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    """With constant indices the member axis is one more window axis."""
    (operand, _), (indices, indices_batched) = args
    if indices_batched:
        return None
    p, ndim = eqn.params, len(eqn.outvars[0].aval.shape)
    numbers = p["dimension_numbers"]
    numbers = numbers._replace(offset_dims=(*numbers.offset_dims, ndim))
    sizes = (*p["slice_sizes"], batch.num_members)
    params = {**p, "dimension_numbers": numbers, "slice_sizes": sizes}
    return batch.bind(eqn, [operand, indices], params)


def _scatter(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    """With constant indices the member axis is one more window axis of the updates."""
    if args[1][1]:
        return None
    operand, updates = batch.all_with_members([args[0], args[2]])
    numbers = eqn.params["dimension_numbers"]
    numbers = numbers._replace(update_window_dims=(*numbers.update_window_dims, updates.ndim - 1))
    return batch.bind(eqn, [operand, args[1][0], updates], {**eqn.params, "dimension_numbers": numbers})


def _dynamic_slice(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    (operand, _), *starts = args
    if any(batched for _, batched in starts):
        return None
    sizes = (*eqn.params["slice_sizes"], batch.num_members)
    return [(lax.dynamic_slice(operand, [*(x for x, _ in starts), 0], sizes), True)]


def _dynamic_update_slice(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    del eqn
    operand, update, *starts = args
    if any(batched for _, batched in starts):
        return None
    operand, update = batch.all_with_members([operand, update])
    return [(lax.dynamic_update_slice(operand, update, [*(x for x, _ in starts), 0]), True)]


def _pick(x: jax.Array, index: dict[int, int], front: Sequence[int] = ()) -> jax.Array:
    """Returns `x` at `index` (axis -> position) without those axes, and the axes `front` moved to the front."""
    start = [index.get(axis, 0) for axis in range(x.ndim)]
    limit = [index[axis] + 1 if axis in index else x.shape[axis] for axis in range(x.ndim)]
    x = lax.slice(x, start, limit)
    rest = [axis for axis in range(x.ndim) if axis not in index and axis not in front]
    x = lax.transpose(x, (*front, *rest, *index))
    return lax.squeeze(x, range(x.ndim - len(index), x.ndim))


RULES: dict[str, tuple[Rule, str]] = {
    "broadcast_in_dim": (_broadcast_in_dim, "shape broadcast_dimensions sharding"),
    "reshape": (_reshape, "new_sizes dimensions sharding"),
    "transpose": (_transpose, "permutation"),
    "slice": (_slice, "start_indices limit_indices strides"),
    "pad": (_pad, "padding_config"),
    "clamp": (_clamp, ""),
    "reduce_sum": (_reduce_sum, "axes out_sharding"),
    "dot_general": (_dot_general, "dimension_numbers precision preferred_element_type out_sharding"),
    "atan2": (atan2, ""),
    "gather": (_gather, "dimension_numbers slice_sizes unique_indices indices_are_sorted mode fill_value"),
    "scatter": (_scatter, _SCATTER_PARAMS),
    "scatter-add": (_scatter, _SCATTER_PARAMS),
    "dynamic_slice": (_dynamic_slice, "slice_sizes"),
    "dynamic_update_slice": (_dynamic_update_slice, ""),
    "scan": (scan, "jaxpr length reverse unroll num_carry num_consts ft_in ft_out"),
    "while": (while_loop, "cond_jaxpr body_jaxpr cond_nconsts body_nconsts"),
    # Branches by platform have an index that is a constant of the platform, so XLA drops the others.
    "cond": (cond, "branches branches_platforms"),
}
"""The rule for each operation, and its known parameters, including those that only some versions of JAX have."""
