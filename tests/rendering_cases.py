"""Recordings and files that several tests of rendering read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evoconn_cli.rendering.recording import Episode, Neurons
from evoconn_cli.rendering.shapes import Figure


def make_episode(
    figure: Figure, num_steps: int, neurons: Neurons | None = None, *, speed: float = 0.0, turn: float = 0.02
) -> Episode:
    """Returns an episode in which all but the floor travels along x at `speed` [m] and turns by `turn` [rad] a step."""
    rng = np.random.default_rng(0)
    bodies = len(figure.bodies)
    start = rng.uniform(-0.4, 0.4, (bodies, 3)) + np.array([0.0, 0.0, 0.8])
    for floor in figure.bodies_with("floor"):
        start[floor] = 0.0
    steps = np.arange(num_steps + 1)
    positions = np.broadcast_to(start, (num_steps + 1, bodies, 3)).copy()
    positions[:, [b for b in range(bodies) if b not in figure.bodies_with("floor")], 0] += speed * steps[:, None]
    angle = turn * steps[:, None] * np.arange(bodies)
    rotations = np.stack([np.cos(angle), 0 * angle, np.sin(angle), 0 * angle], axis=-1)
    for floor in figure.bodies_with("floor"):
        rotations[:, floor] = [1.0, 0.0, 0.0, 0.0]
    spikes = None
    if neurons is not None:
        spikes = np.packbits(rng.random((num_steps, 33, neurons.num)) < 0.05, axis=-1)
    return Episode(positions, rotations, rng.normal(1.0, 0.3, num_steps).astype(np.float32), spikes)


def probe_video(path: Path) -> tuple[list[np.ndarray], float]:
    """Returns the frames of a video and their rate, decoded by ffmpeg."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    width, height = facts["size"]
    return [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader], facts["fps"]
