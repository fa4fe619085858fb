"""Numbers as the engine computes with them: in float32, whose smallest ones XLA takes for 0."""

from __future__ import annotations

import ctypes
import math

LARGEST = (2 - 2**-23) * 2.0**127
SMALLEST = 2.0**-126


def as_float32(value: float) -> float:
    """Returns what becomes of a number in float32: infinity beyond the largest one, 0 below the smallest."""
    held = ctypes.c_float(value).value
    return 0.0 if abs(held) < SMALLEST else held


def float32_problem(value: float) -> str | None:
    """Returns why a number cannot be computed with, as the end of a sentence; None where it can be."""
    if math.isnan(value) or math.isinf(value):
        return "must be a finite number"
    if math.isinf(as_float32(value)):
        return f"must be between -{LARGEST:.7g} and {LARGEST:.7g}, since it is computed with in float32"
    if value and not as_float32(value):
        return f"must be at least {SMALLEST:.7g} in size, or 0, since it is computed with in float32"
    return None
