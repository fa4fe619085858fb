"""Triangles of the shapes, for renderers that know no shapes of their own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_AROUND = 32
"""Vertices around the axis."""

_CAP = 9
"""Rings of vertices from the equator of a cap to its pole, both included."""


class Mesh(NamedTuple):
    """A closed surface of triangles."""

    vertices: np.ndarray  # [V, 3] [m]
    normals: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F, 3] indices of vertices, counter-clockwise from outside


def capsule_mesh(radius: float, half_length: float = 0.0) -> Mesh:
    """Returns a capsule whose straight part lies along z; a sphere where that has no length."""
    latitude = np.linspace(0, np.pi / 2, _CAP)
    latitude = np.concatenate([-latitude[::-1], latitude])  # the equator twice, one for each end of the straight part
    longitude = np.arange(_AROUND) * 2 * np.pi / _AROUND
    x, y = (np.cos(latitude)[:, None] * f(longitude) for f in (np.cos, np.sin))
    normals = np.stack([x, y, np.broadcast_to(np.sin(latitude)[:, None], x.shape)], axis=-1)
    ends = np.repeat([-half_length, half_length], _CAP)
    vertices = radius * normals + ends[:, None, None] * np.array([0.0, 0.0, 1.0])
    index = np.arange(2 * _CAP * _AROUND).reshape(2 * _CAP, _AROUND)
    here, beside = index, np.roll(index, -1, axis=1)
    lower = np.stack([here[:-1], beside[:-1], beside[1:]], axis=-1)
    upper = np.stack([here[:-1], beside[1:], here[1:]], axis=-1)
    faces = np.concatenate([lower.reshape(-1, 3), upper.reshape(-1, 3)])
    return Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), faces)
