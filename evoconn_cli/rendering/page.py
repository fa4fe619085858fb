"""Writes the interactive page of episodes: one file with three.js, the recording and the player."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.config.rendering import RenderOptions
from evoconn_cli.drawing import colors
from evoconn_cli.drawing.page_parts import fill_page, pack
from evoconn_cli.networks import SpikingNeurons
from evoconn_cli.output import whole_file
from evoconn_cli.rendering.camera import FIELD_OF_VIEW, CameraPath, angles_of, floor_height
from evoconn_cli.rendering.recording import Motion
from evoconn_cli.rendering.shapes import FOG, SUN, TaskBodies, square_size
from evoconn_cli.tasks import Shape

_SCRIPTS = ("numbers.js", "timeline.js", "scene.js", "plots.js", "viewer.js")
_COLORS = ("background", "track", "text", "faint", "reward", "excitatory", "inhibitory", "untyped", "floor")
_ROTATION_SCALE = 32767
"""Quaternions are stored as 16-bit integers, to about 0.003 degrees."""


def write_page(
    out: Path,
    bodies: TaskBodies,
    episodes: list[Motion],
    *,
    neurons: SpikingNeurons | None,
    options: RenderOptions,
    dt: float,
    about: str,
) -> None:
    """Writes the page atomically.

    Args:
        out: File to write.
        bodies: Bodies to draw.
        episodes: Episodes, one after the other.
        neurons: Neurons of the network, None without spikes.
        options: Initial camera and speed, and whether plots are drawn.
        dt: Time between two states [s].
        about: Line below the name of the task.

    Raises:
        EvoconnError: The file cannot be written.
    """
    path = CameraPath(bodies, episodes, dt=dt, camera=options.camera, aspect=1.0)
    floor = bodies.with_role("floor")
    header = {
        "name": bodies.name,
        "about": about,
        "dt": dt,
        "speed": options.speed,
        "overlay": options.has_overlay,
        "camera": options.camera,
        "views": angles_of(bodies),
        "field_of_view": FIELD_OF_VIEW,
        "radius": path.radius,
        "square": square_size(path.radius),
        "fog": FOG,
        "sun": SUN,
        "floor": {"body": floor[0] if floor else None, "height": floor_height(bodies, episodes)},
        "colors": {name: getattr(colors, name.upper()) for name in _COLORS},
        "bodies": bodies.num,
        "shapes": [_shape(shape) for shape in bodies.shapes if shape.kind != "plane"],
        "neurons": None if neurons is None else _neurons(neurons),
    }
    groups = [
        ({"steps": len(episode.rewards)}, _arrays(episode, path.targets[index]))
        for index, episode in enumerate(episodes)
    ]
    page = fill_page(
        "evoconn_cli.rendering",
        scripts=_SCRIPTS,
        title=f"{bodies.name}: {about}",
        data=pack(header, "episodes", groups),
        files={"three": "three.js", "three_license": "three.LICENSE"},
    )
    with whole_file(out) as partial:
        partial.write_text(page, encoding="utf-8")


def _shape(shape: Shape) -> dict[str, Any]:
    return {
        "body": shape.body,
        "kind": shape.kind,
        "size": shape.size,
        "position": shape.position,
        "rotation": shape.rotation,
        "color": colors.shape_color(shape.role, shape.body),
    }


def _neurons(neurons: SpikingNeurons) -> dict[str, Any]:
    return {
        "num": neurons.num,
        "excitatory": neurons.num_excitatory,
        "substeps": neurons.constants.num_substeps,
        "substep_ms": neurons.constants.dt_ms,
    }


def _arrays(episode: Motion, targets: np.ndarray) -> dict[str, np.ndarray]:
    rotations = episode.rotations / np.linalg.norm(episode.rotations, axis=-1, keepdims=True)
    arrays = {
        "positions": episode.positions.astype("<f4"),
        "targets": targets.astype("<f4"),
        "rewards": episode.rewards.astype("<f4"),
        "rotations": np.round(rotations * _ROTATION_SCALE).astype("<i2"),
    }
    if episode.spikes is not None:
        arrays["spikes"] = episode.spikes
    return arrays
