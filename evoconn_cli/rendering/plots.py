"""The scrolling plots of spikes, rates and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from evoconn_cli.drawing.colors import LINE, TRACK, Rgb
from evoconn_cli.networks import SpikingNeurons
from evoconn_cli.rendering.clock import Clock
from evoconn_cli.rendering.recording import Motion

_SUPERSAMPLING = 3
_PIECE = 1024  # columns
_FADE = 0.12
"""Share of a window over which the past fades out."""


class SpikeColumns(NamedTuple):
    """Spikes per row of the raster and column of pixels."""

    counts: np.ndarray  # [rows, columns] uint8 spikes of the neurons of a row, at most 255
    rates: np.ndarray  # [types, columns] mean rate in network time [spikes/s per neuron], excitatory first


class RasterRows(NamedTuple):
    """The rows of the raster and their neurons."""

    row: np.ndarray  # [N] row of each neuron
    sizes: list[int]  # rows of excitatory and of inhibitory neurons, or all if neurons have no types
    zoom: int  # height of a row [pixels]

    @property
    def num(self) -> int:
        """Number of rows."""
        return sum(self.sizes)


def fit_rows(neurons: SpikingNeurons, max_height: int) -> RasterRows:
    """Returns the rows of a raster of at most `max_height` pixels, with as few neurons per row as possible.

    No row has neurons of two types.
    """
    sizes = neurons.sizes
    together = 1
    while sum(heights := [-(-size // together) for size in sizes]) > max(max_height, len(sizes)):
        together += 1
    row = np.concatenate([np.arange(size) // together for size in sizes])
    row[sizes[0] :] += heights[0]
    return RasterRows(row, heights, max(1, max_height // sum(heights)))


def spike_columns(
    episodes: Sequence[Motion], neurons: SpikingNeurons, rows: RasterRows, clock: Clock, *, per_frame: int
) -> SpikeColumns:
    """Returns the spikes of all episodes per column.

    Args:
        episodes: Episodes with spikes.
        neurons: Neurons of the network.
        rows: Rows of the raster.
        clock: Clock of the video.
        per_frame: Number of columns per frame.
    """
    boundaries = [0, *(np.flatnonzero(np.diff(rows.row)) + 1)]
    num_columns = clock.num_frames * per_frame
    counts = np.zeros((num_columns, len(boundaries)), np.uint32)
    spikes_of = np.zeros((num_columns, len(neurons.sizes)), np.int64)
    substeps_in = np.zeros(num_columns, np.int64)
    for index, episode in enumerate(episodes):
        assert episode.spikes is not None
        num_substeps = episode.spikes.shape[1]
        for step, packed in enumerate(episode.spikes):
            spikes = np.unpackbits(packed, axis=-1, count=neurons.num)
            time = clock.start_of(index) + (step + (np.arange(num_substeps) + 0.5) / num_substeps) * clock.dt
            column = _column(time, clock, per_frame, num_columns)
            np.add.at(counts, column, np.add.reduceat(spikes, boundaries, axis=1, dtype=np.uint32))
            by_type = np.split(spikes, neurons.sizes[:-1], axis=1)
            np.add.at(spikes_of, column, np.stack([part.sum(axis=1) for part in by_type], axis=-1))
            np.add.at(substeps_in, column, 1)
    seconds = np.maximum(substeps_in, 1)[:, None] * neurons.constants.dt_ms / 1000
    rates = _held(spikes_of / (np.maximum(neurons.sizes, 1) * seconds), substeps_in > 0)
    return SpikeColumns(np.minimum(counts, 255).astype(np.uint8).T, rates.T)


def reward_columns(episodes: Sequence[Motion], clock: Clock, *, per_frame: int) -> np.ndarray:
    """Returns `[columns]` the mean reward of the steps that end in a column, or the last one if none does."""
    num_columns = clock.num_frames * per_frame
    total, count = np.zeros(num_columns), np.zeros(num_columns)
    for index, episode in enumerate(episodes):
        # A step that ends at the end of a column belongs to that column.
        time = clock.start_of(index) + (np.arange(episode.num_steps) + 1 - 1e-3) * clock.dt
        column = _column(time, clock, per_frame, num_columns)
        np.add.at(total, column, episode.rewards)
        np.add.at(count, column, 1)
    return _held((total / np.maximum(count, 1))[:, None], count > 0)[:, 0]


def _column(time: np.ndarray, clock: Clock, per_frame: int, num_columns: int) -> np.ndarray:
    column = (time / clock.speed * float(clock.fps) * per_frame).astype(int)
    return np.minimum(column, num_columns - 1)


def _held(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns `[columns, ...]` with unknown values replaced by the last known one, or by the first at the start."""
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), known.argmax()))
    return values[last]


def raster_strip(spikes: SpikeColumns, rows: RasterRows, colors: Sequence[Rgb]) -> np.ndarray:
    """Returns `[rows * zoom, columns, 3]` uint8 with a colour per type of neuron, brighter for more spikes."""
    # A single spike must be visible, and several in one pixel must look different.
    present = spikes.counts[spikes.counts > 0]
    most = float(np.percentile(present, 99)) if present.size else 1.0
    strength = np.minimum(1.0, 0.35 + 0.65 * np.sqrt(np.arange(256) / most))
    strength[0] = 0.0
    lit = []
    for counts, color in zip(np.split(spikes.counts, rows.sizes[:-1]), colors, strict=True):
        shades = np.array(TRACK) + strength[:, None] * (np.array(color) - np.array(TRACK))
        lit.append(shades.astype(np.uint8)[counts])
    return np.repeat(np.concatenate(lit), rows.zoom, axis=0)


def curve_strip(curves: Sequence[np.ndarray], colors: Sequence[Rgb], height: int, *, smoothing: int) -> np.ndarray:
    """Returns `[height, columns, 3]` uint8 with one line per curve, from the least value or 0 to the greatest.

    Args:
        curves: `[columns]` values of each line.
        colors: Colours of the lines.
        height: Height of the strip [pixels].
        smoothing: Number of columns over which a value is averaged.
    """
    smooth = [_moving_mean(curve, smoothing) for curve in curves]
    low = min(0.0, *(float(curve.min()) for curve in smooth))
    span = max(float(curve.max()) for curve in smooth) - low or 1.0
    room = 0.1 * height
    lines = [height - room - (curve - low) / span * (height - 2 * room) for curve in smooth]
    # In pieces, because a supersampled picture of a whole recording would take several times as much memory.
    pieces = [_draw_lines(lines, colors, height, start) for start in range(0, len(curves[0]), _PIECE)]
    return np.concatenate(pieces, axis=1)


def window(strip: np.ndarray, end: int, width: int, marks: Sequence[int] = ()) -> np.ndarray:
    """Returns `[height, width, 3]` uint8, the columns before `end`; those before the beginning are empty.

    Args:
        strip: `[height, columns, 3]` strip of the whole video.
        end: First column of the future.
        width: Width of the window.
        marks: Columns at which an episode begins.
    """
    view = np.empty((strip.shape[0], width, 3), np.float32)
    view[:] = TRACK
    start = end - width
    there = strip[:, max(0, start) : end]
    view[:, width - there.shape[1] :] = there
    for mark in marks:
        if start <= mark < end and mark > 0:
            view[:, mark - start] = LINE
    fade = np.clip((np.arange(width) + 1) / max(1.0, _FADE * width), 0, 1)[None, :, None]
    background = np.array(TRACK, np.float32)
    return (background + fade * (view - background)).astype(np.uint8)


def _draw_lines(lines: Sequence[np.ndarray], colors: Sequence[Rgb], height: int, start: int) -> np.ndarray:
    """Returns `[height, columns, 3]` uint8, a piece of the lines, given as y per column [pixels]."""
    before = min(1, start)  # with a column of both neighbouring pieces, lines have no seams
    num_columns = min(_PIECE, len(lines[0]) - start)
    scale = _SUPERSAMPLING
    image = Image.new("RGB", ((num_columns + before) * scale, height * scale), TRACK)
    draw = ImageDraw.Draw(image, "RGBA")
    for line, color in zip(lines, colors, strict=True):
        y = scale * line[start - before : start + num_columns + 1]
        x = scale * (np.arange(len(y)) + 0.5)
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        draw.polygon([(x[0], height * scale), *points, (x[-1], height * scale)], fill=(*color, 22))
        draw.line(points, fill=color, width=round(1.3 * scale), joint="curve")
    return np.asarray(image.resize((num_columns + before, height), Image.Resampling.BOX))[:, before:]


def _moving_mean(curve: np.ndarray, over: int) -> np.ndarray:
    """Returns `[columns]` the mean of each value and the `over - 1` before it."""
    total = np.cumsum(np.concatenate([np.full(over, curve[0]), curve]))
    return (total[over:] - total[:-over]) / over
