"""Pictures by MuJoCo's renderer, off screen."""

from __future__ import annotations

import numpy as np

from evoconn_cli.rendering.camera import View
from evoconn_cli.rendering.gl import cannot_draw, import_mujoco, require_backend
from evoconn_cli.rendering.look import SUN
from evoconn_cli.rendering.mjcf import make_mjcf
from evoconn_cli.rendering.shapes import Figure


class MujocoRenderer:
    """Draws a figure with shadows.

    Args:
        figure: what is drawn.
        width: of the picture [pixels].
        height: of the picture [pixels].
        radius: of what the camera keeps in view [m].
        floor_height: where to put a floor under a figure that has none [m].

    Raises:
        EvoconnError: this machine cannot draw.
    """

    def __init__(self, figure: Figure, *, width: int, height: int, radius: float, floor_height: float | None) -> None:
        backend = require_backend()
        self._mujoco = mujoco = import_mujoco(backend)
        xml = make_mjcf(figure, width=width, height=height, radius=radius, floor_height=floor_height)
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data = mujoco.MjData(self._model)
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # of a driver that drew the small picture of the probe
            raise cannot_draw(f"{backend}: {type(error).__name__}: {error}") from error
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = True
        self._camera = mujoco.MjvCamera()
        self._sun = 3 * radius * np.array(SUN)
        self.name = f"MuJoCo with {backend.upper()}"

    def draw(self, positions: np.ndarray, rotations: np.ndarray, view: View) -> np.ndarray:
        """Returns `[height, width, 3]` uint8.

        Args:
            positions: `[bodies, 3]` [m].
            rotations: `[bodies, 4]` quaternions (w, x, y, z).
            view: the camera.
        """
        mujoco, model, data = self._mujoco, self._model, self._data
        data.mocap_pos[:] = positions
        data.mocap_quat[:] = rotations
        # Shadows are cast within some distance of the sun, so it has to come along.
        model.light_pos[0] = view.target + self._sun
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        camera = self._camera
        camera.lookat[:] = view.target
        camera.distance, camera.azimuth, camera.elevation = view.distance, view.azimuth, view.elevation
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Releases the drawing context."""
        self._renderer.close()
