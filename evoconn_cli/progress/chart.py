"""Draws curves over generations in characters: sparklines, and charts with axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from evoconn_cli.progress.formatting import count, fitness

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " .:|#"


def resample(values: Sequence[float | None], width: int) -> list[float | None]:
    """Returns at most `width` means of equal parts of `values`.

    Values that are None or not finite do not count; a part without others is None.
    """
    num_columns = min(width, len(values))
    columns: list[float | None] = []
    for column in range(num_columns):
        start = column * len(values) // num_columns
        end = (column + 1) * len(values) // num_columns
        known = [value for value in values[start:end] if value is not None and math.isfinite(value)]
        columns.append(sum(known) / len(known) if known else None)
    return columns


def sparkline(values: Sequence[float | None], *, width: int, height: int = 1, ascii_only: bool = False) -> list[str]:
    """Returns `height` lines of exactly `width` characters, the top one first.

    The smallest value is one mark high and the largest fills all lines; if all are equal, they are half as high.
    """
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    per_line = len(blocks) - 1
    columns = resample(values, width)
    known = [value for value in columns if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)

    def marks(value: float | None) -> int:
        if value is None:
            return 0
        share = (value - low) / (high - low) if high > low else 0.5
        return 1 + round(share * (height * per_line - 1))

    levels = [marks(value) for value in columns]
    lines = []
    for line in reversed(range(height)):
        filled = (min(per_line, max(0, level - line * per_line)) for level in levels)
        lines.append("".join(blocks[mark] for mark in filled).ljust(width))
    return lines


_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by row and column of its dots."""

_BRAILLE = 0x2800


class Curve(NamedTuple):
    """A curve of a chart."""

    label: str
    values: Sequence[float | None]  # by column of dots
    style: str
    mark: str  # in a terminal without Unicode


def chart(
    curves: Sequence[Curve], *, width: int, height: int, span: tuple[int, int], ascii_only: bool = False
) -> list[Text]:
    """Returns the lines of a chart with labelled axes; of curves at the same place, the first one is seen.

    Args:
        curves: Curves, whose values share the scale; at most `columns(width)` values each.
        width: Width of the chart [characters].
        height: Lines of the curves, without the axis and the legend.
        span: First and last generation.
        ascii_only: Whether to use ASCII alone.
    """
    known = [value for curve in curves for value in curve.values if value is not None and math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    across, down = (1, 1) if ascii_only else (2, 4)
    rows = height * down
    cells: dict[tuple[int, int], tuple[int, Curve]] = {}
    for curve in reversed(curves):
        before: int | None = None
        for column, value in enumerate(curve.values):
            if value is None or not math.isfinite(value):
                before = None
                continue
            row = rows - 1 - round((value - low) / (high - low) * (rows - 1))
            for step in _between(before, row):
                place = step // down, column // across
                bits = cells[place][0] if place in cells else 0
                cells[place] = bits | _DOTS[step % down][column % across], curve
            before = row
    inner = width - AXIS
    lines = []
    for line in range(height):
        text = Text(no_wrap=True).append(_label(line, height, low, high), style="dim")
        for column in range(inner):
            if (place := (line, column)) in cells:
                bits, curve = cells[place]
                text.append(curve.mark if ascii_only else chr(_BRAILLE + bits), style=curve.style)
            else:
                text.append(" ")
        lines.append(text)
    first, last = count(span[0]), count(span[1])
    axis = f"{' ' * AXIS}{first}{'generation'.center(inner - len(first) - len(last))}{last}"
    return [*lines, Text(axis, style="dim", no_wrap=True)]


AXIS = 11
"""Characters of the labels at the left, and of the axis."""


def columns(width: int, *, ascii_only: bool = False) -> int:
    """Returns how many values a curve of a chart has room for."""
    return (width - AXIS) * (1 if ascii_only else 2)


def stretched(values: Sequence[float | None], num_columns: int) -> list[float | None]:
    """Returns one value per column: means of equal parts of `values`, or repeated values if they are fewer."""
    if len(values) >= num_columns:
        return resample(values, num_columns)
    return [values[column * len(values) // num_columns] for column in range(num_columns)]


def _between(before: int | None, row: int) -> range:
    """Returns the rows of dots that lead from one column to the next."""
    if before is None or before == row:
        return range(row, row + 1)
    return range(before + 1, row + 1) if row > before else range(row, before)


def _label(line: int, height: int, low: float, high: float) -> str:
    """Returns the label of a line, if it has one, and the axis."""
    labelled = {0: high, height - 1: low, (height - 1) // 2: high - (high - low) * ((height - 1) // 2) / (height - 1)}
    return f"{fitness(labelled[line]) if line in labelled else '':>{AXIS - 2}} |"
