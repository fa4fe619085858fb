"""The overlay of a picture: plots and numbers beside or below the scene."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evoconn_cli.drawing.colors import BACKGROUND, EXCITATORY, FAINT, INHIBITORY, REWARD, TEXT, UNTYPED, Rgb
from evoconn_cli.networks import SpikingNeurons
from evoconn_cli.rendering.clock import Clock
from evoconn_cli.rendering.plots import (
    RasterRows,
    SpikeColumns,
    curve_strip,
    fit_rows,
    raster_strip,
    reward_columns,
    spike_columns,
    window,
)
from evoconn_cli.rendering.recording import Motion

_WIDE = 1.5
"""Pictures with at least this ratio of width to height have their plots beside the scene."""
_SMALLEST_TEXT = 9.5  # [pixels]
_SHOWN_SECONDS = 2.6
"""Length of the scrolling plots [s of video]."""
_LEFT_OF_BODY = 0.44
"""Share of the width of a scene that lies left of the body."""
_MOST_LINES = 3
_TOTAL_SIZE = 2.6
_NAME_SIZES = (1.7, 1.5, 1.3, 1.1, 1.0)
"""Heights of the return and of the name, relative to small text; the name has the first that fits."""
_TYPES = (("excitatory", EXCITATORY), ("inhibitory", INHIBITORY))
_NO_TYPES = (("neurons", UNTYPED),)
"""Labels and colours of the neurons by type."""


class Box(NamedTuple):
    """A rectangle [pixels]; y grows downward."""

    x: int
    y: int
    width: int
    height: int


class Layout(NamedTuple):
    """The parts of a picture."""

    scene: Box
    title: tuple[int, int]  # top left of the name, with the lines about it below
    total: tuple[int, int]  # top right of the return
    clock: tuple[int, int]  # bottom left of the time
    rows: RasterRows | None  # None for a network without spikes, as for raster and rate
    raster: Box | None
    rate: Box | None
    reward: Box
    unit: float  # height of small text [pixels]


def make_layout(width: int, height: int, neurons: SpikingNeurons | None) -> Layout:
    """Returns the layout of a picture with an overlay."""
    return (_beside if width / height >= _WIDE else _below)(width, height, neurons)


def _below(width: int, height: int, neurons: SpikingNeurons | None) -> Layout:
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
    return Layout(
        scene,
        title=(margin, margin),
        total=(width - margin, margin),
        clock=(margin, scene.height - gap),
        rows=rows,
        raster=raster,
        rate=rate,
        reward=reward,
        unit=unit,
    )


def _beside(width: int, height: int, neurons: SpikingNeurons | None) -> Layout:
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
        # The curves share the room that the raster leaves.
        track += (room - raster.height) // 2
        rate = Box(left, raster.y + raster.height + gap, right - left, track)
    reward = Box(left, height - margin - track, right - left, track)
    return Layout(
        Box(0, 0, scene_width, height),
        title=(scene_width + margin, margin),
        total=(right, margin),
        clock=(margin, height - margin),
        rows=rows,
        raster=raster,
        rate=rate,
        reward=reward,
        unit=unit,
    )


class Overlay:
    """Draws the plots and texts around a scene.

    Args:
        title: Name of the task, and a line below it.
        episodes: Episodes of the video.
        neurons: Neurons of the network, None without spikes.
        clock: Clock of the video.
        width: Width of the picture [pixels].
        height: Height of the picture [pixels].

    Attributes:
        layout: Places of all parts; the scene must have the size of its box.
    """

    def __init__(
        self,
        title: tuple[str, str],
        episodes: Sequence[Motion],
        neurons: SpikingNeurons | None,
        *,
        clock: Clock,
        width: int,
        height: int,
    ) -> None:
        self.layout = make_layout(width, height, neurons)
        self._episodes = episodes
        self._clock = clock
        self._size = (width, height)
        self._returns = [np.concatenate([[0.0], np.cumsum(episode.rewards, dtype=np.float64)]) for episode in episodes]
        self._decimals = (
            _decimals(max(np.abs(values).max() for values in self._returns)),
            _decimals(max(np.abs(episode.rewards).max() for episode in episodes)),
        )
        self._title = self._fit_title(*title)
        self._per_frame = per_frame = max(1, round(self.layout.reward.width / (_SHOWN_SECONDS * float(clock.fps))))
        self._marks = [self._column(clock.start_of(index)) for index in range(len(episodes))]
        self._rewards = reward_columns(episodes, clock, per_frame=per_frame)
        strips = [
            (self.layout.reward, curve_strip([self._rewards], [REWARD], self.layout.reward.height, smoothing=per_frame))
        ]
        self._spikes: SpikeColumns | None = None
        if neurons is not None:
            rows, raster, rate = self.layout.rows, self.layout.raster, self.layout.rate
            assert rows is not None and raster is not None and rate is not None
            self._spikes = spikes = spike_columns(episodes, neurons, rows, clock, per_frame=per_frame)
            self._shares = [size / neurons.num for size in neurons.sizes]
            colors = [color for _, color in _types_of(neurons)]
            strips.append((raster, raster_strip(spikes, rows, colors)))
            strips.append((rate, curve_strip(list(spikes.rates), colors, rate.height, smoothing=3 * per_frame)))
        self._strips = strips
        self._blank = self._draw_blank(neurons)

    def compose(self, time: float, scene: np.ndarray) -> np.ndarray:
        """Returns `[height, width, 3]` uint8, the picture at `time` [s] around its scene."""
        picture = self._blank.copy()
        box = self.layout.scene
        picture[box.y : box.y + box.height, box.x : box.x + box.width] = scene
        # At the very end the plots stop with the body; between episodes they scroll on to the next one.
        end = max(1, self._column(min(time, self._clock.end_of(len(self._episodes) - 1))))
        for box, strip in self._strips:
            shown = window(strip, end, box.width, self._marks)
            picture[box.y : box.y + box.height, box.x : box.x + box.width] = shown
        image = Image.fromarray(picture)
        self._draw_texts(ImageDraw.Draw(image), time, end)
        return np.asarray(image)

    def _column(self, time: float) -> int:
        column = round(time / self._clock.speed * float(self._clock.fps) * self._per_frame)
        return min(column, self._clock.num_frames * self._per_frame)

    def _draw_texts(self, draw: ImageDraw.ImageDraw, time: float, end: int) -> None:
        layout, unit = self.layout, self.layout.unit
        moment = self._clock.moment(time)
        for line, (x, y), size, color in self._title:
            self._text(draw, (x, y), line, size=size, color=color, anchor="la")
        x, y = layout.total
        total = format_number(self._returns[moment.episode][moment.step], self._decimals[0])
        self._text(draw, (x, y), total, size=_TOTAL_SIZE, color=TEXT, anchor="ra")
        self._text(draw, (x, y + round(3.1 * unit)), "return", anchor="ra")
        seconds = (moment.step + moment.fraction) * self._clock.dt
        line = f"{seconds:.2f} s"
        if self._clock.speed != 1:
            line += f"   {self._clock.speed:g} x speed"
        if len(self._episodes) > 1:
            line += f"   episode {moment.episode + 1} of {len(self._episodes)}"
        self._text(draw, layout.clock, line, anchor="ls")
        self._value(draw, layout.reward, format_number(self._mean(self._rewards, end), self._decimals[1], plus=True))
        if self._spikes is not None and layout.rate is not None:
            rate = sum(w * self._mean(r, end, 3) for w, r in zip(self._shares, self._spikes.rates, strict=True))
            self._value(draw, layout.rate, f"{rate:.0f}")

    def _fit_title(self, name: str, about: str) -> list[tuple[str, tuple[int, int], float, Rgb]]:
        """Returns the lines at the top left, as large and as long as the return at the top right allows.

        Above a scene the lines about the task also end before the body, which is in the middle.
        """
        unit, (x, y) = self.layout.unit, self.layout.title
        extremes = [extreme for values in self._returns for extreme in (values.min(), values.max())]
        widest = max(_width(format_number(value, self._decimals[0]), _TOTAL_SIZE * unit) for value in extremes)
        room = self.layout.total[0] - max(widest, _width("return", unit)) - unit - x
        size = next((size for size in _NAME_SIZES if _width(name, size * unit) <= room), _NAME_SIZES[-1])
        scene = self.layout.scene
        beside = room if x >= scene.width else min(room, _LEFT_OF_BODY * scene.width - x)
        lines = _wrap(about, unit, beside)
        return [
            (_shorten(name, size * unit, room), (x, y), size, TEXT),
            *((line, (x, y + round((2.2 + 1.25 * number) * unit)), 1.0, FAINT) for number, line in enumerate(lines)),
        ]

    def _mean(self, columns: np.ndarray, end: int, frames: int = 1) -> float:
        return float(columns[max(0, end - frames * self._per_frame) : end].mean())

    def _value(self, draw: ImageDraw.ImageDraw, box: Box, text: str) -> None:
        unit = self.layout.unit
        at = (box.x - round(0.8 * unit), box.y + box.height // 2 + round(0.62 * unit))
        self._text(draw, at, text, size=1.15, color=TEXT, anchor="rm")

    def _draw_blank(self, neurons: SpikingNeurons | None) -> np.ndarray:
        """Returns the parts of the picture that never change."""
        layout, unit = self.layout, self.layout.unit
        image = Image.new("RGB", self._size, BACKGROUND)
        draw = ImageDraw.Draw(image)
        for box, label in ((layout.reward, "reward"), (layout.rate, "spikes/s")):
            if box is not None:
                y = box.y + box.height // 2 - round(0.62 * unit)
                self._text(draw, (box.x - round(0.8 * unit), y), label, anchor="rm")
        if layout.raster is not None and neurons is not None and layout.rows is not None:
            self._label_raster(draw, layout.raster, neurons, layout.rows)
        return np.asarray(image)

    def _label_raster(self, draw: ImageDraw.ImageDraw, box: Box, neurons: SpikingNeurons, rows: RasterRows) -> None:
        x, unit = box.x - round(0.8 * self.layout.unit), self.layout.unit
        share = rows.sizes[0] / rows.num
        centers = [box.y + round(share * box.height / 2), box.y + round((1 + share) * box.height / 2)]
        for (label, color), number, center in zip(_types_of(neurons), neurons.sizes, centers, strict=False):
            if number:
                self._text(draw, (x, center - round(0.62 * unit)), str(number), size=1.15, color=color, anchor="rm")
                self._text(draw, (x, center + round(0.62 * unit)), label, color=color, anchor="rm")

    def _text(
        self,
        draw: ImageDraw.ImageDraw,
        at: tuple[int, int],
        text: str,
        *,
        size: float = 1.0,
        color: Rgb = FAINT,
        anchor: str,
    ) -> None:
        draw.text(at, text, font=_font(round(size * self.layout.unit)), fill=color, anchor=anchor)


def _types_of(neurons: SpikingNeurons) -> Sequence[tuple[str, Rgb]]:
    return _NO_TYPES if neurons.num_excitatory is None else _TYPES


def format_number(value: float, decimals: int, *, plus: bool = False) -> str:
    """Returns a number as text, without a sign if it rounds to zero."""
    text = f"{abs(value):,.{decimals}f}"
    if not text.strip("0.,"):
        return text
    return ("-" if value < 0 else "+" if plus else "") + text


def _decimals(most: float) -> int:
    """Returns the number of decimals, 0 to 3, that shows three digits of the greatest value."""
    return int(np.clip(2 - np.floor(np.log10(max(float(most), 1e-3))), 0, 3))


def _width(text: str, height: float) -> float:
    """Returns the width of a text with this height [pixels]."""
    return _font(round(height)).getlength(text)


def _wrap(text: str, height: float, room: float) -> list[str]:
    """Returns a text in at most three lines, broken at its commas; lines that do not fit are shortened."""
    lines = [""]
    for part in text.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if not lines[-1] or len(lines) == _MOST_LINES or _width(longer, height) <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    return [_shorten(line, height, room) for line in lines]


def _shorten(text: str, height: float, room: float) -> str:
    """Returns the longest beginning of a text that fits into `room` [pixels]."""
    if _width(text, height) <= room:
        return text
    kept = (text[:length].rstrip(" ,") + "…" for length in range(len(text) - 1, 0, -1))
    return next((line for line in kept if _width(line, height) <= room), "")


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns Aileron, which ships with Pillow, or Pillow's bitmap font if it was built without FreeType."""
    return ImageFont.load_default(size)
