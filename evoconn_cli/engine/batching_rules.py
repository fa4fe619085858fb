"""How single operations gain a trailing member axis: the rules of `members_last` that change parameters.

A rule takes the operation and its operands and returns the outputs, or None where it does not apply.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MAX_WRITTEN_OUT = 16
"""Sums of at most so many terms are written out."""

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


def _broadcast_in_dim(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    if len(args) > 1:  # dynamic shapes
        return None
    shape = (*eqn.params["shape"], batch.num_members)
    dims = (*eqn.params["broadcast_dimensions"], len(shape) - 1)
    return [(lax.broadcast_in_dim(args[0][0], shape, dims), True)]


def _reshape(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    if eqn.params["dimensions"] is not None or len(args) > 1:
        return None
    return [(lax.reshape(args[0][0], (*eqn.params["new_sizes"], batch.num_members)), True)]


def _transpose(batch: Batch, eqn: Any, args: list[Value]) -> list[Value]:
    permutation = eqn.params["permutation"]
    return [(lax.transpose(args[0][0], (*permutation, len(permutation))), True)]


def _slice(batch: Batch, eqn: Any, args: list[Value]) -> list[Value]:
    p = eqn.params
    start, limit = (*p["start_indices"], 0), (*p["limit_indices"], batch.num_members)
    strides = None if p["strides"] is None else (*p["strides"], 1)
    return [(lax.slice(args[0][0], start, limit, strides), True)]


def _pad(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    if args[1][1]:
        return None
    return [(lax.pad(args[0][0], args[1][0], (*eqn.params["padding_config"], (0, 0, 0))), True)]


def _clamp(batch: Batch, eqn: Any, args: list[Value]) -> list[Value]:
    del eqn
    low, x, high = args
    rank = jnp.ndim(x[0]) - x[1]
    arrays = batch.all_with_members([low, x, high])
    low_x, x_x, high_x = (
        a if a.ndim == rank + 1 else lax.broadcast_in_dim(a, arrays[1].shape, (rank,)) for a in arrays
    )
    return [(lax.clamp(low_x, x_x, high_x), True)]


def _reduce_sum(batch: Batch, eqn: Any, args: list[Value]) -> list[Value]:
    (x, _), axes = args[0], eqn.params["axes"]
    sizes = [x.shape[axis] for axis in axes]
    terms = math.prod(sizes)
    if not 0 < terms <= MAX_WRITTEN_OUT:
        return batch.bind(eqn, [x], eqn.params)
    picks = [_pick(x, dict(zip(axes, index, strict=True))) for index in itertools.product(*map(range, sizes))]
    return [(functools.reduce(lax.add, picks), True)]


def _dot_general(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Small contractions as sums of products; the axes of the output are batch, left, right."""
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


_ATAN_NUMERATOR = (1.0, 1.13175269, 0.28787937, 0.0089984)
_ATAN_DENOMINATOR = (1.0, 1.46508593, 0.57624362, 0.05089879)
"""Coefficients in rising powers of `t²`: `atan(t) / t` for t in [0, 1] is their ratio, to 1e-9 (least squares)."""


def _atan2(batch: Batch, eqn: Any, args: list[Value]) -> list[Value]:
    """In float32 from operations that vectorise, to 3e-7 of the value: XLA would call the C library for each member."""
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


def _gather(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Constant indices: the member axis is one more window axis."""
    (operand, _), (indices, indices_batched) = args
    if indices_batched:
        return None
    p, ndim = eqn.params, len(eqn.outvars[0].aval.shape)
    numbers = p["dimension_numbers"]
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(*numbers.offset_dims, ndim),
        collapsed_slice_dims=numbers.collapsed_slice_dims,
        start_index_map=numbers.start_index_map,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.start_indices_batching_dims,
    )
    sizes = (*p["slice_sizes"], batch.num_members)
    params = {**p, "dimension_numbers": numbers, "slice_sizes": sizes}
    return batch.bind(eqn, [operand, indices], params)


def _scatter(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Constant indices: the member axis is one more window axis of the updates."""
    if args[1][1]:
        return None
    operand, updates = batch.all_with_members([args[0], args[2]])
    numbers = eqn.params["dimension_numbers"]
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(*numbers.update_window_dims, updates.ndim - 1),
        inserted_window_dims=numbers.inserted_window_dims,
        scatter_dims_to_operand_dims=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        scatter_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    return batch.bind(eqn, [operand, args[1][0], updates], {**eqn.params, "dimension_numbers": numbers})


def _dynamic_slice(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    (operand, _), *starts = args
    if any(batched for _, batched in starts):
        return None
    sizes = (*eqn.params["slice_sizes"], batch.num_members)
    return [(lax.dynamic_slice(operand, [*(x for x, _ in starts), 0], sizes), True)]


def _dynamic_update_slice(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    del eqn
    operand, update, *starts = args
    if any(batched for _, batched in starts):
        return None
    operand, update = batch.all_with_members([operand, update])
    return [(lax.dynamic_update_slice(operand, update, [*(x for x, _ in starts), 0]), True)]


def _scan(batch: Batch, eqn: Any, args: list[Value]) -> list[Value]:
    """Recurses; the carry and the outputs always have members."""
    p = eqn.params
    num_consts, num_carry = p["num_consts"], p["num_carry"]
    consts, carry, xs = (
        args[:num_consts],
        args[num_consts : num_consts + num_carry],
        args[num_consts + num_carry :],
    )
    body = p["jaxpr"]

    def step(carry, x):
        inner = [*consts, *((c, True) for c in carry), *zip(x, (b for _, b in xs), strict=True)]
        outs = batch.all_with_members(batch.run(body.jaxpr, body.consts, inner))
        return outs[:num_carry], outs[num_carry:]

    carry, ys = lax.scan(
        step,
        batch.all_with_members(carry),
        [x for x, _ in xs],
        length=p["length"],
        reverse=p["reverse"],
        unroll=p["unroll"],
    )
    return [(x, True) for x in (*carry, *ys)]


def _while_loop(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Recurses where all members loop equally often, which is known when the condition has no members."""
    p = eqn.params
    cond, body = p["cond_jaxpr"], p["body_jaxpr"]
    num_cond, num_body = p["cond_nconsts"], p["body_nconsts"]
    cond_consts, body_consts = args[:num_cond], args[num_cond : num_cond + num_body]
    init = args[num_cond + num_body :]
    batched = _carry_with_members(batch, body, body_consts, init)
    cond_uses = [*(b for _, b in cond_consts), *batched]
    if any(uses for uses, var in zip(cond_uses, cond.jaxpr.invars, strict=True) if _is_read(cond.jaxpr, var)):
        return None

    def body_fn(carry):
        outs = batch.run(body.jaxpr, body.consts, [*body_consts, *zip(carry, batched, strict=True)])
        return [with_members(x, has, batch.num_members) if b else x for (x, has), b in zip(outs, batched, strict=True)]

    def cond_fn(carry):
        return batch.run(cond.jaxpr, cond.consts, [*cond_consts, *zip(carry, batched, strict=True)])[0][0]

    init = [with_members(x, has, batch.num_members) if b else x for (x, has), b in zip(init, batched, strict=True)]
    return list(zip(lax.while_loop(cond_fn, body_fn, init), batched, strict=True))


def _carry_with_members(batch: Batch, body: Any, consts: list[Value], init: list[Value]) -> list[bool]:
    """Returns which parts of a loop's carry have members, once the body has run often enough to tell."""
    batched = [has for _, has in init]
    while True:
        found: list[bool] = []

        def probe(*carry, batched=tuple(batched), found=found):
            outs = batch.run(body.jaxpr, body.consts, [*consts, *zip(carry, batched, strict=True)])
            found[:] = [a or b for (_, a), b in zip(outs, batched, strict=True)]
            return [x for x, _ in outs]

        carry = [with_members(x, has, batch.num_members) if b else x for (x, has), b in zip(init, batched, strict=True)]
        jax.eval_shape(probe, *carry)
        if found == batched:
            return batched
        batched = list(found)


def _cond(batch: Batch, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Recurses where all members take the same branch."""
    (index, index_batched), *operands = args
    if index_batched:
        return None

    def branch(closed):
        def run(*arrays):
            inner = [(x, b) for x, (_, b) in zip(arrays, operands, strict=True)]
            return batch.all_with_members(batch.run(closed.jaxpr, closed.consts, inner))

        return run

    branches = [branch(closed) for closed in eqn.params["branches"]]
    return [(x, True) for x in lax.switch(index, branches, *[x for x, _ in operands])]


def _is_read(jaxpr: Any, var: Any) -> bool:
    return any(var is atom for eqn in jaxpr.eqns for atom in eqn.invars) or any(var is v for v in jaxpr.outvars)


def _pick(x: jax.Array, index: dict[int, int], front: Sequence[int] = ()) -> jax.Array:
    """Returns `x` at `index` (axis -> position) with those axes gone and the axes `front` moved to the front."""
    start = [index.get(axis, 0) for axis in range(x.ndim)]
    limit = [index[axis] + 1 if axis in index else x.shape[axis] for axis in range(x.ndim)]
    x = lax.slice(x, start, limit)
    rest = [axis for axis in range(x.ndim) if axis not in index and axis not in front]
    x = lax.transpose(x, (*front, *rest, *index))
    return lax.squeeze(x, range(x.ndim - len(index), x.ndim))


RULES: dict[str, Callable[[Batch, Any, list[Value]], list[Value] | None]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "clamp": _clamp,
    "reduce_sum": _reduce_sum,
    "dot_general": _dot_general,
    "atan2": _atan2,
    "gather": _gather,
    "scatter": _scatter,
    "scatter-add": _scatter,
    "scatter_add": _scatter,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "scan": _scan,
    "while": _while_loop,
    "cond": _cond,
}
