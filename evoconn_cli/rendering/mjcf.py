"""A figure as an MJCF model: one mocap body for each Brax body, with its colliders, a floor, a sky and a light."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from evoconn_cli.drawing.colors import BACKGROUND, FLOOR, Rgb, shape_color
from evoconn_cli.rendering.camera import FIELD_OF_VIEW
from evoconn_cli.rendering.look import FOG, SUN, square_size
from evoconn_cli.rendering.shapes import Figure, Shape


def make_mjcf(figure: Figure, *, width: int, height: int, radius: float, floor_height: float | None) -> str:
    """Returns the XML of the model that draws `figure`.

    Its mocap bodies are in the order of Brax's bodies and have their frames, so that Brax's poses can be copied.

    Args:
        figure: what is drawn.
        width: of the picture [pixels].
        height: of the picture [pixels].
        radius: of what the camera keeps in view; distances of fog and shadows follow it [m].
        floor_height: where to put a floor under a figure that has none [m]; None for one that has.
    """
    root = ET.Element("mujoco", {"model": figure.name})
    _add_visual(root, width, height, radius)
    _add_assets(root, square_size(radius))
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(
        world,
        "light",
        name="sun",
        type="directional",
        dir=_text(-x for x in SUN),
        diffuse="0.72 0.70 0.66",
        specular="0.2 0.2 0.2",
        castshadow="true",
    )
    if floor_height is not None:
        ET.SubElement(world, "geom", type="plane", size="0 0 1", material="floor", pos=_text([0, 0, floor_height]))
    for index, name in enumerate(figure.bodies):
        body = ET.SubElement(world, "body", name=f"{index} {name}", mocap="true")
        for shape in figure.shapes:
            if shape.body == index:
                _add_geom(body, shape)
    return ET.tostring(root, encoding="unicode")


def _add_visual(root: ET.Element, width: int, height: int, radius: float) -> None:
    ET.SubElement(root, "statistic", extent=_text([radius]), center="0 0 0")
    visual = ET.SubElement(root, "visual")
    ET.SubElement(visual, "global", offwidth=str(width), offheight=str(height), fovy=_text([FIELD_OF_VIEW]))
    ET.SubElement(visual, "quality", shadowsize="4096", offsamples="4")
    ET.SubElement(visual, "headlight", ambient="0.40 0.40 0.42", diffuse="0.22 0.22 0.22", specular="0 0 0")
    ET.SubElement(
        visual,
        "map",
        znear="0.02",
        zfar="60",
        fogstart=_text(FOG[:1]),
        fogend=_text(FOG[1:]),
        shadowclip="4",
        shadowscale="0.8",
    )
    ET.SubElement(visual, "rgba", fog=_rgba(BACKGROUND), haze=_rgba(BACKGROUND))


def _add_assets(root: ET.Element, square: float) -> None:
    asset = ET.SubElement(root, "asset")
    light, dark = FLOOR
    horizon, zenith = _rgb(BACKGROUND), _rgb(BACKGROUND)
    ET.SubElement(
        asset, "texture", type="skybox", builtin="gradient", rgb1=horizon, rgb2=zenith, width="64", height="384"
    )
    ET.SubElement(
        asset, "texture", name="floor", type="2d", builtin="checker", rgb1=_rgb(light), rgb2=_rgb(dark),
        width="512", height="512",
    )  # fmt: skip
    repeat = _text([1 / (2 * square)] * 2)
    ET.SubElement(
        asset, "material", name="floor", texture="floor", texuniform="true", texrepeat=repeat, reflectance="0.06",
        specular="0.1",
    )  # fmt: skip
    ET.SubElement(asset, "material", name="body", specular="0.25", shininess="0.4")


def _add_geom(body: ET.Element, shape: Shape) -> None:
    look = {"material": "floor"}
    if shape.role != "floor":
        look = {"material": "body", "rgba": _rgba(shape_color(shape.role, shape.body))}
    geom = {
        "type": shape.kind,
        "size": _text(shape.size or (0, 0, 1)),
        "pos": _text(shape.position),
        "quat": _text(shape.rotation),
        "contype": "0",
        "conaffinity": "0",
    }
    ET.SubElement(body, "geom", geom | look)


def _text(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)


def _rgb(color: Rgb) -> str:
    return _text(channel / 255 for channel in color)


def _rgba(color: Rgb) -> str:
    return f"{_rgb(color)} 1"
