"""Another world for a Brax v1 task: friction, gravity, mass and strength scaled by factors."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

from evoconn_cli.errors import ConfigError


class PhysicsScale(NamedTuple):
    """Factors on what Brax's system configuration holds; 1 leaves it as the policy was trained with."""

    friction: float = 1.0
    gravity: float = 1.0
    mass: float = 1.0
    actuator_strength: float = 1.0


AS_TRAINED = PhysicsScale()


def make_scaled_environment(envs: ModuleType, name: str, scale: PhysicsScale) -> Any:
    """Returns the Brax v1 environment `name` in another physics.

    Args:
        envs: the module `brax.envs`.
        name: of the environment.
        scale: the factors.

    Raises:
        ConfigError: the environment has nothing that a factor other than 1 could change.
    """

    def rescale(config: Any) -> Any:
        # Forces are actuators where there are no others; beside actuators they are the water that a swimmer swims in.
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
            # The coefficient of a contact is the product of those of the two bodies.
            collider.material.friction *= math.sqrt(scale.friction)
        for actuator in driven:
            actuator.strength *= scale.actuator_strength
        return config

    # Brax calls it with a copy of the configuration, before it builds anything: what is built changes the copy.
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
