"""Where everything stands in a picture: the scene, and the plots below it or, in wide pictures, beside it."""

from __future__ import annotations

from typing import NamedTuple

from evoconn_cli.rendering.columns import RasterRows, fit_rows
from evoconn_cli.rendering.recording import Neurons

_WIDE = 1.5
"""Pictures of at least this ratio of width to height have their plots beside the scene."""

_SMALLEST_TEXT = 9.5  # [pixels]


class Box(NamedTuple):
    """A rectangle [pixels]; y grows downward."""

    x: int
    y: int
    width: int
    height: int


class Layout(NamedTuple):
    """The parts of a picture."""

    scene: Box
    title: tuple[int, int]  # left top of the name, with a line about it below
    total: tuple[int, int]  # right top of the return
    clock: tuple[int, int]  # left bottom of the time
    raster: Box | None  # None for a network without spikes
    rate: Box | None
    reward: Box
    unit: float  # height of small text [pixels]


def make_layout(width: int, height: int, neurons: Neurons | None) -> tuple[Layout, RasterRows | None]:
    """Returns the layout of a picture with an overlay, and the rows of its raster."""
    return (_beside if width / height >= _WIDE else _below)(width, height, neurons)


def _below(width: int, height: int, neurons: Neurons | None) -> tuple[Layout, RasterRows | None]:
    unit = max(_SMALLEST_TEXT, min(width / 640, height / 480) * 12.5)
    margin, gap, track = round(1.3 * unit), round(0.6 * unit), round(2.2 * unit)
    left = margin + round(7.4 * unit)
    plot_width = width - margin - left
    rows = None if neurons is None else fit_rows(neurons, round(0.28 * height))
    reward = Box(left, height - margin - track, plot_width, track)
    raster = rate = None
    top = reward.y
    if rows is not None:
        rate = Box(left, reward.y - gap - track, plot_width, track)
        raster = Box(left, rate.y - gap - rows.num * rows.zoom, plot_width, rows.num * rows.zoom)
        top = raster.y
    scene = Box(0, 0, width, top - margin)
    layout = Layout(
        scene,
        title=(margin, margin),
        total=(width - margin, margin),
        clock=(margin, scene.height - gap),
        raster=raster,
        rate=rate,
        reward=reward,
        unit=unit,
    )
    return layout, rows


def _beside(width: int, height: int, neurons: Neurons | None) -> tuple[Layout, RasterRows | None]:
    unit = max(_SMALLEST_TEXT, min(width / 1280, height / 720) * 18.5)
    margin, gap, track = round(1.5 * unit), round(0.9 * unit), round(3.2 * unit)
    scene_width = round(0.58 * width)
    left, right = scene_width + margin + round(6.6 * unit), width - margin
    top = round(7.2 * unit)
    room = height - margin - top - 2 * (track + gap)
    rows = None if neurons is None else fit_rows(neurons, room)
    raster = rate = None
    if rows is not None:
        raster = Box(left, top, right - left, rows.num * rows.zoom)
        # What the raster leaves goes to the curves.
        track += (room - raster.height) // 2
        rate = Box(left, raster.y + raster.height + gap, right - left, track)
    reward = Box(left, height - margin - track, right - left, track)
    layout = Layout(
        Box(0, 0, scene_width, height),
        title=(scene_width + margin, margin),
        total=(right, margin),
        clock=(margin, height - margin),
        raster=raster,
        rate=rate,
        reward=reward,
        unit=unit,
    )
    return layout, rows
