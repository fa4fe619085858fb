"""Draws pictures with MuJoCo's off-screen renderer."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, MutableMapping
from types import ModuleType
from xml.sax.saxutils import quoteattr

import numpy as np

from evoconn_cli.drawing.colors import BACKGROUND, FLOOR, Rgb, shape_color
from evoconn_cli.errors import EvoconnError
from evoconn_cli.rendering.camera import FIELD_OF_VIEW, View
from evoconn_cli.rendering.shapes import FOG, SUN, TaskBodies, square_size
from evoconn_cli.tasks import Shape

_BACKENDS = {"linux": ("egl", "osmesa"), "darwin": ("cgl",), "win32": ("wgl",)}

_PROBE = """
import sys
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='1' rgba='1 1 1 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    sys.exit(0 if renderer.render().any() else 'the picture is black')
"""
"""Draws a sphere, because some drivers create a context that draws nothing."""

_PROBE_TIMEOUT = 60.0  # [s]


def require_backend() -> str:
    """Returns the backend with which MuJoCo draws on this machine.

    Raises:
        EvoconnError: No backend works.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise EvoconnError(
            "mujoco is not installed here: pip install mujoco. An interactive page does not need it: --out FILE.html"
        )
    backend, reasons = find_backend()
    if backend is None:
        raise cannot_draw(reasons)
    return backend


def cannot_draw(reasons: str) -> EvoconnError:
    """Returns the error for a machine that cannot draw, for `reasons`."""
    return EvoconnError(
        f"MuJoCo cannot draw on this machine ({reasons}). Install a driver, on Debian libegl1 and libgl1-mesa-dri, or "
        "libosmesa6 with MUJOCO_GL=osmesa. An interactive page needs none: --out FILE.html"
    )


@functools.cache
def find_backend() -> tuple[str | None, str]:
    """Returns the backend with which MuJoCo can draw, or None, and one line that says why others do not work.

    Each is tried in a process of its own, because a driver that cannot create a context may end the process. If the
    user has set MUJOCO_GL, only that one is tried.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    reasons = []
    for backend in (asked,) if asked else _BACKENDS.get(sys.platform, ("glfw",)):
        reason = try_backend(backend)
        if reason is None:
            return backend, "; ".join(reasons)
        reasons.append(f"{backend}: {reason}")
    return None, "; ".join(reasons)


def import_mujoco(backend: str) -> ModuleType:
    """Returns the module `mujoco`, set up to draw with `backend`."""
    _set_backend(os.environ, backend)
    import mujoco

    return mujoco


def _set_backend(environment: MutableMapping[str, str], backend: str) -> None:
    environment["MUJOCO_GL"] = backend
    environment.pop("PYOPENGL_PLATFORM", None)  # MuJoCo sets it itself, and refuses another value


def try_backend(backend: str, *, probe: str = _PROBE) -> str | None:
    """Returns None if MuJoCo draws a picture with `backend`, else why not.

    Args:
        backend: Value of MUJOCO_GL.
        probe: Program that draws the picture and exits with 0.
    """
    environment = dict(os.environ)
    _set_backend(environment, backend)
    try:
        command = [sys.executable, "-P", "-c", probe]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PROBE_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the process ended with signal {-done.returncode}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"


def make_mjcf(bodies: TaskBodies, *, width: int, height: int, radius: float, floor_height: float | None) -> str:
    """Returns the XML of the model that draws `bodies`.

    Its mocap bodies have the order and the frames of the task's bodies, so that the task's poses can be copied.

    Args:
        bodies: Bodies to draw.
        width: Width of the picture [pixels].
        height: Height of the picture [pixels].
        radius: Radius of the sphere that the camera keeps in view; it scales fog and shadows [m].
        floor_height: Height of the floor to add [m]; None if the task has one.
    """
    background, (light, dark) = _rgb(BACKGROUND), (_rgb(color) for color in FLOOR)
    repeat = 1 / (2 * square_size(radius))
    world = []
    if floor_height is not None:
        world.append(f"<geom type='plane' size='0 0 1' material='floor' pos='0 0 {floor_height:.9g}'/>")
    for index in range(bodies.num):
        geoms = "".join(_geom(shape) for shape in bodies.shapes if shape.body == index)
        world.append(f"<body mocap='true'>{geoms}</body>")
    return f"""
<mujoco model={quoteattr(bodies.name)}>
  <statistic extent="{radius:.9g}" center="0 0 0"/>
  <visual>
    <global offwidth="{width}" offheight="{height}" fovy="{FIELD_OF_VIEW:.9g}"/>
    <quality shadowsize="4096" offsamples="4"/>
    <headlight ambient="0.40 0.40 0.42" diffuse="0.22 0.22 0.22" specular="0 0 0"/>
    <map znear="0.02" zfar="60" fogstart="{FOG[0]:.9g}" fogend="{FOG[1]:.9g}" shadowclip="4" shadowscale="0.8"/>
    <rgba fog="{background} 1" haze="{background} 1"/>
  </visual>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1="{background}" rgb2="{background}" width="64" height="384"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="{light}" rgb2="{dark}" width="512" height="512"/>
    <material name="floor" texture="floor" texuniform="true" texrepeat="{repeat:.9g} {repeat:.9g}" reflectance="0.06"
      specular="0.1"/>
    <material name="body" specular="0.25" shininess="0.4"/>
  </asset>
  <worldbody>
    <light name="sun" type="directional" dir="{_text(-x for x in SUN)}" diffuse="0.72 0.70 0.66" specular="0.2 0.2 0.2"
      castshadow="true"/>
    {"".join(world)}
  </worldbody>
</mujoco>
"""


def _geom(shape: Shape) -> str:
    look = "material='floor'"
    if shape.role != "floor":
        look = f"material='body' rgba='{_rgb(shape_color(shape.role, shape.body))} 1'"
    return (
        f"<geom type='{shape.kind}' size='{_text(shape.size or (0, 0, 1))}' pos='{_text(shape.position)}' "
        f"quat='{_text(shape.rotation)}' contype='0' conaffinity='0' {look}/>"
    )


def _text(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)


def _rgb(color: Rgb) -> str:
    return _text(channel / 255 for channel in color)


class MujocoRenderer:
    """Draws the bodies of a task with shadows.

    Args:
        bodies: Bodies to draw.
        width: Width of the picture [pixels].
        height: Height of the picture [pixels].
        radius: Radius of the sphere that the camera keeps in view [m].
        floor_height: Height of the floor to add [m]; None if the task has one.

    Raises:
        EvoconnError: This machine cannot draw.
    """

    def __init__(
        self, bodies: TaskBodies, *, width: int, height: int, radius: float, floor_height: float | None
    ) -> None:
        backend = require_backend()
        self._mujoco = mujoco = import_mujoco(backend)
        xml = make_mjcf(bodies, width=width, height=height, radius=radius, floor_height=floor_height)
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data = mujoco.MjData(self._model)
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # from a driver that drew the small picture of the probe
            raise cannot_draw(f"{backend}: {type(error).__name__}: {error}") from error
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = True
        self._camera = mujoco.MjvCamera()
        self._sun = 3 * radius * np.array(SUN)
        self.name = f"MuJoCo with {backend.upper()}"

    def draw(self, positions: np.ndarray, rotations: np.ndarray, view: View) -> np.ndarray:
        """Returns `[height, width, 3]` uint8.

        Args:
            positions: `[bodies, 3]` positions [m].
            rotations: `[bodies, 4]` quaternions (w, x, y, z).
            view: Camera.
        """
        mujoco, model, data = self._mujoco, self._model, self._data
        data.mocap_pos[:] = positions
        data.mocap_quat[:] = rotations
        # Shadows are cast within some distance of the sun, so it follows the target.
        model.light_pos[0] = view.target + self._sun
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        camera = self._camera
        camera.lookat[:] = view.target
        camera.distance, camera.azimuth, camera.elevation = view.distance, view.azimuth, view.elevation
        # The floor is laid around where the scene has its camera, which it would otherwise only learn after that.
        mujoco.mjv_updateCamera(model, data, camera, self._renderer.scene)
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Releases the drawing context."""
        self._renderer.close()
