"""The clock of a video: the moment of an episode that each frame shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from evoconn_cli.rendering.recording import Motion

_HOLD = 0.5
"""Time for which the last state of an episode is shown [s of video], at least two frames."""


class Moment(NamedTuple):
    """A moment of a recording."""

    episode: int  # from 0
    step: int  # last state at or before the moment, from 0
    fraction: float  # share of the way to the next state, [0, 1)


class Clock:
    """Frames of a video and the moments that they show.

    Args:
        episodes: Episodes to show, one after the other.
        dt: Time between two states [s].
        fps: Frames per second.
        speed: Seconds of simulation per second of video.
    """

    def __init__(self, episodes: Sequence[Motion], *, dt: float, fps: Fraction, speed: float = 1.0) -> None:
        self.dt = dt
        self.fps = fps
        self.speed = speed
        self._lengths = [episode.num_steps for episode in episodes]
        hold = max(_HOLD, 2 / float(fps)) * speed / dt
        self._starts = np.cumsum([0.0, *(length + hold for length in self._lengths)])  # in steps

    @property
    def num_frames(self) -> int:
        """Number of frames of all episodes with their held last states."""
        # The tolerance keeps 8.000001 s, which is 8 s in single precision, from having a frame of its own.
        return math.ceil(float(self._starts[-1]) * self.dt * float(self.fps) / self.speed - 1e-3)

    def time_of(self, frame: int) -> float:
        """Returns the simulated time that `frame` shows [s]."""
        return frame * self.speed / float(self.fps)

    def moment(self, time: float) -> Moment:
        """Returns the moment at `time` [s]; after the end, that of the very last state."""
        steps = time / self.dt + 1e-6
        last = len(self._lengths) - 1
        episode = min(int(np.searchsorted(self._starts, steps, side="right")) - 1, last)
        inside = steps - self._starts[episode]
        length = self._lengths[episode]
        if inside >= length:
            return Moment(episode, length, 0.0)
        return Moment(episode, int(inside), float(max(inside % 1.0 - 1e-6, 0.0)))

    def start_of(self, episode: int) -> float:
        """Returns the time at which an episode starts [s]."""
        return float(self._starts[episode]) * self.dt

    def end_of(self, episode: int) -> float:
        """Returns the time at which an episode ends and its last state begins to be held [s]."""
        return self.start_of(episode) + self._lengths[episode] * self.dt


def pose_at(episode: Motion, moment: Moment) -> tuple[np.ndarray, np.ndarray]:
    """Returns the poses of all bodies at `moment`: `[bodies, 3]` [m], `[bodies, 4]` unit quaternions (w, x, y, z)."""
    here, fraction = moment.step, moment.fraction
    after = min(here + 1, episode.num_steps)
    positions = (1 - fraction) * episode.positions[here] + fraction * episode.positions[after]
    return positions, interpolate_rotations(episode.rotations[here], episode.rotations[after], fraction)


def interpolate_rotations(before: np.ndarray, after: np.ndarray, fraction: float) -> np.ndarray:
    """Returns `[..., 4]` unit quaternions a `fraction` of the way between two that are close to each other."""
    # A quaternion and its negative are the same rotation, so the nearer one is taken.
    side = np.where(np.sum(before * after, axis=-1, keepdims=True) < 0, -1.0, 1.0)
    mixed = (1 - fraction) * before + fraction * side * after
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)
