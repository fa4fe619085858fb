"""A curve drawn with characters, as wide and as high as there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " .:|#"


def resample(values: Sequence[float | None], width: int) -> list[float | None]:
    """Returns at most `width` values for the whole of `values`: the means of equal stretches of it.

    Values that are None or not finite do not count; a stretch without any other is None.
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

    The smallest value is one mark high, the largest fills all lines; equal values are drawn half as high.
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
