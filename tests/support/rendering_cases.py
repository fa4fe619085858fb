"""Recordings and files that several tests of rendering read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from evoconn_cli.networks import Gains, SpikingNeurons
from evoconn_cli.networks.lif import LifConstants
from evoconn_cli.rendering.recording import Motion
from evoconn_cli.rendering.shapes import TaskBodies
from evoconn_cli.tasks.brax_v1 import brax_v1_environment, brax_v1_shapes, is_planar


def make_neurons(num: int, num_excitatory: int | None) -> SpikingNeurons:
    """Returns the neurons of a network with sub-steps of 0.5 ms."""
    return SpikingNeurons(num, num_excitatory, LifConstants(), Gains(1.0, 1.0, 1.0))


def brax_bodies(name: str) -> TaskBodies:
    """Returns the bodies of a task of Brax v1, without making the task."""
    config = brax_v1_environment(name).sys.config
    return TaskBodies(name, len(config.bodies), brax_v1_shapes(config), is_planar(config))


def make_episode(
    bodies: TaskBodies, num_steps: int, neurons: SpikingNeurons | None = None, *, speed: float = 0.0, turn: float = 0.02
) -> Motion:
    """Returns an episode in which all but the floor travels along x at `speed` [m] and turns by `turn` [rad] a step."""
    rng = np.random.default_rng(0)
    num_bodies = bodies.num
    start = rng.uniform(-0.4, 0.4, (num_bodies, 3)) + np.array([0.0, 0.0, 0.8])
    for floor in bodies.with_role("floor"):
        start[floor] = 0.0
    steps = np.arange(num_steps + 1)
    positions = np.broadcast_to(start, (num_steps + 1, num_bodies, 3)).copy()
    positions[:, [b for b in range(num_bodies) if b not in bodies.with_role("floor")], 0] += speed * steps[:, None]
    angle = turn * steps[:, None] * np.arange(num_bodies)
    rotations = np.stack([np.cos(angle), 0 * angle, np.sin(angle), 0 * angle], axis=-1)
    for floor in bodies.with_role("floor"):
        rotations[:, floor] = [1.0, 0.0, 0.0, 0.0]
    spikes = None
    if neurons is not None:
        spikes = np.packbits(rng.random((num_steps, 33, neurons.num)) < 0.05, axis=-1)
    return Motion(positions, rotations, rng.normal(1.0, 0.3, num_steps).astype(np.float32), spikes)


def probe_video(path: Path) -> tuple[list[np.ndarray], float]:
    """Returns the frames of a video, every one that is stored, and their rate, as ffmpeg reads them."""
    command = [
        get_ffmpeg_exe(),
        "-i",
        str(path),
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, check=True)
    said = done.stderr.decode()
    size = re.search(r"Video:.* (\d+)x(\d+)", said)
    rate = re.search(r"([\d.]+) fps", said)
    assert size and rate, said
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, int(size[2]), int(size[1]), 3)
    return list(frames), float(rate[1])
