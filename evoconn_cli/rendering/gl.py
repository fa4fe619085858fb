"""How MuJoCo can draw on this machine. It is imported here only, since it reads MUJOCO_GL while it is imported."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import MutableMapping
from types import ModuleType

from evoconn_cli.errors import EvoconnError

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
"""Draws a sphere: some drivers create a context that draws nothing."""

_PROBE_TIMEOUT = 60.0  # [s]


def require_backend() -> str:
    """Returns what MuJoCo draws with on this machine.

    Raises:
        EvoconnError: nothing can draw here.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise EvoconnError("mujoco is not installed here: pip install mujoco. A page does without: --out FILE.html")
    backend, reasons = find_backend()
    if backend is None:
        raise cannot_draw(reasons)
    return backend


def cannot_draw(reasons: str) -> EvoconnError:
    """Returns the error for a machine that cannot draw, for `reasons`."""
    return EvoconnError(
        f"MuJoCo cannot draw on this machine ({reasons}). Install a driver, on Debian libegl1 and libgl1-mesa-dri, or "
        "libosmesa6 with MUJOCO_GL=osmesa. A page needs none: --out FILE.html"
    )


@functools.cache
def find_backend() -> tuple[str | None, str]:
    """Returns what MuJoCo can draw with, None for nothing, and one line that says why others were not taken.

    Each is tried in a process of its own, because a driver that cannot create a context may end the process. Where
    the user has set MUJOCO_GL, that one is tried alone.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    reasons = []
    for backend in (asked,) if asked else _BACKENDS.get(sys.platform, ("glfw",)):
        reason = _try_backend(backend)
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
    environment.pop("PYOPENGL_PLATFORM", None)  # which MuJoCo sets itself, and refuses if it is set otherwise


def _try_backend(backend: str) -> str | None:
    """Returns None if MuJoCo draws a picture with `backend`, else what went wrong."""
    environment = dict(os.environ)
    _set_backend(environment, backend)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the process ended with signal {-done.returncode}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"
