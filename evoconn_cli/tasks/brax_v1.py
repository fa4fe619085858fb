"""The locomotion and manipulation tasks of Brax v1."""

from __future__ import annotations

import functools
import inspect
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from evoconn_cli.config.schema import TaskConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.tasks import AS_TRAINED, PhysicsScale, Shape, Task, TaskState
from evoconn_cli.tasks.brax_compat import import_brax_envs


def make_scaled_environment(envs: ModuleType, name: str, scale: PhysicsScale) -> Any:
    """Returns the Brax v1 environment `name` with scaled physics.

    Args:
        envs: Module `brax.envs`.
        name: Name of the environment.
        scale: Factors on its physics.

    Raises:
        ConfigError: A factor other than 1 changes nothing in this environment.
    """

    def rescale(config: Any) -> Any:
        # Without actuators, the forces drive the task; beside actuators they are the water around the swimmer.
        driven = config.actuators or config.forces
        colliders = [collider for body in config.bodies for collider in body.colliders]
        has = {
            "friction": any(collider.material.friction for collider in colliders),
            "gravity": any((config.gravity.x, config.gravity.y, config.gravity.z)),
            "mass": any(not body.frozen.all for body in config.bodies),
            "actuator_strength": bool(driven),
        }
        for factor_name, factor in scale._asdict().items():
            if factor != 1.0 and not has[factor_name]:
                raise _nothing_to_scale(name, factor_name)
        _scale_vector(config.gravity, scale.gravity)
        for body in config.bodies:
            body.mass *= scale.mass
            _scale_vector(body.inertia, scale.mass)
        for collider in colliders:
            # The friction of a contact is the product of the coefficients of both bodies.
            collider.material.friction *= math.sqrt(scale.friction)
        for actuator in driven:
            actuator.strength *= scale.actuator_strength
        return config

    # Brax calls `rescale` with a copy of the configuration, before it builds the environment from it.
    env = envs.get_environment(name, post_process_fn=rescale)
    if scale.friction != 1.0 and not env.sys.colliders:
        raise _nothing_to_scale(name, "friction")
    return env


def _nothing_to_scale(task: str, factor_name: str) -> ConfigError:
    missing = factor_name.replace("actuator_strength", "actuators")
    return ConfigError(
        f"the task {task!r} has no {missing}: a factor on its {factor_name.replace('_', ' ')} changes nothing."
    )


def _scale_vector(vector: Any, factor: float) -> None:
    for axis in ("x", "y", "z"):
        setattr(vector, axis, factor * getattr(vector, axis))


_RAW_KEY = "threefry2x32"
"""Generator of the keys that Brax draws from, which are untyped arrays."""


def brax_v1_environment(name: str, physics: PhysicsScale = AS_TRAINED) -> Any:
    """Returns Brax's own environment `name` (`brax.envs.Env`), which is cached and must not be changed.

    Args:
        name: Name of the environment.
        physics: Factors on its physics.

    Raises:
        ConfigError: A factor other than 1 changes nothing in this environment.
    """
    return _environment(name, physics)


# Cached behind the public function, because a cache distinguishes an omitted default from the same value given.
@functools.cache
def _environment(name: str, physics: PhysicsScale) -> Any:
    envs = import_brax_envs()
    with warnings.catch_warnings():
        # Brax warns about the configurations of some of its own environments.
        warnings.simplefilter("ignore")
        return envs.get_environment(name) if physics == AS_TRAINED else make_scaled_environment(envs, name, physics)


def make(config: TaskConfig) -> Task:
    """Returns the task of a run, without an episode limit."""
    return make_brax_v1_task(config.name)


def make_brax_v1_task(name: str, physics: PhysicsScale = AS_TRAINED) -> Task:
    """Returns the Brax v1 environment `name` as a `Task`, without an episode limit.

    Brax's metrics are dropped, because no environment reads them and computing them takes time in every step.

    Args:
        name: Name of the environment.
        physics: Factors on its physics.

    Raises:
        ConfigError: A factor other than 1 changes nothing in this environment.

    Source: Brax 0.1.2, `brax.envs`; the constants of the paper's tasks are Brax's.
    """
    return _task(name, physics)


def _of_raw_keys(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `fn`, called with `_RAW_KEY` as JAX's default generator, which determines the meaning of raw keys."""

    def call(*args: Any) -> Any:
        with jax.default_prng_impl(_RAW_KEY):
            return fn(*args)

    return call


_ALIVE_BONUS = {"inverted_double_pendulum": 10.0, "inverted_pendulum": 1.0}
"""Bonus by task, where Brax has it as a number in its code, not as an attribute."""


# Cached behind the public function, like `_environment`.
@functools.cache
def _task(name: str, physics: PhysicsScale) -> Task:
    envs = import_brax_envs()
    env = brax_v1_environment(name, physics)
    env_reset, env_step = _of_raw_keys(env.reset), _of_raw_keys(env.step)
    reset_shape = jax.eval_shape(env_reset, jax.ShapeDtypeStruct((2,), jnp.uint32))
    no_metrics = {key: jnp.zeros(value.shape, value.dtype) for key, value in reset_shape.metrics.items()}

    def pack(state) -> TaskState:
        return TaskState(
            physics=(state.qp, state.info),
            obs=state.obs,
            reward=jnp.asarray(state.reward, jnp.float32),
            done=jnp.asarray(state.done, jnp.float32) > 0.5,
            steps=jnp.zeros((), jnp.int32),
        )

    def reset(key: jax.Array) -> TaskState:
        return pack(env_reset(jax.random.bits(key, (2,), jnp.uint32)))

    def step(state: TaskState, action: jax.Array) -> TaskState:
        qp, info = state.physics
        before = envs.State(qp, state.obs, state.reward, jnp.zeros_like(state.reward), dict(no_metrics), dict(info))
        after = pack(env_step(before, jnp.clip(action, -1.0, 1.0)))
        return after._replace(steps=state.steps + 1)

    observation_size = reset_shape.obs.shape[-1]
    observations, actions = _labels(name, env)
    return Task(
        name=name,
        observation_size=observation_size,
        action_size=env.action_size,
        dt=float(env.sys.config.dt),
        reset=reset,
        step=step,
        alive_bonus=_ALIVE_BONUS.get(name, getattr(env, "_healthy_reward", 0.0)),
        poses=lambda state: (state.physics[0].pos, state.physics[0].rot),
        shapes=brax_v1_shapes(env.sys.config),
        is_planar=is_planar(env.sys.config),
        rescaled=functools.partial(make_brax_v1_task, name),
        observation_names=observations if len(observations) == observation_size else (),
        action_names=actions if len(actions) == env.action_size else (),
    )


def brax_v1_shapes(config: Any) -> tuple[Shape, ...]:
    """Returns the colliders of Brax's bodies that are not hidden, in the order of the bodies.

    Raises:
        ValueError: A collider cannot be drawn, which none of Brax's own tasks has.
    """
    return tuple(
        _shape(index, body, collider)
        for index, body in enumerate(config.bodies)
        for collider in body.colliders
        if not collider.hidden
    )


def is_planar(config: Any) -> bool:
    """Returns whether Brax lets bodies turn about the vertical alone."""
    return bool(config.frozen.rotation.x and config.frozen.rotation.y)


def _shape(index: int, body: Any, collider: Any) -> Shape:
    from brax import math as brax_math
    from brax.physics.base import vec_to_arr

    kind = collider.WhichOneof("type")
    if kind == "capsule":
        radius = collider.capsule.radius
        half_length = collider.capsule.length / 2 - radius
        kind, size = ("capsule", (radius, half_length)) if half_length > 1e-6 else ("sphere", (radius,))
    elif kind == "sphere":
        size = (collider.sphere.radius,)
    elif kind == "box":
        size = tuple(vec_to_arr(collider.box.halfsize).tolist())
    elif kind == "plane":
        size = ()
    else:
        raise ValueError(f"the collider {kind!r} of the body {body.name!r} cannot be drawn")
    return Shape(
        body=index,
        kind=kind,
        size=size,
        position=tuple(vec_to_arr(collider.position).tolist()),
        rotation=tuple(brax_math.euler_to_quat(vec_to_arr(collider.rotation)).tolist()),
        role=_role(body, kind),
    )


def _role(body: Any, kind: str) -> str:
    name = body.name.lower()
    if kind == "plane":
        return "floor"
    if name in ("target", "goal"):
        return "target"
    if body.frozen.all:
        return "mount"
    return "left" if "left" in name else "body"


_CORRECTED = {
    "halfcheetah": {0: "rootz"},
    "reacher": {
        **dict(enumerate(("cos(joint0)", "cos(joint1)", "sin(joint0)", "sin(joint1)"))),
        **{8 + index: f"fingertip - target {axis}" for index, axis in enumerate("xyz")},
    },
}
"""Names of observations that are wrong or missing in Brax's tables, by task and number."""


def _labels(task: str, env: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of observations and actions from Brax's documentation.

    Names of velocities end with `vel.`, and those of joints with several axes with the axis.
    """
    tables: dict[str, list[list[str]]] = {"Observation": [], "Action": []}
    table: list[list[str]] = []
    for line in (inspect.getdoc(type(env)) or "").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Num":
            table = tables.get(cells[1], [])
        elif len(cells) == 7 and cells[0].isdecimal():
            table.append(cells)
    observations, actions = map(_names, tables.values())
    for number, name in _CORRECTED.get(task, {}).items():
        observations[number] = name
    return tuple(observations), tuple(actions)


def _names(rows: list[list[str]]) -> list[str]:
    """Returns the names in rows of number, description, two bounds, configured name, joint and unit."""
    times = Counter((name, unit) for *_, name, _, unit in rows)
    names = []
    for _, words, _, _, name, _, unit in rows:
        axis = re.search(r"\b[wxyz](?=-)", words) if times[name, unit] > 1 else None
        short = name.split(" (")[0] + (f" {axis[0]}" if axis else "")
        names.append(f"{short} vel." if "velocity" in unit else short)
    numbers = {name: iter(range(1, count + 1)) for name, count in Counter(names).items() if count > 1}
    return [f"{name} {next(numbers[name])}" if name in numbers else name for name in names]
