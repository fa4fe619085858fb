"""Pictures by Brax's own software rasteriser, for machines without GL."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from PIL import Image

from evoconn_cli.drawing.colors import BACKGROUND, FLOOR, shape_color
from evoconn_cli.errors import EvoconnError
from evoconn_cli.rendering.camera import FIELD_OF_VIEW, View
from evoconn_cli.rendering.look import FOG, SUN, square_size
from evoconn_cli.rendering.meshes import capsule_mesh
from evoconn_cli.rendering.quaternions import multiply, rotate
from evoconn_cli.rendering.shapes import Figure, Shape

_OVERSAMPLED_PIXELS = 400_000
"""Pictures up to this size are drawn at twice their size, since the rasteriser's own edges are jagged."""

_TO_SUN = (np.array(SUN) / np.linalg.norm(SUN)).tolist()

_FLOOR_REACH = 200
"""Half the edge of the floor, in its squares."""


class TinyRenderer:
    """Draws a figure; its scene is built once and moved for each frame.

    Args:
        figure: what is drawn.
        width: of the picture [pixels].
        height: of the picture [pixels].
        radius: of what the camera keeps in view [m].
        floor_height: where to put a floor under a figure that has none [m].

    Raises:
        EvoconnError: pytinyrenderer cannot be imported.
    """

    def __init__(self, figure: Figure, *, width: int, height: int, radius: float, floor_height: float | None) -> None:
        self._tiny = import_tiny()
        self._width, self._height = width, height
        oversampling = 2 if width * height <= _OVERSAMPLED_PIXELS else 1
        self._drawn_width, self._drawn_height = width * oversampling, height * oversampling
        half_view = math.atan(width / height * math.tan(math.radians(FIELD_OF_VIEW / 2)))
        self._horizontal_view = math.degrees(2 * half_view)
        self._radius = radius
        self._scene = self._tiny.TinySceneRenderer()
        self._shapes = [shape for shape in figure.shapes if shape.kind != "plane"]
        self._instances = [self._add(shape) for shape in self._shapes]
        self._square = square_size(radius)
        self._floor = self._add_floor()
        planes = [shape for shape in figure.shapes if shape.kind == "plane"]
        self._floor_body = planes[0].body if planes else None
        self._floor_height = floor_height or 0.0

    def draw(self, positions: np.ndarray, rotations: np.ndarray, view: View) -> np.ndarray:
        """Returns `[height, width, 3]` uint8.

        Args:
            positions: `[bodies, 3]` [m].
            rotations: `[bodies, 4]` quaternions (w, x, y, z).
            view: the camera.
        """
        for shape, instance in zip(self._shapes, self._instances, strict=True):
            rotation = multiply(rotations[shape.body], shape.rotation)
            position = positions[shape.body] + rotate(shape.position, rotations[shape.body])
            self._place(instance, position, rotation)
        height = float(self._floor_height if self._floor_body is None else positions[self._floor_body][2])
        # The floor comes along by whole periods of its pattern, so it seems to be at rest and without end.
        period = 2 * self._square
        center = np.round(view.target[:2] / period) * period
        self._place(self._floor, np.array([*center, height]), np.array([1.0, 0.0, 0.0, 0.0]))
        light = self._tiny.TinyRenderLight(
            direction=_TO_SUN, ambient=0.55, diffuse=0.55, specular=0.1, shadow_coefficient=0.5,
            shadowmap_center=[*view.target[:2], height], distance=12 * self._radius,
        )  # fmt: skip
        camera = self._tiny.TinyRenderCamera(
            viewWidth=self._drawn_width, viewHeight=self._drawn_height,
            near=0.05 * view.distance, far=20 * view.distance, hfov=self._horizontal_view, vfov=FIELD_OF_VIEW,
            position=view.eye.tolist(), target=view.target.tolist(), up=[0.0, 0.0, 1.0],
        )  # fmt: skip
        drawn = self._scene.get_camera_image([self._floor, *self._instances], light, camera)
        size = (self._drawn_height, self._drawn_width)
        image = np.asarray(drawn.rgb, np.uint8).reshape(*size, 3)
        depth = -np.asarray(drawn.depthbuffer, np.float32).reshape(*size, 1)
        start, end = FOG[0] * self._radius, FOG[1] * self._radius
        fog = np.clip((depth - start) / (end - start), 0, 1)
        image = (image + fog * (np.array(BACKGROUND, np.float32) - image)).astype(np.uint8)
        return np.asarray(Image.fromarray(image).resize((self._width, self._height), Image.Resampling.BOX))

    def close(self) -> None:
        """Does nothing: there is no context."""

    def _place(self, instance: int, position: np.ndarray, rotation: np.ndarray) -> None:
        w, x, y, z = rotation.tolist()
        self._scene.set_object_position(instance, position.tolist())
        self._scene.set_object_orientation(instance, [x, y, z, w])

    def _add(self, shape: Shape) -> int:
        texture = list(shape_color(shape.role, shape.body))
        if shape.kind == "box":
            model = self._scene.create_cube(list(shape.size), texture, 1, 1, 1.0)
        else:
            mesh = capsule_mesh(*shape.size)
            no_texture = [0.0] * (2 * len(mesh.vertices))
            surface = [part.ravel().tolist() for part in (mesh.vertices, mesh.normals)]
            model = self._scene.create_mesh(*surface, no_texture, mesh.faces.ravel().tolist(), texture, 1, 1, 1.0)
        return self._scene.create_object_instance(model)

    def _add_floor(self) -> int:
        light, dark = FLOOR
        cell = 64
        pattern = np.kron(np.array([[0, 1], [1, 0]]), np.ones((cell, cell), int))
        texture = np.array([light, dark])[pattern]
        reach = _FLOOR_REACH * self._square
        model = self._scene.create_cube(
            [reach, reach, 1e-4 * self._radius], texture.ravel().tolist(), 2 * cell, 2 * cell, 2.0 * _FLOOR_REACH
        )
        return self._scene.create_object_instance(model)


def import_tiny() -> ModuleType:
    """Returns the module `pytinyrenderer`.

    Raises:
        EvoconnError: it cannot be imported.
    """
    try:
        import pytinyrenderer
    except ImportError as error:
        raise EvoconnError(
            f"the renderer `tiny` needs pytinyrenderer, which cannot be imported here: {error}. "
            "Its wheels are for Python 3.11."
        ) from None
    return pytinyrenderer
