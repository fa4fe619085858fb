"""The bodies of a task as shapes to draw, on a floor in the sun."""

from __future__ import annotations

from typing import NamedTuple

from evoconn_cli.tasks import Shape, Task

FOG = (7.0, 26.0)
"""Distances at which the floor begins to fade and is gone, in radii of the sphere that the camera keeps in view."""

SUN = (0.75, -0.3, 1.0)
"""Direction towards the sun."""

_ROUND_LENGTHS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def square_size(radius: float) -> float:
    """Returns the edge of the floor's squares for a body of this radius [m]: a round length that is easy to read."""
    return min(_ROUND_LENGTHS, key=lambda length: abs(length - 0.6 * radius))


class TaskBodies(NamedTuple):
    """The bodies of a task as shapes to draw."""

    name: str  # of the task
    num: int  # bodies, each with a pose
    shapes: tuple[Shape, ...]
    is_planar: bool  # whether everything moves in the ground plane, which is seen from above

    def with_role(self, *roles: str) -> list[int]:
        """Returns the numbers of the bodies that have a shape with one of the `roles`."""
        return sorted({shape.body for shape in self.shapes if shape.role in roles})


def bodies_of(task: Task, num: int) -> TaskBodies:
    """Returns the bodies of a task with poses of `num` bodies."""
    return TaskBodies(task.name, num, tuple(task.shapes), task.is_planar)
