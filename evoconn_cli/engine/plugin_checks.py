"""Checks what plug-ins make against what the engine needs, on abstract arrays: nothing is computed or compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from evoconn_cli.config.plugin_errors import code_of_plugin
from evoconn_cli.config.registry import Entry, find
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.engine.strategies import Strategy
from evoconn_cli.errors import PluginError
from evoconn_cli.networks import Candidates, Network, bits
from evoconn_cli.networks.layers import arrays_by_name
from evoconn_cli.tasks import Task, TaskState

_BLOCK = 3
"""Members of the blocks that are tried: no other size is likely to be the same."""

_Shape = jax.ShapeDtypeStruct

_SIZES = {"capsule": 2, "sphere": 1, "box": 3, "plane": 0}
_ROLES = ("floor", "target", "mount", "left", "body")


def check_plugins(config: RunConfig, *, network: Network, strategy: Strategy) -> None:
    """Checks the task, network and strategy of a run, as far as they come from plug-ins.

    Args:
        config: Configuration of the run.
        network: Its network.
        strategy: Its strategy.

    Raises:
        PluginError: A plug-in is wrong; the message says which function gives what.
    """
    of_task, of_network = find("task", config.task.name), find("network", config.network.name)
    of_strategy = find("strategy", config.algo.name)
    task = of_task.made(Task, config.task)
    if of_task.plugin is not None:
        _check_task(task, _Checks(of_task))
    if of_network.plugin is not None:
        _check_network(network, _Checks(of_network), task)
    if of_strategy.plugin is not None:
        _check_strategy(strategy, _Checks(of_strategy), network, config.algo.num_members)


class _Checks:
    """Checks of what one plug-in makes; each raises a PluginError that names it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.what = entry.described()

    def require(self, holds: bool, problem: str) -> None:
        """Checks that a condition holds."""
        if not holds:
            raise PluginError(f"{self.what}: {problem}")

    def call(self, name: str, fn: Any, *args: Any) -> Any:
        """Returns the shapes of what a function of the plug-in gives for abstract arguments."""
        self.require(callable(fn), f"{name} is no function.")
        with code_of_plugin(f"{self.what}: {name}"):
            return jax.eval_shape(fn, *args)

    def shape(self, name: str, given: Any, shape: tuple[int, ...], dtype: Any, *, hint: str = "") -> None:
        """Checks shape and type of one array."""
        has, wanted = describe(given), describe(_Shape(shape, dtype))
        self.require(has == wanted, f"{name} is {has}, and must be {wanted}{f' ({hint})' if hint else ''}.")

    def same(self, name: str, given: Any, wanted: Any, of: str) -> None:
        """Checks that two pytrees have the same structure, shapes and types."""
        has, should = _by_path(given), _by_path(wanted)
        for path in [*should, *(path for path in has if path not in should)]:
            ours, theirs = (describe(tree[path]) if path in tree else "missing" for tree in (has, should))
            self.require(ours == theirs, f"{name}{path} is {ours}, and {of}{path} is {theirs}. They must be the same.")
        same = jax.tree.structure(given) == jax.tree.structure(wanted)
        self.require(same, f"{name} is a {type(given).__name__} of another structure than {of}.")

    def leads_with_block(self, name: str, tree: Any) -> None:
        """Checks that all arrays have the members first."""
        for path, x in _by_path(tree).items():
            leads = x.ndim > 0 and x.shape[0] == _BLOCK
            self.require(leads, f"{name}{path} is {describe(x)} for a block of {_BLOCK} members, which come first.")


def describe(x: Any) -> str:
    """Returns type and shape of an array, such as `float32 [3, 2]`; the type of anything else."""
    return f"{x.dtype} {list(x.shape)}" if hasattr(x, "shape") and hasattr(x, "dtype") else type(x).__name__


def _by_path(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _keys(*shape: int) -> Any:
    key = jax.eval_shape(lambda: jax.random.key(0, impl=KEY_IMPLEMENTATION))
    return _Shape(shape, key.dtype)


def _check_task(task: Task, checks: _Checks) -> None:
    for name in ("observation_size", "action_size"):
        size = getattr(task, name)
        checks.require(isinstance(size, int) and size > 0, f"{name} is {size!r}, and must be a whole number above 0.")
    is_time = isinstance(task.dt, (int, float)) and task.dt > 0
    checks.require(is_time, f"dt is {task.dt!r}, and must be the seconds of a step, above 0.")
    for name, size in (("observation_names", task.observation_size), ("action_names", task.action_size)):
        given = getattr(task, name)
        checks.require(len(given) in (0, size), f"{name} has {len(given)} names for {size} values.")
    start = checks.call("reset", task.reset, _keys())
    _check_task_state(start, task, checks, "reset(key)")
    after = checks.call("step", task.step, start, _Shape((task.action_size,), jnp.float32))
    _check_task_state(after, task, checks, "step(state, action)")
    checks.same("step(state, action)", after, start, "reset(key)")
    if task.poses is not None:
        poses = checks.call("poses", task.poses, start)
        is_pair = isinstance(poses, tuple) and len(poses) == 2
        checks.require(is_pair, "poses(state) must give centres [bodies, 3] and quaternions [bodies, 4].")
        bodies = poses[0].shape[:1]
        checks.shape("the first of poses(state)", poses[0], (*bodies, 3), jnp.float32, hint="centres of the bodies [m]")
        checks.shape("the second of poses(state)", poses[1], (*bodies, 4), jnp.float32, hint="quaternions w, x, y, z")
        moving = [shape for shape in task.shapes if shape.role in ("body", "left")]
        checks.require(bool(moving), "poses needs shapes that move, of evoconn_cli.Shape, to be drawn.")
        for shape in task.shapes:
            known = shape.kind in _SIZES and len(shape.size) == _SIZES[shape.kind] and shape.role in _ROLES
            checks.require(known, f"{shape} cannot be drawn: see kind, size and role of evoconn_cli.Shape.")
        last = max(shape.body for shape in task.shapes)
        checks.require(last < bodies[0], f"shapes has the body {last}, and poses(state) has {bodies[0]} bodies.")


def _check_task_state(state: Any, task: Task, checks: _Checks, call: str) -> None:
    is_state = isinstance(state, TaskState)
    checks.require(is_state, f"{call} gives {_article(state)}, and must give an evoconn_cli.TaskState.")
    size = task.observation_size
    checks.shape(f"{call}.obs", state.obs, (size,), jnp.float32, hint=f"observation_size is {size}")
    checks.shape(f"{call}.reward", state.reward, (), jnp.float32)
    checks.shape(f"{call}.done", state.done, (), jnp.bool_)
    checks.shape(f"{call}.steps", state.steps, (), jnp.int32, hint="steps of this episode so far")


def _candidates_of(network: Network, num: int) -> Candidates:
    """Returns the candidates of a block that the shapes of a network ask for: packed bits, or weights."""

    def one(shape: Any) -> Any:
        block = _Shape((num, *shape.shape), shape.dtype)
        return jax.eval_shape(lambda x: bits.pack(x, axis=1), block) if shape.dtype == jnp.bool_ else block

    return jax.tree.map(one, network.shapes)


def _check_network(network: Network, checks: _Checks, task: Task) -> None:
    _check_layers(network, checks)
    candidates = _candidates_of(network, _BLOCK)
    if network.initial_weights is not None:
        initial = checks.call("initial_weights", network.initial_weights, _keys())
        checks.same("initial_weights(key)", initial, network.shapes, "shapes")
    params = checks.call("prepare", network.prepare, candidates)
    checks.leads_with_block("prepare(candidates)", params)
    carry = checks.call("initial_carry", network.initial_carry, _keys(_BLOCK))
    checks.leads_with_block("initial_carry(keys)", carry)
    obs, active = _Shape((_BLOCK, task.observation_size), jnp.float32), _Shape((_BLOCK,), jnp.bool_)
    for arguments, call in (((obs,), "step(params, carry, obs)"), ((obs, active), "step(params, carry, obs, active)")):
        _check_step(
            checks.call("step", network.step, params, carry, *arguments), call, carry=carry, checks=checks, task=task
        )
    if network.spikes_per_ms is not None:
        rate = checks.call("spikes_per_ms", network.spikes_per_ms, carry)
        checks.shape("spikes_per_ms(carry)", rate, (_BLOCK,), jnp.float32)
    arrays = checks.call("state_arrays", network.state_arrays, carry)
    checks.leads_with_block("state_arrays(carry)", arrays)


def _check_step(result: Any, call: str, *, carry: Any, checks: _Checks, task: Task) -> None:
    is_pair = isinstance(result, tuple) and len(result) == 2
    checks.require(is_pair, f"{call} gives {_article(result)}, and must give the pair (carry, action).")
    checks.same(f"the carry of {call}", result[0], carry, "initial_carry(keys)")
    size = task.action_size
    checks.shape(
        f"the action of {call}", result[1], (_BLOCK, size), jnp.float32, hint=f"the task's action_size is {size}"
    )


def _check_layers(network: Network, checks: _Checks) -> None:
    """Checks the shapes that a strategy searches, and what says which units they connect."""
    shapes = jax.tree_util.tree_leaves_with_path(network.shapes)
    named = all(all(isinstance(key, jax.tree_util.DictKey) for key in path) for path, _ in shapes)
    checks.require(bool(shapes) and named, "shapes must be a dict of jax.ShapeDtypeStruct by name; it may be nested.")
    wanted = {"connections": jnp.bool_, "weights": jnp.float32}.get(checks.entry.candidates)
    for path, x in shapes:
        checks.require(isinstance(x, _Shape), f"shapes{jax.tree_util.keystr(path)} is no jax.ShapeDtypeStruct.")
        if wanted is not None:
            of = f"candidates={checks.entry.candidates!r}"
            checks.shape(f"shapes{jax.tree_util.keystr(path)}", x, x.shape, wanted, hint=f"it is registered with {of}")
    if checks.entry.candidates == "connections":
        checks.require(network.initial_weights is None, "initial_weights must be None: connections are boolean.")
    elif checks.entry.candidates == "weights":
        checks.require(network.initial_weights is not None, "initial_weights is None: where do the weights begin?")
    by_name = arrays_by_name(network.shapes)
    for name, layer in network.layers.items():
        is_known = name in by_name and len(by_name[name].shape) == 2
        checks.require(is_known, f"layers has {name!r}, and shapes has no array [pre, post] of this name.")
        is_word = layer.pre in ("observation", "spikes", "rate", "hidden") and layer.post in ("neurons", "action")
        checks.require(is_word, f"layers[{name!r}] is {layer}; evoconn_cli.Layer says what pre and post can be.")
    receives = any(layer.post == "neurons" for layer in network.layers.values())
    checks.require(receives, "no layer of `layers` ends at the neurons (post='neurons').")


def _check_strategy(strategy: Strategy, checks: _Checks, network: Network, num_members: int) -> None:
    state = checks.call("init", strategy.init, _keys())
    center = checks.call("center", strategy.center, state)
    checks.same("center(state)", center, _candidates_of(network, 1), "the network's candidates (B = 1)")
    members, weights = _Shape((_BLOCK,), jnp.int32), _Shape((_BLOCK,), jnp.int32)
    candidates = checks.call("ask", strategy.ask, _keys(), state, members)
    checks.same(
        "ask(key, state, members)",
        candidates,
        _candidates_of(network, _BLOCK),
        f"the network's candidates (B = {_BLOCK})",
    )
    sums = checks.call("weighted_sums", strategy.weighted_sums, state, candidates, weights)
    result = checks.call("tell", strategy.tell, state, sums, _Shape((num_members,), jnp.int32))
    is_pair = isinstance(result, tuple) and len(result) == 2
    checks.require(is_pair, f"tell(state, sums, weights) gives {_article(result)}, and must give (state, metrics).")
    checks.same("the state of tell(state, sums, weights)", result[0], state, "init(key)")
    _check_metrics("the metrics of tell(state, sums, weights)", result[1], checks)
    _check_metrics("metrics(state)", checks.call("metrics", strategy.metrics, state), checks)


def _check_metrics(name: str, metrics: Any, checks: _Checks) -> None:
    checks.require(
        isinstance(metrics, Mapping), f"{name} is {_article(metrics)}, and must be a dict of numbers by key."
    )
    for key, x in metrics.items():
        checks.require(x.shape == (), f"{name} has {key!r} as {describe(x)}, and must have single numbers.")


def _article(x: Any) -> str:
    name = type(x).__name__
    return f"an array {describe(x)}" if hasattr(x, "shape") else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
