"""Rotations as quaternions (w, x, y, z), as Brax and MuJoCo have them."""

from __future__ import annotations

import numpy as np


def rotate(vector: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Returns `[..., 3]`, a vector `[..., 3]` turned by unit quaternions `[..., 4]`."""
    w, axis = rotation[..., :1], rotation[..., 1:]
    return vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)


def multiply(last: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Returns `[4]` the rotation `first`, then `last`."""
    (w, v), (w_first, v_first) = (last[0], last[1:]), (first[0], first[1:])
    return np.concatenate([[w * w_first - v @ v_first], w * v_first + w_first * v + np.cross(v, v_first)])


def between(before: np.ndarray, after: np.ndarray, fraction: float) -> np.ndarray:
    """Returns `[..., 4]` unit quaternions a `fraction` of the way between two that are not far apart."""
    # A quaternion and its negative are the same rotation: the nearer one is taken.
    side = np.where(np.sum(before * after, axis=-1, keepdims=True) < 0, -1.0, 1.0)
    mixed = (1 - fraction) * before + fraction * side * after
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)
