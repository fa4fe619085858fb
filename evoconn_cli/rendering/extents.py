"""Where the bodies of a recording are: what a camera has to keep in view, and the height of the floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evoconn_cli.rendering.quaternions import rotate
from evoconn_cli.rendering.recording import Motion
from evoconn_cli.rendering.shapes import Figure, Shape


def bounds(figure: Figure, episodes: Sequence[Motion]) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[3]` the lowest and `[3]` the highest coordinates that anything but a floor ever has [m]."""
    extents = [extent(figure, episode, ("body", "left", "mount", "target")) for episode in episodes]
    low, high = (np.concatenate(ends) for ends in zip(*extents, strict=True))
    return low.min(axis=0), high.max(axis=0)


def extent(figure: Figure, episode: Motion, roles: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[T + 1, 3]` the lowest and the highest coordinates of the shapes of these roles, at every state [m]."""
    shapes = [shape for shape in figure.shapes if shape.role in roles]
    paths = [_path_of(shape, episode) for shape in shapes]
    low = np.min([path - shape.reach for shape, path in zip(shapes, paths, strict=True)], axis=0)
    high = np.max([path + shape.reach for shape, path in zip(shapes, paths, strict=True)], axis=0)
    return low, high


def floor_height(figure: Figure, episodes: Sequence[Motion]) -> float | None:
    """Returns where to put a floor under a figure that has none of its own [m]; None where it has one."""
    if figure.bodies_with("floor"):
        return None
    low, high = bounds(figure, episodes)
    return float(low[2] - 0.02 * (high[2] - low[2]))


def _path_of(shape: Shape, episode: Motion) -> np.ndarray:
    """Returns `[T + 1, 3]` the centre of a shape [m]."""
    return episode.positions[:, shape.body] + rotate(shape.position, episode.rotations[:, shape.body])
