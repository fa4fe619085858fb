"""Batching a single-member function along a *trailing* member axis.

`jax.vmap` puts the member first, so the minor axes of a physics step are the three coordinates of a body and
nothing vectorises. Here the function is traced once to a jaxpr, which is then evaluated on arrays whose last axis is
the member. Most operations keep their parameters and simply gain an axis; small contractions and sums are
written out term by term, because XLA would hand them to a library call that costs more than all the rest; whatever has
no rule falls back to `vmap` over the last axis.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

_Output = TypeVar("_Output")

MAX_WRITTEN_OUT = 16
"""Sums of at most so many terms are written out."""


def members_last(fn: Callable[..., _Output]) -> Callable[..., _Output]:
    """Returns `fn` for many members: every array it takes and gives has a trailing member axis.

    The result equals `jax.vmap(fn, in_axes=-1, out_axes=-1)` up to the order of summation in small contractions.

    Args:
        fn: a pure function of pytrees of arrays, written for one member.
    """

    def batched(*args):
        leaves, tree = jax.tree.flatten(args)
        num_members = leaves[0].shape[-1]
        single = [_single_member(leaf) for leaf in leaves]
        out_tree = None

        def flat_fn(*flat_args):
            nonlocal out_tree
            out, out_tree = jax.tree.flatten(fn(*jax.tree.unflatten(tree, flat_args)))
            return out

        closed = jax.make_jaxpr(flat_fn)(*single)
        outs = _Evaluator(num_members).run(closed.jaxpr, closed.consts, [(leaf, True) for leaf in leaves])
        return jax.tree.unflatten(out_tree, [_with_members(x, b, num_members) for x, b in outs])

    return batched


_Value = tuple[Any, bool]
"""An array, and whether it has the member axis."""


def _single_member(x: jax.Array) -> jax.ShapeDtypeStruct:
    if not hasattr(x, "shape") or x.ndim == 0:
        raise ValueError(f"members_last needs a trailing member axis on every argument, got {x!r}")
    return jax.ShapeDtypeStruct(x.shape[:-1], x.dtype)


def _with_members(x: Any, batched: bool, num_members: int) -> jax.Array:
    """Returns `x` with the member axis, repeated along it if it had none."""
    if batched:
        return x
    x = jnp.asarray(x)
    return lax.broadcast_in_dim(x, (*x.shape, num_members), tuple(range(x.ndim)))


def _rank(x: Any, batched: bool) -> int:
    return jnp.ndim(x) - batched


_KEEPS_PARAMS = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clz complex conj
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag
    integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or population_count pow real
    reduce_precision rem round rsqrt shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor concatenate rev cumsum cumprod cummax cummin cumlogsumexp sort argmax argmin
    reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor squeeze select_n stack
    optimization_barrier""".split()
)
"""Operations whose parameters stay true when a trailing axis is added to every operand."""

_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
"""Operations that only call another jaxpr, with the name of the parameter that holds it."""


class _Evaluator:
    """Evaluates jaxprs for `num_members` members at once."""

    def __init__(self, num_members: int):
        self.num_members = num_members

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[_Value]) -> list[_Value]:
        """Returns the outputs of `jaxpr` for `args`."""
        values: dict[Any, _Value] = {}

        def read(atom: Any) -> _Value:
            return (atom.val, False) if isinstance(atom, core.Literal) else values[atom]

        values.update(zip(jaxpr.constvars, [(const, False) for const in consts], strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            outs = self.apply(eqn, [read(atom) for atom in eqn.invars])
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, eqn: Any, args: list[_Value]) -> list[_Value]:
        """Returns the outputs of one operation."""
        name, params = eqn.primitive.name, eqn.params
        if name in _INLINED:
            closed = params[_INLINED[name]]
            return self.run(getattr(closed, "jaxpr", closed), getattr(closed, "consts", ()), args)
        if not any(batched for _, batched in args):
            return self._bind(eqn, [x for x, _ in args], params, batched=False)
        if name in _KEEPS_PARAMS:
            return self._keeps_params(eqn, args)
        rule = _RULES.get(name)
        out = rule(self, eqn, args) if rule else None
        return self._fallback(eqn, args) if out is None else out

    def _bind(self, eqn: Any, args: Sequence[Any], params: dict[str, Any], batched: bool = True) -> list[_Value]:
        out = eqn.primitive.bind(*args, **params)
        return [(x, batched) for x in (out if eqn.primitive.multiple_results else [out])]

    def _fallback(self, eqn: Any, args: list[_Value]) -> list[_Value]:
        """Applies `vmap` over the last axis."""
        in_axes = tuple(-1 if batched else None for _, batched in args)
        bind = functools.partial(eqn.primitive.bind, **eqn.params)
        out = jax.vmap(bind, in_axes=in_axes, out_axes=-1)(*[x for x, _ in args])
        return [(x, True) for x in (out if eqn.primitive.multiple_results else [out])]

    def _all_batched(self, args: Sequence[_Value]) -> list[jax.Array]:
        return [_with_members(x, batched, self.num_members) for x, batched in args]

    def _keeps_params(self, eqn: Any, args: list[_Value]) -> list[_Value]:
        arrays = self._all_batched(args)
        ndim = max(x.ndim for x in arrays)
        # Only the predicate of `select_n` may be a scalar beside arrays: it is repeated along the member's own axes.
        shape = next(x.shape for x in arrays if x.ndim == ndim)
        arrays = [x if x.ndim == ndim else lax.broadcast_in_dim(x, shape, (ndim - 1,)) for x in arrays]
        return self._bind(eqn, arrays, eqn.params)

    # Rules that need other parameters. Each returns None where it does not apply.

    def broadcast_in_dim(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        if len(args) > 1:  # dynamic shapes
            return None
        shape = (*eqn.params["shape"], self.num_members)
        dims = (*eqn.params["broadcast_dimensions"], len(shape) - 1)
        return [(lax.broadcast_in_dim(args[0][0], shape, dims), True)]

    def reshape(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        if eqn.params["dimensions"] is not None or len(args) > 1:
            return None
        return [(lax.reshape(args[0][0], (*eqn.params["new_sizes"], self.num_members)), True)]

    def transpose(self, eqn: Any, args: list[_Value]) -> list[_Value]:
        permutation = eqn.params["permutation"]
        return [(lax.transpose(args[0][0], (*permutation, len(permutation))), True)]

    def slice(self, eqn: Any, args: list[_Value]) -> list[_Value]:
        p = eqn.params
        start, limit = (*p["start_indices"], 0), (*p["limit_indices"], self.num_members)
        strides = None if p["strides"] is None else (*p["strides"], 1)
        return [(lax.slice(args[0][0], start, limit, strides), True)]

    def pad(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        if args[1][1]:
            return None
        return [(lax.pad(args[0][0], args[1][0], (*eqn.params["padding_config"], (0, 0, 0))), True)]

    def clamp(self, eqn: Any, args: list[_Value]) -> list[_Value]:
        del eqn
        low, x, high = args
        rank = _rank(*x)
        arrays = self._all_batched([low, x, high])
        low_x, x_x, high_x = (
            a if a.ndim == rank + 1 else lax.broadcast_in_dim(a, arrays[1].shape, (rank,)) for a in arrays
        )
        return [(lax.clamp(low_x, x_x, high_x), True)]

    def reduce_sum(self, eqn: Any, args: list[_Value]) -> list[_Value]:
        (x, _), axes = args[0], eqn.params["axes"]
        sizes = [x.shape[axis] for axis in axes]
        terms = functools.reduce(lambda a, b: a * b, sizes, 1)
        if not 0 < terms <= MAX_WRITTEN_OUT:
            return self._bind(eqn, [x], eqn.params)
        picks = [_pick(x, dict(zip(axes, index, strict=True))) for index in itertools.product(*map(range, sizes))]
        return [(functools.reduce(lax.add, picks), True)]

    def dot_general(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        """Small contractions as sums of products; the axes of the output are batch, left, right."""
        (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
        lhs, rhs = self._all_batched(args)
        sizes = [lhs.shape[axis] for axis in lhs_contract]
        terms = functools.reduce(lambda a, b: a * b, sizes, 1)
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

    def gather(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        """Constant indices: the member axis is one more window axis."""
        (operand, _), (indices, indices_batched) = args
        if indices_batched:
            return None
        p, ndim = eqn.params, len(eqn.outvars[0].aval.shape)
        numbers = p["dimension_numbers"]
        numbers = (
            numbers._replace(offset_dims=(*numbers.offset_dims, ndim))
            if hasattr(numbers, "_replace")
            else (
                lax.GatherDimensionNumbers(
                    offset_dims=(*numbers.offset_dims, ndim),
                    collapsed_slice_dims=numbers.collapsed_slice_dims,
                    start_index_map=numbers.start_index_map,
                    operand_batching_dims=numbers.operand_batching_dims,
                    start_indices_batching_dims=numbers.start_indices_batching_dims,
                )
            )
        )
        sizes = (*p["slice_sizes"], self.num_members)
        params = {**p, "dimension_numbers": numbers, "slice_sizes": sizes}
        return self._bind(eqn, [operand, indices], params)

    def scatter(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        """Constant indices: the member axis is one more window axis of the updates."""
        if args[1][1]:
            return None
        operand, updates = self._all_batched([args[0], args[2]])
        numbers = eqn.params["dimension_numbers"]
        numbers = lax.ScatterDimensionNumbers(
            update_window_dims=(*numbers.update_window_dims, updates.ndim - 1),
            inserted_window_dims=numbers.inserted_window_dims,
            scatter_dims_to_operand_dims=numbers.scatter_dims_to_operand_dims,
            operand_batching_dims=numbers.operand_batching_dims,
            scatter_indices_batching_dims=numbers.scatter_indices_batching_dims,
        )
        return self._bind(eqn, [operand, args[1][0], updates], {**eqn.params, "dimension_numbers": numbers})

    def dynamic_slice(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        (operand, _), *starts = args
        if any(batched for _, batched in starts):
            return None
        sizes = (*eqn.params["slice_sizes"], self.num_members)
        return [(lax.dynamic_slice(operand, [*(x for x, _ in starts), 0], sizes), True)]

    def dynamic_update_slice(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        del eqn
        operand, update, *starts = args
        if any(batched for _, batched in starts):
            return None
        operand, update = self._all_batched([operand, update])
        return [(lax.dynamic_update_slice(operand, update, [*(x for x, _ in starts), 0]), True)]

    def scan(self, eqn: Any, args: list[_Value]) -> list[_Value]:
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
            outs = self._all_batched(self.run(body.jaxpr, body.consts, inner))
            return outs[:num_carry], outs[num_carry:]

        carry, ys = lax.scan(
            step,
            self._all_batched(carry),
            [x for x, _ in xs],
            length=p["length"],
            reverse=p["reverse"],
            unroll=p["unroll"],
        )
        return [(x, True) for x in (*carry, *ys)]

    def while_loop(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        """Recurses where all members loop equally often, which is known when the condition has no members."""
        p = eqn.params
        cond, body = p["cond_jaxpr"], p["body_jaxpr"]
        num_cond, num_body = p["cond_nconsts"], p["body_nconsts"]
        cond_consts, body_consts = args[:num_cond], args[num_cond : num_cond + num_body]
        init = args[num_cond + num_body :]
        batched = self._carry_with_members(body, body_consts, init)
        cond_uses = [*(b for _, b in cond_consts), *batched]
        if any(uses for uses, var in zip(cond_uses, cond.jaxpr.invars, strict=True) if _is_read(cond.jaxpr, var)):
            return None

        def body_fn(carry):
            outs = self.run(body.jaxpr, body.consts, [*body_consts, *zip(carry, batched, strict=True)])
            return [
                _with_members(x, has, self.num_members) if b else x for (x, has), b in zip(outs, batched, strict=True)
            ]

        def cond_fn(carry):
            return self.run(cond.jaxpr, cond.consts, [*cond_consts, *zip(carry, batched, strict=True)])[0][0]

        init = [_with_members(x, has, self.num_members) if b else x for (x, has), b in zip(init, batched, strict=True)]
        return list(zip(lax.while_loop(cond_fn, body_fn, init), batched, strict=True))

    def _carry_with_members(self, body: Any, consts: list[_Value], init: list[_Value]) -> list[bool]:
        """Returns which parts of a loop's carry have members, once the body has run often enough to tell."""
        batched = [has for _, has in init]
        while True:
            found: list[bool] = []

            def probe(*carry, batched=tuple(batched), found=found):
                outs = self.run(body.jaxpr, body.consts, [*consts, *zip(carry, batched, strict=True)])
                found[:] = [a or b for (_, a), b in zip(outs, batched, strict=True)]
                return [x for x, _ in outs]

            carry = [
                _with_members(x, has, self.num_members) if b else x for (x, has), b in zip(init, batched, strict=True)
            ]
            jax.eval_shape(probe, *carry)
            if found == batched:
                return batched
            batched = list(found)

    def cond(self, eqn: Any, args: list[_Value]) -> list[_Value] | None:
        """Recurses where all members take the same branch."""
        (index, index_batched), *operands = args
        if index_batched:
            return None

        def branch(closed):
            def run(*arrays):
                inner = [(x, b) for x, (_, b) in zip(arrays, operands, strict=True)]
                return self._all_batched(self.run(closed.jaxpr, closed.consts, inner))

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


_RULES: dict[str, Callable[[_Evaluator, Any, list[_Value]], list[_Value] | None]] = {
    "broadcast_in_dim": _Evaluator.broadcast_in_dim,
    "reshape": _Evaluator.reshape,
    "transpose": _Evaluator.transpose,
    "slice": _Evaluator.slice,
    "pad": _Evaluator.pad,
    "clamp": _Evaluator.clamp,
    "reduce_sum": _Evaluator.reduce_sum,
    "dot_general": _Evaluator.dot_general,
    "gather": _Evaluator.gather,
    "scatter": _Evaluator.scatter,
    "scatter-add": _Evaluator.scatter,
    "scatter_add": _Evaluator.scatter,
    "dynamic_slice": _Evaluator.dynamic_slice,
    "dynamic_update_slice": _Evaluator.dynamic_update_slice,
    "scan": _Evaluator.scan,
    "while": _Evaluator.while_loop,
    "cond": _Evaluator.cond,
}
