"""The scrolling plots as long pictures, drawn once; a frame shows a window of each, the present at its right edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from evoconn_cli.drawing.colors import EXCITATORY, INHIBITORY, LINE, TRACK, UNTYPED, Rgb
from evoconn_cli.rendering.columns import RasterRows, SpikeColumns

_SUPERSAMPLING = 3
_PIECE = 1024  # columns
_FADE = 0.12
"""Share of a window over which the past fades out."""


def raster_strip(spikes: SpikeColumns, rows: RasterRows) -> np.ndarray:
    """Returns `[rows * zoom, columns, 3]` uint8, brighter where the neurons of a row have more spikes."""
    # A single spike has to be seen, and more of them in one pixel have to stay apart.
    present = spikes.counts[spikes.counts > 0]
    most = float(np.percentile(present, 99)) if present.size else 1.0
    strength = np.minimum(1.0, 0.35 + 0.65 * np.sqrt(np.arange(256) / most))
    strength[0] = 0.0
    upper, lower = (UNTYPED, UNTYPED) if rows.num_excitatory is None else (EXCITATORY, INHIBITORY)
    first = rows.num_excitatory or 0
    lit = np.empty((*spikes.counts.shape, 3), np.uint8)
    for part, color in ((slice(0, first), upper), (slice(first, None), lower)):
        shades = np.array(TRACK) + strength[:, None] * (np.array(color) - np.array(TRACK))
        lit[part] = shades.astype(np.uint8)[spikes.counts[part]]
    return np.repeat(lit, rows.zoom, axis=0)


def curve_strip(curves: Sequence[np.ndarray], colors: Sequence[Rgb], height: int, *, smoothing: int) -> np.ndarray:
    """Returns `[height, columns, 3]` uint8 with one line for each curve, from the least value or 0 to the greatest.

    Args:
        curves: `[columns]` each.
        colors: of the lines.
        height: of the strip [pixels].
        smoothing: columns that a value is averaged over.
    """
    smooth = [_moving_mean(curve, smoothing) for curve in curves]
    low = min(0.0, *(float(curve.min()) for curve in smooth))
    span = max(float(curve.max()) for curve in smooth) - low or 1.0
    room = 0.1 * height
    lines = [height - room - (curve - low) / span * (height - 2 * room) for curve in smooth]
    # Drawn in pieces: a picture of a whole recording would be several times as large as what is kept of it.
    pieces = [_draw_lines(lines, colors, height, start) for start in range(0, len(curves[0]), _PIECE)]
    return np.concatenate(pieces, axis=1)


def window(strip: np.ndarray, end: int, width: int, marks: Sequence[int] = ()) -> np.ndarray:
    """Returns `[height, width, 3]` uint8, the columns before `end`; what lies before the beginning is empty.

    Args:
        strip: `[height, columns, 3]`.
        end: first column of the future.
        width: of the window.
        marks: columns at which an episode begins.
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
    """Returns `[height, columns, 3]` uint8, a piece of the lines, whose y are given by column [pixels]."""
    before = min(1, start)  # a column of the piece before, and one of the next, so that lines have no seams
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
    """Returns `[columns]` the mean of each value and those before it."""
    total = np.cumsum(np.concatenate([np.full(over, curve[0]), curve]))
    return (total[over:] - total[:-over]) / over
