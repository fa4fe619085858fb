"""What draws the bodies: MuJoCo where this machine can, else the software rasteriser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.rendering.camera import CameraPath, View
from evoconn_cli.rendering.extents import floor_height
from evoconn_cli.rendering.gl import find_backend
from evoconn_cli.rendering.mujoco_renderer import MujocoRenderer
from evoconn_cli.rendering.recording import Motion
from evoconn_cli.rendering.shapes import Figure
from evoconn_cli.rendering.tiny_renderer import TinyRenderer, import_tiny


class Renderer(Protocol):
    """Draws a figure in any poses."""

    def draw(self, positions: np.ndarray, rotations: np.ndarray, view: View) -> np.ndarray:
        """Returns `[height, width, 3]` uint8 of bodies at `[bodies, 3]` [m] with `[bodies, 4]` quaternions."""
        ...

    def close(self) -> None:
        """Releases what it holds."""
        ...


def find_renderer(name: str) -> tuple[str | None, str]:
    """Returns what MuJoCo is going to draw with, None for the software rasteriser, and why MuJoCo cannot if so.

    Args:
        name: `auto`, `mujoco` or `tiny`.

    Raises:
        EvoconnError: what is asked for cannot draw on this machine.
    """
    backend, reasons = (None, "") if name == "tiny" else find_backend()
    if backend is not None:
        return backend, ""
    if name == "mujoco":
        raise _no_mujoco(reasons)
    _check_tiny(reasons)
    return None, reasons


def open_renderer(
    name: str, figure: Figure, episodes: Sequence[Motion], path: CameraPath, *, width: int, height: int
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
    backend, reasons = find_renderer(name)
    ground = floor_height(figure, episodes)
    if backend is not None:
        try:
            renderer = MujocoRenderer(
                backend, figure, width=width, height=height, radius=path.radius, floor_height=ground
            )
            return renderer, f"MuJoCo with {backend.upper()}"
        except Exception as error:  # of a driver that drew the small picture of the probe
            reasons = f"{backend}: {type(error).__name__}: {error}"
            if name == "mujoco":
                raise _no_mujoco(reasons) from error
            _check_tiny(reasons)
    tiny = TinyRenderer(figure, width=width, height=height, radius=path.radius, floor_height=ground)
    return tiny, "Brax's software rasteriser" + (f", since MuJoCo cannot draw here ({reasons})" if reasons else "")


def _no_mujoco(reasons: str) -> EvoconnError:
    return EvoconnError(
        f"MuJoCo cannot draw on this machine ({reasons}). Install a driver, on Debian libegl1 and libgl1-mesa-dri "
        "or libosmesa6, or use --renderer tiny."
    )


def _check_tiny(reasons: str) -> None:
    """Checks that the software rasteriser is there.

    Args:
        reasons: why it has to draw, where MuJoCo was tried.
    """
    try:
        import_tiny()
    except EvoconnError as error:
        if not reasons:
            raise
        raise EvoconnError(
            f"nothing can draw on this machine. MuJoCo cannot ({reasons}): install a driver, on Debian libegl1 and "
            f"libgl1-mesa-dri or libosmesa6. And {error} A page needs neither: --out FILE.html."
        ) from None
