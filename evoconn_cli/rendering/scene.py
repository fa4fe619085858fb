"""What draws the bodies: MuJoCo where this machine can, else the software rasteriser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.rendering.camera import CameraPath, View, floor_height
from evoconn_cli.rendering.gl import find_backend
from evoconn_cli.rendering.mujoco_renderer import MujocoRenderer
from evoconn_cli.rendering.recording import Episode
from evoconn_cli.rendering.shapes import Figure
from evoconn_cli.rendering.tiny_renderer import TinyRenderer


class Renderer(Protocol):
    """Draws a figure in any poses."""

    def draw(self, positions: np.ndarray, rotations: np.ndarray, view: View) -> np.ndarray:
        """Returns `[height, width, 3]` uint8 of bodies at `[bodies, 3]` [m] with `[bodies, 4]` quaternions."""
        ...

    def close(self) -> None:
        """Releases what it holds."""
        ...


def open_renderer(
    name: str, figure: Figure, episodes: Sequence[Episode], path: CameraPath, *, width: int, height: int
) -> tuple[Renderer, str]:
    """Returns what draws the figure, and in words what that is.

    Args:
        name: `auto`, `mujoco` or `tiny`.
        figure: what is drawn.
        episodes: how it moves.
        path: the camera.
        width: of the scene [pixels].
        height: of the scene [pixels].

    Raises:
        EvoconnError: it cannot draw on this machine.
    """
    backend, reasons = (None, "") if name == "tiny" else find_backend()
    ground = floor_height(figure, episodes)
    if backend is not None:
        renderer = MujocoRenderer(backend, figure, width=width, height=height, radius=path.radius, floor_height=ground)
        return renderer, f"MuJoCo with {backend.upper()}"
    if name == "mujoco":
        raise EvoconnError(
            f"MuJoCo cannot draw on this machine ({reasons}). Install a driver, on Debian libegl1 and libgl1-mesa-dri "
            "or libosmesa6, or use --renderer tiny."
        )
    tiny = TinyRenderer(figure, width=width, height=height, radius=path.radius, floor_height=ground)
    return tiny, "Brax's software rasteriser" + (f", since MuJoCo cannot draw here ({reasons})" if reasons else "")
