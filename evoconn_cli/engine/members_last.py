"""Batching a single-member function along a *trailing* member axis.

`jax.vmap` puts the member first, so the minor axes of a physics step are the three coordinates of a body and
nothing vectorises. Here the function is traced once to a jaxpr, which is then evaluated on arrays whose last axis is
the member. Most operations keep their parameters and simply gain an axis; small contractions and sums are
written out term by term, because XLA would hand them to a library call that costs more than all the rest; operations
without a rule fall back to `vmap` over the last axis.

Results that are read more than once get an optimization barrier. Without it XLA looks through slices and
concatenations of them, and computes the same cross products and rotations again in every fusion that reads a part.
"""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from evoconn_cli.engine.batching_rules import RULES
from evoconn_cli.engine.control_flow_rules import Value, with_members
from evoconn_cli.errors import EvoconnError, first_line

_Output = TypeVar("_Output")

TESTED_JAX = "jax>=0.10,<0.13"
"""Versions of JAX whose jaxprs the rules are tested with."""


def members_last(fn: Callable[..., _Output], *, barriers: bool = True) -> Callable[..., _Output]:
    """Returns `fn` for many members: every argument and result has a trailing member axis.

    The result equals `jax.vmap(fn, in_axes=-1, out_axes=-1)` up to the order of summation in small contractions, and
    up to the precision of `batching_rules.atan2`.

    Args:
        fn: Pure function of pytrees of arrays, written for one member.
        barriers: Whether results that are read more than once are computed once. XLA for CPUs would compute them again
            for each reader; for GPUs a barrier only ends a kernel, and launching kernels is what takes time there.
    """

    def batched(*args):
        leaves, tree = jax.tree.flatten(args)
        single = [_single_member(leaf) for leaf in leaves]
        num_members = leaves[0].shape[-1]
        if any(leaf.shape[-1] != num_members for leaf in leaves):
            raise ValueError(f"arguments differ in members: {sorted({leaf.shape[-1] for leaf in leaves})}")
        out_tree = None

        def flat_fn(*flat_args):
            nonlocal out_tree
            out, out_tree = jax.tree.flatten(fn(*jax.tree.unflatten(tree, flat_args)))
            return out

        closed = jax.make_jaxpr(flat_fn)(*single)
        outs = Evaluator(num_members, barriers).run(closed.jaxpr, closed.consts, [(leaf, True) for leaf in leaves])
        return jax.tree.unflatten(out_tree, [with_members(x, b, num_members) for x, b in outs])

    return batched


def _single_member(x: jax.Array) -> jax.ShapeDtypeStruct:
    if not hasattr(x, "shape") or x.ndim == 0:
        raise ValueError(f"members_last needs a trailing member axis on every argument, got {x!r}")
    return jax.ShapeDtypeStruct(x.shape[:-1], x.dtype)


_KEEPS_PARAMS = frozenset(
    """abs acos acosh add add_any and asin asinh atan atanh bessel_i0e bessel_i1e cbrt ceil clz complex conj
    convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag
    integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or population_count pow real
    reduce_precision rem round rsqrt shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor concatenate rev cumsum cumprod cummax cummin cumlogsumexp sort argmax argmin
    reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor split squeeze select_n stack
    unstack log2 one_minus_square optimization_barrier""".split()
)
"""Operations whose parameters stay valid when a trailing axis is added to every operand."""

_INLINED = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Operations that only call another jaxpr, with the name of the parameter that holds it."""

_MOVES_DATA = frozenset(
    """broadcast_in_dim convert_element_type copy dynamic_slice gather reshape rev slice squeeze transpose""".split()
)
"""Operations that are as cheap to repeat as to read again."""


@contextlib.contextmanager
def _naming_the_version(operation: str) -> Iterator[None]:
    """Names the version of JAX in the error if an operation is not in the form that the rules read.

    Raises:
        EvoconnError: The rule for `operation` failed. The traced function is valid, since JAX has traced it.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise EvoconnError(
            f"JAX {jax.__version__} has the operation {operation!r} in a form that this version of evoconn cannot "
            f"batch ({reason}). Install a JAX it was tested with: pip install '{TESTED_JAX}'"
        ) from error


def _check_params(params: dict[str, Any], known: str) -> None:
    """Raises KeyError if a parameter is set that a rule does not know."""
    for name in params.keys() - known.split():
        if params[name] not in (None, False, ()):
            raise KeyError(f"unknown parameter {name}={params[name]!r}")


def _is_var(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)


class Evaluator:
    """Evaluates jaxprs for `num_members` members at once."""

    def __init__(self, num_members: int, barriers: bool):
        self.num_members = num_members
        self._barriers = barriers

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Returns the outputs of `jaxpr` for `args`."""
        values: dict[Any, Value] = {}

        def read(atom: Any) -> Value:
            return values[atom] if _is_var(atom) else (atom.val, False)

        # A constant without elements is created here: as an input of `shard_map` it crashes the compiler of JAX 0.11.2.
        consts = [const if jnp.size(const) else jnp.zeros(jnp.shape(const), jnp.result_type(const)) for const in consts]
        values.update(zip(jaxpr.constvars, [(const, False) for const in consts], strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))
        times_read = collections.Counter(
            atom for atoms in (*(eqn.invars for eqn in jaxpr.eqns), jaxpr.outvars) for atom in atoms if _is_var(atom)
        )
        for eqn in jaxpr.eqns:
            outs = self.apply(eqn, [read(atom) for atom in eqn.invars])
            if self._barriers and eqn.primitive.name not in _MOVES_DATA:
                outs = [
                    (lax.optimization_barrier(x), True) if batched and times_read[var] > 1 else (x, batched)
                    for (x, batched), var in zip(outs, eqn.outvars, strict=True)
                ]
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, eqn: Any, args: list[Value]) -> list[Value]:
        """Returns the outputs of one operation."""
        name, params = eqn.primitive.name, eqn.params
        if name in _INLINED:
            closed = params[_INLINED[name]]
            return self.run(getattr(closed, "jaxpr", closed), getattr(closed, "consts", ()), args)
        if not any(batched for _, batched in args):
            return self.bind(eqn, [x for x, _ in args], params, batched=False)
        with _naming_the_version(name):
            if name in _KEEPS_PARAMS:
                return self._keeps_params(eqn, args)
            out = None
            if name in RULES:
                rule, known = RULES[name]
                _check_params(params, known)
                out = rule(self, eqn, args)
        return self._fallback(eqn, args) if out is None else out

    def bind(self, eqn: Any, args: Sequence[Any], params: dict[str, Any], batched: bool = True) -> list[Value]:
        """Returns the outputs of an operation with other parameters."""
        out = eqn.primitive.bind(*args, **params)
        return [(x, batched) for x in (out if eqn.primitive.multiple_results else [out])]

    def _fallback(self, eqn: Any, args: list[Value]) -> list[Value]:
        """Applies `vmap` over the last axis."""
        in_axes = tuple(-1 if batched else None for _, batched in args)
        bind = functools.partial(eqn.primitive.bind, **eqn.params)
        out = jax.vmap(bind, in_axes=in_axes, out_axes=-1)(*[x for x, _ in args])
        return [(x, True) for x in (out if eqn.primitive.multiple_results else [out])]

    def all_with_members(self, args: Sequence[Value]) -> list[jax.Array]:
        """Returns the arrays, all with the member axis."""
        return [with_members(x, batched, self.num_members) for x, batched in args]

    def _keeps_params(self, eqn: Any, args: list[Value]) -> list[Value]:
        arrays = self.all_with_members(args)
        ndim = max(x.ndim for x in arrays)
        # Only the predicate of `select_n` may be a scalar next to arrays: it is repeated along the member's own axes.
        shape = next(x.shape for x in arrays if x.ndim == ndim)
        arrays = [x if x.ndim == ndim else lax.broadcast_in_dim(x, shape, (ndim - 1,)) for x in arrays]
        return self.bind(eqn, arrays, eqn.params)
