"""Numbers and durations as text."""

from __future__ import annotations

import math

MISSING_FIGURE = "–"


def number(value: float | None, digits: int = 1) -> str:
    """Returns `value` with thousands separators and `digits` decimals; a dash where it is None."""
    if value is None:
        return MISSING_FIGURE
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.{digits}f}"


def fitness(value: float | None) -> str:
    """Returns a fitness: one decimal below a hundred thousand, none above."""
    return number(value, 1 if value is None or abs(value) < 99_999.95 else 0)


def spike_rate(spikes_per_ms: float | None) -> str:
    """Returns the mean rate of a neuron, which metrics.jsonl has per millisecond [spikes/s]."""
    return number(None if spikes_per_ms is None else 1000 * spikes_per_ms)


def count(value: float | None) -> str:
    """Returns a whole number with thousands separators; a dash where it is None."""
    return number(value, 0)


def duration(seconds: float | None) -> str:
    """Returns a length of time in its two largest units; a dash where it is None."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING_FIGURE
    seconds = max(0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02d} h"


def encodable(text: str, *, ascii_only: bool) -> str:
    """Returns `text`; where the terminal knows only ASCII, other characters become `-` or `?`."""
    return text.replace(MISSING_FIGURE, "-").encode("ascii", "replace").decode() if ascii_only else text
