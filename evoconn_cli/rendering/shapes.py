"""The bodies of a task as shapes to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.tasks import Shape, Task
from evoconn_cli.tasks.brax_v1 import brax_v1_environment

FOG = (7.0, 26.0)
"""Distances at which the floor begins to fade and is gone, in radii of the sphere that the camera keeps in view."""

SUN = (0.75, -0.3, 1.0)
"""Direction towards the sun."""

_ROUND_LENGTHS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def square_size(radius: float) -> float:
    """Returns the edge of the floor's squares for a body of this radius [m]: a round length that is easy to read."""
    return min(_ROUND_LENGTHS, key=lambda length: abs(length - 0.6 * radius))


@dataclass(frozen=True)
class TaskBodies:
    """The bodies of a task as shapes to draw.

    Attributes:
        name: Name of the task.
        names: Names of the bodies, in the order of Brax's poses.
        shapes: Colliders of the bodies.
        is_planar: Whether everything moves in the ground plane, which is seen from above.
    """

    name: str
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    is_planar: bool

    def with_role(self, *roles: str) -> list[int]:
        """Returns the numbers of the bodies that have a shape with one of the `roles`."""
        return sorted({shape.body for shape in self.shapes if shape.role in roles})


def bodies_of(task: Task) -> TaskBodies:
    """Returns the bodies of a task with poses: as it says itself, or as Brax does.

    Raises:
        EvoconnError: As for `task_bodies`.
    """
    if task.shapes is None:
        return task_bodies(task.name)
    names = tuple(f"body {index}" for index in range(1 + max(shape.body for shape in task.shapes)))
    as_arrays = (
        shape._replace(position=np.asarray(shape.position, float), rotation=np.asarray(shape.rotation, float))
        for shape in task.shapes
    )
    return TaskBodies(task.name, names, tuple(as_arrays), is_planar=False)


def task_bodies(name: str) -> TaskBodies:
    """Returns the bodies of the Brax v1 task `name`.

    Raises:
        EvoconnError: It is no task of Brax v1, or a collider cannot be drawn, which none of Brax's own tasks has.
    """
    try:
        config = brax_v1_environment(name).sys.config
    except KeyError:
        raise EvoconnError(
            f"the task {name!r} has poses, but no shapes to draw: a Task gives them as `shapes`."
        ) from None
    shapes = [
        _shape(index, body, collider)
        for index, body in enumerate(config.bodies)
        for collider in body.colliders
        if not collider.hidden
    ]
    frozen = config.frozen.rotation
    return TaskBodies(
        name=name,
        names=tuple(body.name for body in config.bodies),
        shapes=tuple(shapes),
        is_planar=bool(frozen.x and frozen.y),
    )


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
        raise EvoconnError(f"the collider {kind!r} of the body {body.name!r} cannot be drawn.")
    return Shape(
        body=index,
        kind=kind,
        size=size,
        position=np.asarray(vec_to_arr(collider.position), float),
        rotation=np.asarray(brax_math.euler_to_quat(vec_to_arr(collider.rotation)), float),
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
