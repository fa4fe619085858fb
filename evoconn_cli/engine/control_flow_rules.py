"""Rules of `members_last` for loops and branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from evoconn_cli.engine.members_last import Evaluator

Value: TypeAlias = tuple[Any, bool]
"""An array, and whether it has the member axis."""


def with_members(x: Any, batched: bool, num_members: int) -> jax.Array:
    """Returns `x` with the member axis, repeated along it if it had none."""
    if batched:
        return x
    x = jnp.asarray(x)
    return lax.broadcast_in_dim(x, (*x.shape, num_members), tuple(range(x.ndim)))


Rule: TypeAlias = Callable[["Evaluator", Any, list[Value]], "list[Value] | None"]
"""Takes the evaluation, an operation and its operands; returns the outputs, or None if it does not apply."""


def scan(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value]:
    """Recurses; the carry and the outputs always have members.

    Operands are constants, carry and sequences. Sequences have one more axis outside the body than in it, which holds
    in all versions of JAX, unlike the parameters that count them.
    """
    p = eqn.params
    body = p["jaxpr"]
    num_xs = _num_sequences(eqn.invars, body.jaxpr.invars)
    num_carry = len(eqn.outvars) - _num_sequences(eqn.outvars, body.jaxpr.outvars)
    num_consts = len(args) - num_xs - num_carry
    consts, carry, xs = args[:num_consts], args[num_consts : len(args) - num_xs], args[len(args) - num_xs :]

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


def while_loop(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Recurses if all members loop equally often, which is known if the condition has no member axis."""
    p = eqn.params
    test, body = p["cond_jaxpr"], p["body_jaxpr"]
    num_carry = len(eqn.outvars)
    num_cond = len(test.jaxpr.invars) - num_carry
    cond_consts, body_consts, init = args[:num_cond], args[num_cond:-num_carry], args[-num_carry:]
    batched = _carry_with_members(batch, body, body_consts, init)
    cond_uses = [*(b for _, b in cond_consts), *batched]
    if any(uses for uses, var in zip(cond_uses, test.jaxpr.invars, strict=True) if _is_read(test.jaxpr, var)):
        return None

    def body_fn(carry):
        outs = batch.run(body.jaxpr, body.consts, [*body_consts, *zip(carry, batched, strict=True)])
        return _with_members_where(batched, outs, batch.num_members)

    def cond_fn(carry):
        return batch.run(test.jaxpr, test.consts, [*cond_consts, *zip(carry, batched, strict=True)])[0][0]

    start = _with_members_where(batched, init, batch.num_members)
    return list(zip(lax.while_loop(cond_fn, body_fn, start), batched, strict=True))


def _with_members_where(batched: Sequence[bool], values: Sequence[Value], num_members: int) -> list[Any]:
    """Returns the arrays, with the member axis where `batched` says so."""
    pairs = zip(values, batched, strict=True)
    return [with_members(x, has, num_members) if wanted else x for (x, has), wanted in pairs]


def _carry_with_members(batch: Evaluator, body: Any, consts: list[Value], init: list[Value]) -> list[bool]:
    """Returns which parts of a loop's carry have the member axis, by tracing the body until that no longer changes."""
    batched = [has for _, has in init]
    while True:
        found: list[bool] = []

        def probe(*carry, batched=tuple(batched), found=found):
            outs = batch.run(body.jaxpr, body.consts, [*consts, *zip(carry, batched, strict=True)])
            found[:] = [a or b for (_, a), b in zip(outs, batched, strict=True)]
            return [x for x, _ in outs]

        jax.eval_shape(probe, *_with_members_where(batched, init, batch.num_members))
        if found == batched:
            return batched
        batched = list(found)


def cond(batch: Evaluator, eqn: Any, args: list[Value]) -> list[Value] | None:
    """Recurses if all members take the same branch."""
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


def _num_sequences(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    return sum(x.aval.ndim != y.aval.ndim for x, y in zip(outside, inside, strict=True))


def _is_read(jaxpr: Any, var: Any) -> bool:
    return any(var is atom for eqn in jaxpr.eqns for atom in eqn.invars) or any(var is v for v in jaxpr.outvars)
