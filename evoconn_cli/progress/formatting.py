"""Formats numbers and durations, and prints text verbatim."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

MISSING_FIGURE = "–"


def number(value: float | None, digits: int = 1) -> str:
    """Returns `value` with thousands separators and `digits` decimals; a dash for None."""
    if value is None:
        return MISSING_FIGURE
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.{digits}f}"


def fitness(value: float | None) -> str:
    """Returns a fitness with one decimal, or none from a hundred thousand on."""
    return number(value, 1 if value is None or abs(value) < 99_999.95 else 0)


def spike_rate(spikes_per_ms: float | None) -> str:
    """Returns the mean rate per neuron [spikes/s], which metrics.jsonl holds per millisecond."""
    return number(None if spikes_per_ms is None else 1000 * spikes_per_ms)


def count(value: float | None) -> str:
    """Returns a whole number with thousands separators; a dash for None."""
    return number(value, 0)


def duration(seconds: float | None) -> str:
    """Returns a length of time in its two largest units; a dash for None."""
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
    """Returns `text`; with `ascii_only`, other characters become `-` or `?`."""
    return text.replace(MISSING_FIGURE, "-").encode("ascii", "replace").decode() if ascii_only else text


def say(console: Console, text: str) -> None:
    """Prints a sentence or a path verbatim and unfolded: `[` or `:100:` in it has no meaning."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
