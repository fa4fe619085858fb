"""A page that plays episodes in a browser, without a network: one file with three.js, the recording and the player."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.config.rendering import RenderOptions
from evoconn_cli.drawing import colors
from evoconn_cli.drawing.page_parts import fill, pack, read_web
from evoconn_cli.output import whole_file
from evoconn_cli.rendering.camera import FIELD_OF_VIEW, CameraPath, angles_of, floor_height
from evoconn_cli.rendering.recording import Motion, Neurons
from evoconn_cli.rendering.shapes import FOG, SUN, Figure, Shape, square_size

_SCRIPTS = ("numbers.js", "timeline.js", "scene.js", "plots.js", "viewer.js")
_ROTATION_SCALE = 32767
"""Quaternions are stored as whole numbers of 16 bits, to about 0.003 degrees."""


def write_page(
    out: Path,
    figure: Figure,
    episodes: list[Motion],
    neurons: Neurons | None,
    options: RenderOptions,
    *,
    dt: float,
    about: str,
) -> None:
    """Writes the page, which appears whole or not at all.

    Args:
        out: the file.
        figure: what is drawn.
        episodes: one after the other.
        neurons: of the network, None where it has no spikes.
        options: the first camera and speed, and whether there are plots.
        dt: time between two states [s].
        about: a line below the name of the task.

    Raises:
        EvoconnError: the file cannot be written.
    """
    path = CameraPath(figure, episodes, dt=dt, camera=options.camera, aspect=1.0)
    header = {
        "name": figure.name,
        "about": about,
        "dt": dt,
        "speed": options.speed,
        "overlay": options.has_overlay,
        "camera": options.camera,
        "views": angles_of(figure),
        "field_of_view": FIELD_OF_VIEW,
        "radius": path.radius,
        "square": square_size(path.radius),
        "fog": FOG,
        "sun": SUN,
        "floor": _floor(figure, episodes),
        "colors": {
            "background": colors.BACKGROUND,
            "track": colors.TRACK,
            "text": colors.TEXT,
            "faint": colors.FAINT,
            "reward": colors.REWARD,
            "excitatory": colors.EXCITATORY,
            "inhibitory": colors.INHIBITORY,
            "untyped": colors.UNTYPED,
            "floor": colors.FLOOR,
        },
        "bodies": figure.bodies,
        "shapes": [_shape(shape) for shape in figure.shapes if shape.kind != "plane"],
        "neurons": _neurons(episodes, neurons),
    }
    groups = [
        ({"steps": len(episode.rewards)}, _arrays(episode, path.targets(index)))
        for index, episode in enumerate(episodes)
    ]
    parts = {
        "title": html.escape(f"{figure.name}: {about}"),
        "style": _read("style.css"),
        "data": pack(header, "episodes", groups),
        "three_license": _read("three.LICENSE"),
        "three": _read("three.js"),
        "scripts": "\n".join([read_web("evoconn_cli.drawing", "unpack.js"), *map(_read, _SCRIPTS)]),
    }
    with whole_file(out) as partial:
        partial.write_text(fill(_read("page.html"), parts), encoding="utf-8")


def _read(name: str) -> str:
    return read_web("evoconn_cli.rendering", name)


def _shape(shape: Shape) -> dict[str, Any]:
    return {
        "body": shape.body,
        "kind": shape.kind,
        "size": shape.size,
        "position": shape.position.tolist(),
        "rotation": shape.rotation.tolist(),
        "color": colors.shape_color(shape.role, shape.body),
    }


def _floor(figure: Figure, episodes: list[Motion]) -> dict[str, Any]:
    """Returns the body that the floor belongs to, or the height of a floor that the figure does not have."""
    bodies = figure.bodies_with("floor")
    return {"body": bodies[0] if bodies else None, "height": floor_height(figure, episodes)}


def _neurons(episodes: list[Motion], neurons: Neurons | None) -> dict[str, Any] | None:
    spikes = episodes[0].spikes
    if neurons is None or spikes is None:
        return None
    return {
        "num": neurons.num,
        "excitatory": neurons.num_excitatory,
        "substeps": spikes.shape[1],
        "substep_ms": neurons.substep_ms,
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
