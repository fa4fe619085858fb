"""The path of the camera, and the space that bodies take up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evoconn_cli.rendering.clock import Moment
from evoconn_cli.rendering.recording import Motion
from evoconn_cli.rendering.shapes import TaskBodies

FIELD_OF_VIEW = 30.0
"""Vertical angle of view [degrees]."""

_SMOOTHING = 0.35
"""Standard deviation of the filter along the path [s]."""

_ANGLES = {"track": (112.0, -14.0), "side": (90.0, -7.0), "front": (180.0, -10.0)}
"""Azimuth and elevation per camera [degrees]."""

_ANGLES_PLANAR = {"track": (100.0, -55.0), "side": (90.0, -30.0), "front": (180.0, -30.0)}
"""The same for figures that move in the ground plane and are seen from above."""


class View(NamedTuple):
    """A camera. At azimuth 90 it looks along y, at elevation -90 straight down."""

    target: np.ndarray  # [3] point that it looks at [m]
    distance: float  # from the target [m]
    azimuth: float  # [degrees]
    elevation: float  # [degrees]

    @property
    def forward(self) -> np.ndarray:
        """`[3]` unit vector of the viewing direction."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        level = math.cos(elevation)
        return np.array([level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation)])

    @property
    def eye(self) -> np.ndarray:
        """`[3]` position of the camera [m]."""
        return self.target - self.distance * self.forward


class CameraPath:
    """The camera at every moment of a recording.

    Args:
        bodies: Bodies to draw.
        episodes: Motion of the bodies.
        dt: Time between two states [s].
        camera: `track`, `side` or `front`.
        aspect: Width of the picture divided by its height.

    Attributes:
        targets: `[T + 1, 3]` point that the camera looks at, at every state of each episode [m].
        radius: Radius of the sphere that the camera keeps in view [m].
    """

    def __init__(
        self, bodies: TaskBodies, episodes: Sequence[Motion], *, dt: float, camera: str, aspect: float
    ) -> None:
        self._azimuth, self._elevation = angles_of(bodies)[camera]
        extents = [extent(bodies, episode, ("body", "left")) for episode in episodes]
        centers = [(low + high) / 2 for low, high in extents]
        paths = [_smooth(center, _SMOOTHING / dt) for center in centers]
        # Rare poses, such as of a fall, may leave the picture.
        reach = [np.maximum(high - path, path - low) for path, (low, high) in zip(paths, extents, strict=True)]
        radius = float(np.percentile(np.linalg.norm(np.concatenate(reach), axis=-1), 95))
        if np.ptp(np.concatenate(centers)[:, :2], axis=0).max() < radius:
            low, high = bounds(bodies, episodes)
            paths = [np.broadcast_to((low + high) / 2, path.shape) for path in paths]
            radius = float(np.linalg.norm(high - low)) / 2
        self.targets = paths
        self.radius = radius
        narrow = min(1.0, aspect) * math.tan(math.radians(FIELD_OF_VIEW / 2))
        self._distance = self.radius / math.sin(math.atan(narrow))

    def view(self, moment: Moment) -> View:
        """Returns the camera at `moment`."""
        path = self.targets[moment.episode]
        here, after = path[moment.step], path[min(moment.step + 1, len(path) - 1)]
        target = (1 - moment.fraction) * here + moment.fraction * after
        return View(target, self._distance, self._azimuth, self._elevation)


def angles_of(bodies: TaskBodies) -> dict[str, tuple[float, float]]:
    """Returns azimuth and elevation per camera [degrees]."""
    return _ANGLES_PLANAR if bodies.is_planar else _ANGLES


def bounds(bodies: TaskBodies, episodes: Sequence[Motion]) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[3]` the lowest and `[3]` the highest coordinates that anything but a floor ever has [m]."""
    extents = [extent(bodies, episode, ("body", "left", "mount", "target")) for episode in episodes]
    low, high = (np.concatenate(ends) for ends in zip(*extents, strict=True))
    return low.min(axis=0), high.max(axis=0)


def extent(bodies: TaskBodies, episode: Motion, roles: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[T + 1, 3]` the lowest and the highest coordinates of the shapes with these roles at every state [m]."""
    shapes = [shape for shape in bodies.shapes if shape.role in roles]
    paths = [
        episode.positions[:, shape.body] + rotate(np.array(shape.position), episode.rotations[:, shape.body])
        for shape in shapes
    ]
    low = np.min([path - shape.reach for shape, path in zip(shapes, paths, strict=True)], axis=0)
    high = np.max([path + shape.reach for shape, path in zip(shapes, paths, strict=True)], axis=0)
    return low, high


def floor_height(bodies: TaskBodies, episodes: Sequence[Motion]) -> float | None:
    """Returns the height of the floor to add [m]; None if the task has a floor."""
    if bodies.with_role("floor"):
        return None
    low, high = bounds(bodies, episodes)
    return float(low[2] - 0.02 * (high[2] - low[2]))


def rotate(vector: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Returns `[..., 3]` a vector `[..., 3]` rotated by unit quaternions `[..., 4]`."""
    w, axis = rotation[..., :1], rotation[..., 1:]
    return vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)


def _smooth(path: np.ndarray, sigma: float) -> np.ndarray:
    """Returns `[T, 3]` a path without its quick movements; one of constant speed is unchanged, its ends included.

    Args:
        path: `[T, 3]` path to smooth.
        sigma: Standard deviation of the Gaussian filter, in states.
    """
    reach = max(1, min(round(3 * sigma), len(path) - 1))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    longer = np.pad(path, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    return np.stack([np.convolve(x, weights / weights.sum(), mode="valid") for x in longer.T], axis=-1)
