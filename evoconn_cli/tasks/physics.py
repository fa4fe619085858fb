"""Another world for a Brax v1 task: friction, gravity, mass and strength scaled by factors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from evoconn_cli.errors import ConfigError


class PhysicsScale(NamedTuple):
    """Factors on what Brax's system configuration holds; 1 leaves it as the policy was trained with."""

    friction: float = 1.0
    gravity: float = 1.0
    mass: float = 1.0
    actuator_strength: float = 1.0


AS_TRAINED = PhysicsScale()


def scaled_system(sys: Any, scale: PhysicsScale, task: str) -> Any:
    """Returns a `brax.System` like `sys`, scaled.

    Args:
        sys: of an environment.
        scale: the factors.
        task: its name, for messages.

    Raises:
        ConfigError: the task has nothing that a factor other than 1 could change.
    """
    config = type(sys.config)()
    config.CopyFrom(sys.config)
    gravity = config.gravity
    # Forces are actuators where there are no others; beside actuators they are the water that a swimmer swims in.
    driven = config.actuators or config.forces
    has = {
        "friction": bool(sys.colliders) and any(c.material.friction for body in config.bodies for c in body.colliders),
        "gravity": any((gravity.x, gravity.y, gravity.z)),
        "mass": any(not body.frozen.all for body in config.bodies),
        "actuator_strength": bool(driven),
    }
    for name, factor in scale._asdict().items():
        if factor != 1.0 and not has[name]:
            missing = name.replace("actuator_strength", "actuators")
            raise ConfigError(
                f"the task {task!r} has no {missing}: --perturb {name.replace('_', '-')} changes nothing."
            )
    # The coefficient of a contact is the product of those of the two bodies.
    of_body = math.sqrt(scale.friction)
    config.friction *= of_body
    for axis in ("x", "y", "z"):
        setattr(gravity, axis, scale.gravity * getattr(gravity, axis))
    for body in config.bodies:
        body.mass *= scale.mass
        for axis in ("x", "y", "z"):
            setattr(body.inertia, axis, scale.mass * getattr(body.inertia, axis))
        for collider in body.colliders:
            collider.material.friction *= of_body
    for actuator in driven:
        actuator.strength *= scale.actuator_strength
    return type(sys)(config)
