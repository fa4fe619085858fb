"""A page that plays episodes in a browser, without a network: one file with three.js, the recording and the player."""

from __future__ import annotations

import base64
import gzip
import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.drawing import colors
from evoconn_cli.output import whole_file
from evoconn_cli.rendering.camera import FIELD_OF_VIEW, ROOM, CameraPath, angles_of, floor_height
from evoconn_cli.rendering.mjcf import FOG, SUN, square_size
from evoconn_cli.rendering.options import RenderOptions
from evoconn_cli.rendering.recording import Episode, Neurons
from evoconn_cli.rendering.shapes import Figure, Shape

_SCRIPTS = ("recording.js", "scene.js", "plots.js", "viewer.js")
_ROTATION_SCALE = 32767
"""Quaternions are stored as whole numbers of 16 bits, to about 0.003 degrees."""


def write_page(
    out: Path,
    figure: Figure,
    episodes: list[Episode],
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
        "room": ROOM,
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
    arrays = [_arrays(episode, path.targets(index)) for index, episode in enumerate(episodes)]
    filled = {
        "title": html.escape(f"{figure.name}: {about}"),
        "style": _read("style.css"),
        "data": base64.b64encode(_pack(header, arrays)).decode("ascii"),
        "three_license": _read("three.LICENSE"),
        "three": _read("three.js"),
        "scripts": "\n".join(map(_read, _SCRIPTS)),
    }
    # Every part is put in once, so that nothing in one of them is taken for the place of another.
    first, *rest = _read("page.html").split("{{")
    pieces = [first]
    for piece in rest:
        name, text = piece.split("}}", 1)
        pieces += [filled[name], text]
    with whole_file(out) as partial:
        partial.write_text("".join(pieces), encoding="utf-8")


def _read(name: str) -> str:
    return resources.files("evoconn_cli.rendering").joinpath("web", name).read_text(encoding="utf-8")


def _shape(shape: Shape) -> dict[str, Any]:
    return {
        "body": shape.body,
        "kind": shape.kind,
        "size": shape.size,
        "position": shape.position.tolist(),
        "rotation": shape.rotation.tolist(),
        "color": colors.shape_color(shape.role, shape.body),
    }


def _floor(figure: Figure, episodes: list[Episode]) -> dict[str, Any]:
    """Returns the body that the floor belongs to, or the height of a floor that the figure does not have."""
    bodies = figure.bodies_with("floor")
    return {"body": bodies[0] if bodies else None, "height": floor_height(figure, episodes)}


def _neurons(episodes: list[Episode], neurons: Neurons | None) -> dict[str, Any] | None:
    spikes = episodes[0].spikes
    if neurons is None or spikes is None:
        return None
    return {
        "num": neurons.num,
        "excitatory": neurons.num_excitatory,
        "substeps": spikes.shape[1],
        "substep_ms": neurons.substep_ms,
    }


def _arrays(episode: Episode, targets: np.ndarray) -> dict[str, np.ndarray]:
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


def _pack(header: dict[str, Any], episodes: list[dict[str, np.ndarray]]) -> bytes:
    """Returns the compressed recording: length of the header, the header as JSON, then the arrays on whole words."""
    described, chunks, offset = [], [], 0
    for arrays in episodes:
        entry = {}
        for name, array in arrays.items():
            data = array.tobytes()
            entry[name] = {"type": array.dtype.name, "offset": offset, "length": array.size}
            chunks += [data, bytes(-len(data) % 4)]
            offset += len(data) + len(chunks[-1])
        described.append({"steps": len(arrays["rewards"]), "arrays": entry})
    header = {**header, "episodes": described}
    # The place of the first array is a part of the header that says it: a number of fixed width.
    text = json.dumps({"start": "#" * 8, **header}).encode()
    start = (4 + len(text) + 3) // 4 * 4
    text = text.replace(b'"########"', f"{start:10d}".encode(), 1)
    padding = bytes(start - 4 - len(text))
    return gzip.compress(b"".join([len(text).to_bytes(4, "little"), text, padding, *chunks]), mtime=0)
