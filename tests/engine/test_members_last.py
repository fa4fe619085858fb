"""The evaluator against `vmap`, one operation at a time."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from evoconn_cli.engine import members_last as module
from evoconn_cli.engine.batching_rules import MAX_WRITTEN_OUT
from evoconn_cli.engine.members_last import members_last
from evoconn_cli.errors import EvoconnError

NUM_MEMBERS = 5
CONSTANT = jnp.asarray(np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32))


def normal(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=(*shape, NUM_MEMBERS))
    return jnp.asarray(values.astype(np.float32))


def integers(low, high, *shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(low, high, (*shape, NUM_MEMBERS)), jnp.int32)


@pytest.fixture
def fallbacks(monkeypatch):
    """Names of the operations that had no rule."""
    names = []
    fallback = module.Evaluator._fallback

    def noting(self, eqn, args):
        names.append(eqn.primitive.name)
        return fallback(self, eqn, args)

    monkeypatch.setattr(module.Evaluator, "_fallback", noting)
    return names


def check(fn, *args, rtol=1e-6, atol=1e-6):
    """Asserts that `fn` gives for all members at once what `vmap` gives; floats up to the order of summation."""
    both = jax.jit(lambda *args: (members_last(fn)(*args), jax.vmap(fn, in_axes=-1, out_axes=-1)(*args)))
    ours, theirs = both(*args)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.shape[-1] == NUM_MEMBERS
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(a, b)


def test_without_barriers_the_results_are_the_same():
    def fn(x):
        twice = jnp.sin(x)
        return lax.fori_loop(0, 3, lambda _, y: y + twice * jnp.cos(y), twice), twice

    x = jnp.ones((3, NUM_MEMBERS)) * jnp.arange(NUM_MEMBERS)
    texts, results = zip(
        *(
            (str(jax.make_jaxpr(program)(x)), jax.jit(program)(x))
            for program in (members_last(fn, barriers=barriers) for barriers in (True, False))
        ),
        strict=True,
    )
    assert ["optimization_barrier" in text for text in texts] == [True, False]
    for with_barriers, without in zip(*results, strict=True):
        np.testing.assert_allclose(with_barriers, without, rtol=1e-6)


def loop(cond, body, init):
    return lax.while_loop(cond, body, init)


def sum_loop(length):
    """A loop whose trip count is the same for all members, while its carry has some without members at first."""

    def fn(x):
        def body(now):
            i, total, scale = now
            return i + 1, total + scale * x, scale * 0.5

        return loop(lambda now: now[0] < length, body, (0, jnp.zeros(3), jnp.ones(())))[1:]

    return fn


@jax.custom_jvp
def custom(x):
    return jnp.sin(x) * 2.0


custom.defjvp(lambda primals, tangents: (custom(*primals), tangents[0]))


@jax.custom_vjp
def custom_backward(x):
    return jnp.cos(x) + CONSTANT


custom_backward.defvjp(lambda x: (custom_backward(x), None), lambda _, g: (g,))

INDICES = np.asarray([2, 0, 2])

# What is computed without `vmap`: each case has a rule for every operation in it.
RULES = {
    "elementwise": (lambda x, y: jnp.exp(x) * y - jnp.sqrt(jnp.abs(y)) / 3.0, normal(4, 3), normal(4, 3, seed=1)),
    "elementwise, scalar constant": (lambda x: jnp.maximum(2.0 * x, 0.5) ** 3, normal(4, 3)),
    "elementwise, array constant": (lambda x: x + CONSTANT * x, normal(4, 3)),
    "elementwise, scalar member": (lambda x, y: x * y, normal(), normal(4, seed=1)),
    "comparison": (lambda x, y: (x > y) & (x < 1.0) | ~(y >= 0), normal(4), normal(4, seed=1)),
    "integers": (lambda x, y: (x << 2) ^ (y & x) + lax.population_count(y), integers(0, 99, 4), integers(0, 99, 4)),
    "convert": (lambda x: x.astype(jnp.int32).astype(jnp.float32), 3 * normal(6)),
    "select, array predicate": (lambda x: jnp.where(x > 0, x, CONSTANT), normal(4, 3)),
    "select, predicate of a member": (lambda x, y: lax.select_n(x > 0, y, 2 * y), normal(), normal(4, 3)),
    "select, constant predicate": (lambda x: jnp.where(CONSTANT > 0, x, -x), normal(4, 3)),
    "select, three cases": (lambda w, x: lax.select_n(w, x, 2 * x, 3 * x), integers(0, 3, 4), normal(4)),
    "broadcast a member's scalar": (lambda x: jnp.broadcast_to(x, (2, 3)), normal()),
    "broadcast, axes permuted in": (lambda x: lax.broadcast_in_dim(x, (3, 2, 4), (1, 2)), normal(2, 4)),
    "broadcast length 1": (lambda x: jnp.broadcast_to(x, (2, 4, 3)), normal(4, 1)),
    "reshape": (lambda x: x.reshape(2, 6), normal(4, 3)),
    "reshape, scalar": (lambda x: x.reshape(()), normal(1, 1)),
    "flatten": (lambda x: x.ravel(), normal(2, 3, 2)),
    "transpose": (lambda x: x.transpose(2, 0, 1), normal(2, 3, 4)),
    "squeeze, expand": (lambda x: jnp.expand_dims(jnp.squeeze(x, 1), 0), normal(3, 1, 2)),
    "concatenate": (lambda x, y: jnp.concatenate([x, y, CONSTANT[:, :1]], axis=1), normal(4, 2), normal(4, 1)),
    "stack": (lambda x: jnp.stack([x, 2 * x], axis=1), normal(4)),
    "slice": (lambda x: x[1:3, :2], normal(4, 3)),
    "slice, strides": (lambda x: lax.slice(x, (1, 0), (8, 3), (3, 2)), normal(8, 3)),
    "pad": (lambda x: lax.pad(x, 0.5, ((1, 2, 1), (-1, 0, 0))), normal(4, 3)),
    "rev": (lambda x: jnp.flip(x, 0), normal(4, 3)),
    "sum of few": (lambda x: jnp.sum(x, axis=(0, 2)), normal(2, 3, 4)),
    "sum of few to a scalar": (lambda x: jnp.sum(x), normal(4, 4)),
    "sum of many": (lambda x: jnp.sum(x, axis=0), normal(MAX_WRITTEN_OUT + 1, 3)),
    "sum of none": (lambda x: jnp.sum(x, axis=0), normal(0, 3)),
    "sum of integers": (lambda x: jnp.sum(x, axis=1), integers(-9, 9, 3, 5)),
    "mean and norm": (lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True) + x.mean(), normal(4, 3)),
    "max, min, prod": (lambda x: (jnp.max(x, 0), jnp.min(x), jnp.prod(x, axis=1)), normal(4, 3)),
    "any, all": (lambda x: (jnp.any(x > 1, axis=0), jnp.all(x > -1)), normal(4, 3)),
    "argmax, argmin": (lambda x: (jnp.argmax(x, axis=0), jnp.argmin(x, axis=1)), normal(4, 3)),
    "cumsum": (lambda x: jnp.cumsum(x, axis=1), normal(4, 3)),
    "cumsum, reverse": (lambda x: lax.cumsum(x, axis=0, reverse=True), normal(4, 3)),
    "sort": (lambda x: jnp.sort(x, axis=0), normal(4, 3)),
    "argsort": (lambda x: jnp.argsort(x, axis=-1), normal(4, 3)),
    "sort with payload": (lambda x, y: lax.sort((x, y), dimension=0, num_keys=1), normal(6), normal(6, seed=1)),
    "dot of vectors": (lambda x, y: x @ y, normal(5), normal(5, seed=1)),
    "matrix times vector": (lambda x, y: x @ y, normal(4, 3), normal(3, seed=1)),
    "matrix times matrix": (lambda x, y: x @ y, normal(2, 3), normal(3, 4, seed=1)),
    "outer product": (lambda x, y: jnp.outer(x, y), normal(2), normal(3, seed=1)),
    "constant matrix": (lambda x: CONSTANT @ x, normal(3)),
    "times a constant matrix": (lambda x: x @ CONSTANT, normal(2, 4)),
    "dot, batch axis": (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), normal(2, 3, 4), normal(2, 4, 2, seed=1)),
    "dot, batch axis inside": (lambda x, y: jnp.einsum("ibj,kjb->bki", x, y), normal(3, 2, 4), normal(2, 4, 2)),
    "dot, two contracted axes": (lambda x, y: jnp.einsum("ijk,kjl->li", x, y), normal(2, 3, 4), normal(4, 3, 2)),
    "dot of integers": (lambda x, y: x @ y, integers(-9, 9, 2, 3), integers(-9, 9, 3)),
    "take constant rows": (lambda x: x[INDICES], normal(4, 3)),
    "take constant elements": (lambda x: x[INDICES, np.asarray([1, 1, 0])], normal(4, 3)),
    "take columns": (lambda x: jnp.take(x, INDICES, axis=1, mode="clip"), normal(4, 3)),
    "set constant rows": (lambda x, y: x.at[np.asarray([2, 0])].set(y), normal(4, 3), normal(2, 3, seed=1)),
    "set to a constant": (lambda x: x.at[1].set(0.0), normal(4, 3)),
    "set in a constant": (lambda x: jnp.zeros((4, 3)).at[np.asarray([3, 1])].set(x), normal(2, 3)),
    "set columns": (lambda x, y: x.at[:, 1].set(y), normal(4, 3), normal(4, seed=1)),
    "add to rows, some twice": (lambda x, y: x.at[INDICES].add(y), normal(4, 3), normal(3, 3, seed=1)),
    "segment sum": (lambda x: jax.ops.segment_sum(x, jnp.asarray([0, 2, 0, 1]), 3), normal(4, 2)),
    "dynamic slice, constant": (lambda x: lax.dynamic_slice(x, (jnp.int32(1), 0), (2, 3)), normal(4, 3)),
    "dynamic update, constant": (
        lambda x, y: lax.dynamic_update_slice(x, y, (jnp.int32(2), 1)),
        normal(4, 3),
        normal(1, 2, seed=1),
    ),
    "dynamic update in a constant": (lambda x: lax.dynamic_update_slice(CONSTANT, x, (2, 0)), normal(1, 3)),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.5), normal(4, 3)),
    "clamp to a member's bounds": (lambda low, x: lax.clamp(low, x, low + 1), normal(), normal(4, 3)),
    "clip to constant arrays": (lambda x: jnp.clip(x, CONSTANT - 0.2, CONSTANT + 0.2), normal(4, 3)),
    "scan": (
        lambda c, xs: lax.scan(lambda c, x: (c * 0.5 + x, c * x), c, xs),
        normal(3),
        normal(6, 3, seed=1),
    ),
    "scan, reverse": (
        lambda c, xs: lax.scan(lambda c, x: (c * 0.5 + x, c - x), c, xs, reverse=True),
        normal(3),
        normal(6, 3, seed=1),
    ),
    "scan, constant start and inputs": (
        lambda x: lax.scan(lambda c, k: (c + k @ jnp.ones(3), c * x), jnp.zeros(()), CONSTANT),
        normal(3),
    ),
    "scan, carry gains members": (lambda x: lax.scan(lambda c, _: (c + x, None), jnp.zeros(3), None, 4), normal(3)),
    "while, equally often": (sum_loop(4), normal(3)),
    "fori, carry gains members late": (
        lambda x: lax.fori_loop(0, 4, lambda i, c: (c[0] + x, c[1] + c[0], c[2] + 1), (0.0, 0.0, 0)),
        normal(),
    ),
    "cond, constant predicate": (
        lambda x: loop(
            lambda now: now[0] < 3,
            lambda now: (now[0] + 1, lax.cond(now[0] % 2 == 0, lambda c: c + x, lambda c: c * 2, now[1])),
            (0, x),
        ),
        normal(3),
    ),
    "custom_jvp": (lambda x: custom(x) + 1, normal(4, 3)),
    "custom_vjp": (lambda x: custom_backward(x) + 1, normal(4, 3)),
    "jit nested": (lambda x: jax.jit(lambda y: jax.jit(jnp.tanh)(y) + CONSTANT)(x), normal(4, 3)),
    "checkpoint": (lambda x: jax.checkpoint(lambda y: jnp.sin(y) * y)(x), normal(4)),
    "relu and softmax": (lambda x: jax.nn.softmax(jax.nn.relu(x)), normal(4)),
    "grad": (jax.grad(lambda x: jnp.sum(jnp.tanh(x @ CONSTANT) ** 2)), normal(4)),
}
"""Cases: a function of one member, and its arguments for all members."""

FALLS_BACK = {
    "contraction of many": (lambda x, y: x @ y, normal(2, 40), normal(40, 3, seed=1), "dot_general"),
    "take a member's rows": (lambda x, i: x[i], normal(4, 3), integers(0, 4, 2), "gather"),
    "take a member's rows of a constant": (lambda i: CONSTANT[i], integers(0, 4, 2), "gather"),
    "set a member's row": (lambda x, i: x.at[i].set(1.0), normal(4, 3), integers(0, 4), "scatter"),
    "add to a member's rows": (lambda x, i: x.at[i].add(x[:2]), normal(4, 3), integers(0, 4, 2), "scatter-add"),
    "scatter-mul": (lambda x, y: x.at[INDICES].mul(y), normal(4, 3), normal(3, 3, seed=1), "scatter-mul"),
    "scatter-min": (lambda x, y: x.at[INDICES].min(y), normal(4, 3), normal(3, 3, seed=1), "scatter-min"),
    "scatter-max": (lambda x, y: x.at[INDICES].max(y), normal(4, 3), normal(3, 3, seed=1), "scatter-max"),
    "slice from a member's start": (
        lambda x, i: lax.dynamic_slice_in_dim(x, i, 2),
        normal(4, 3),
        integers(0, 4),
        "dynamic_slice",
    ),
    "update from a member's start": (
        lambda x, i: lax.dynamic_update_slice_in_dim(x, x[:2], i, 0),
        normal(4, 3),
        integers(0, 4),
        "dynamic_update_slice",
    ),
    "pad with a member's value": (lambda x, y: lax.pad(x, y, ((1, 1, 0),)), normal(4), normal(), "pad"),
    "while, a member's trip count": (
        lambda x, n: loop(lambda now: now[0] < n, lambda now: (now[0] + 1, now[1] * x), (0, x))[1],
        normal(3),
        integers(0, 6),
        "while",
    ),
    "while, until a member's value": (
        lambda x: loop(lambda c: jnp.sum(c) < 9.0, lambda c: c * 1.5, jnp.abs(x) + 0.1),
        normal(3),
        "while",
    ),
    "cond, a member's predicate": (
        lambda x, p: lax.cond(p > 0, lambda x: x * 2, lambda x: x + 1, x),
        normal(3),
        normal(seed=1),
        "cond",
    ),
    "switch, a member's branch": (
        lambda x, i: lax.switch(i, [jnp.sin, jnp.cos, lambda x: x], x),
        normal(3),
        integers(0, 3),
        "cond",
    ),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T + 3 * jnp.eye(3)), normal(3, 3), "cholesky"),
}
"""Cases as above, and the operation that has no rule for them."""


@pytest.mark.parametrize("case", RULES)
def test_rule(case, fallbacks):
    check(*RULES[case])
    assert fallbacks == []


@pytest.mark.parametrize("case", FALLS_BACK)
def test_fallback(case, fallbacks):
    *fn_and_args, operation = FALLS_BACK[case]
    check(*fn_and_args)
    assert operation.replace("-", "_") in {name.replace("-", "_") for name in fallbacks}


def test_trip_counts_of_the_loops_differ():
    _, _, counts, _ = FALLS_BACK["while, a member's trip count"]
    assert len(set(counts.tolist())) > 1, "else the case says nothing"


@pytest.mark.slow
def test_random_numbers_are_those_of_each_member_alone():
    keys = jax.random.key_data(jax.random.split(jax.random.key(3), NUM_MEMBERS))

    def draw(data):
        first, second = jax.random.split(jax.random.wrap_key_data(data))
        return (
            jax.random.uniform(first, (3,)),
            jax.random.normal(second, (2, 2)),
            jax.random.bits(first, (5,)),
            jax.random.randint(second, (), 0, 10),
            jax.random.key_data(jax.random.fold_in(first, 7)),
        )

    together = jax.jit(members_last(draw))(keys.T)
    alone = [jax.jit(draw)(data) for data in keys]
    for member, single in enumerate(alone):
        for a, b in zip(together, single, strict=True):
            np.testing.assert_array_equal(a[..., member], b)


def test_outputs_that_do_not_depend_on_the_argument_are_repeated():
    check(lambda x: {"constant": CONSTANT, "one": jnp.ones(()), "number": 2, "same": x}, normal(3))


def test_constants_of_the_trace_are_computed_once_for_all_members():
    check(lambda x: x[0] + jnp.sum(jnp.arange(3.0) ** 2) + jnp.cumsum(CONSTANT, axis=0), normal(2))


def test_arguments_and_results_are_pytrees():
    tree = {"a": normal(3), "b": (normal(), integers(0, 5, 2))}
    check(lambda t, z: {"sum": t["a"] + t["b"][0] * z, "kept": t["b"][1]}, tree, normal(seed=1))


def test_one_member_is_enough():
    x = jnp.arange(12.0).reshape(4, 3, 1)
    np.testing.assert_array_equal(members_last(lambda y: y.T @ jnp.ones(4))(x)[:, 0], x[..., 0].sum(axis=0))


def test_a_constant_without_elements_is_no_input_of_the_program():
    """As an input of `shard_map` that nothing reads it ends the compiler of JAX 0.11.2, with a segmentation fault."""
    nothing = jnp.zeros((0, 3))
    batched = members_last(lambda x: (x + 1, jnp.concatenate([nothing, x[None]])))
    assert all(jnp.size(const) for const in jax.make_jaxpr(batched)(normal(3)).consts)


def test_a_jax_that_writes_an_operation_otherwise_is_named(monkeypatch):
    """By a parameter that no rule knows, or by one that a rule reads and that is gone."""
    rule, known = module.RULES["slice"]
    strided = members_last(lambda x: lax.slice(x, (0,), (3,), (2,)))
    whole = members_last(lambda x: lax.slice(x, (0,), (3,)))
    version = rf"JAX {re.escape(jax.__version__)} .*'slice'.*%s.*pip install"
    monkeypatch.setitem(module.RULES, "slice", (rule, known.replace("strides", "")))
    with pytest.raises(EvoconnError, match=version % "strides=\\(2,\\)"):
        strided(normal(4))
    whole(normal(4))  # a parameter that is not set means nothing
    monkeypatch.setitem(module.RULES, "slice", (lambda _, eqn, args: eqn.params["steps"], known))
    with pytest.raises(EvoconnError, match=version % "KeyError: 'steps'"):
        whole(normal(4))


@pytest.mark.parametrize("argument", [1.5, jnp.ones(())])
def test_an_argument_without_member_axis_is_an_error(argument):
    with pytest.raises(ValueError, match="trailing member axis"):
        members_last(lambda x, y: x + y)(jnp.ones((2, 3)), argument)


def test_arguments_that_disagree_on_the_number_of_members_are_an_error():
    with pytest.raises((ValueError, TypeError)):
        members_last(lambda x, y: x + y)(jnp.ones((2, 3)), jnp.ones((2, 4)))


@pytest.mark.slow
@settings(max_examples=12)
@given(
    left=st.integers(1, 3),
    batch=st.integers(1, 2),
    contracted=st.sampled_from([1, 3, 16, 17]),
    right=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_contractions_of_any_size(left, batch, contracted, right, seed):
    x, y = normal(batch, left, contracted, seed=seed), normal(contracted, batch, right, seed=seed + 1)
    ours = jax.jit(members_last(lambda x, y: jnp.einsum("blc,cbr->rbl", x, y)))(x, y)
    exact = np.einsum("blcm,cbrm->rblm", np.asarray(x, np.float64), np.asarray(y, np.float64))
    np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5)


@settings(max_examples=12)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), data=st.data())
def test_sums_and_slices_of_any_shape(shape, data):
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    starts = [data.draw(st.integers(0, length - 1)) for length in shape]
    strides = [data.draw(st.integers(1, 3)) for _ in shape]
    x = normal(*shape, seed=len(shape))
    both = members_last(lambda x: (jnp.sum(x, axis=tuple(axes)), lax.slice(x, starts, x.shape, strides)))
    total, part = jax.jit(both)(x)
    plain = np.asarray(x, np.float64)
    np.testing.assert_allclose(total, plain.sum(axis=tuple(axes)), rtol=1e-5, atol=1e-5)
    window = tuple(slice(a, None, s) for a, s in zip(starts, strides, strict=True))
    np.testing.assert_array_equal(part, np.asarray(x)[window])


ATAN2 = jax.jit(members_last(jnp.arctan2))


def test_atan2_is_that_of_float64_in_all_directions_and_sizes():
    rng = np.random.default_rng(0)
    angle = np.concatenate([rng.uniform(-np.pi, np.pi, 100_000), np.arange(-7, 9) * np.pi / 8])
    size = np.exp(rng.uniform(-40, 40, angle.size))
    y, x = ((size * of_angle).astype(np.float32) for of_angle in (np.sin(angle), np.cos(angle)))
    expected = np.arctan2(y.astype(np.float64), x.astype(np.float64))
    np.testing.assert_allclose(ATAN2(y, x), expected, rtol=3e-7)
    assert np.abs(np.arctan2(y, x) - expected).max() > 0, "the comparison is finer than float32"


def test_atan2_on_the_axes_far_out_and_where_it_is_another():
    axes = np.float32([1e-30, 2.0, 3e38, np.inf])
    for y, x, expected in ((0, axes, 0), (0, -axes, np.pi), (axes, 0, np.pi / 2), (-axes, 0, -np.pi / 2)):
        y, x = np.broadcast_arrays(np.float32(y), np.float32(x))
        np.testing.assert_allclose(ATAN2(y, x), np.full(4, expected), rtol=3e-7)
    nan, inf = np.float32(np.nan), np.float32(np.inf)
    y = np.float32([nan, 1, nan, inf, -inf, inf, -0.0, -0.0, 0, 0])
    x = np.float32([1, nan, nan, inf, inf, -inf, 1, -1, -0.0, 0])
    np.testing.assert_allclose(ATAN2(y, x), np.float32([nan] * 6 + [0, np.pi, 0, 0]), rtol=3e-7)


def test_split_has_a_rule(fallbacks):
    check(lambda x: jnp.split(x, 2, axis=-1), normal(3, 4))
    assert not fallbacks
