"""Numbers as the configuration has them: written as in YAML 1.2, computed with in float32."""

from __future__ import annotations

import ctypes
import math
import re

LARGEST = (2 - 2**-23) * 2.0**127
SMALLEST = 2.0**-126

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
"""Source: YAML 1.2.2, 10.3.2 Tag Resolution, the core schema."""


def read_number(text: str) -> int | float | None:
    """Returns the number that `text` is in the core schema of YAML 1.2, None for anything else."""
    if _INT.fullmatch(text):
        try:
            return int(text, 0 if text.startswith(("0o", "0x")) else 10)
        except ValueError:  # thousands of digits
            return None
    return float(re.sub(r"\.(inf|nan)", r"\1", text.lower())) if _FLOAT.fullmatch(text) else None


def read_float(text: str) -> float | None:
    """Returns the number that `text` is, as `read_number` does, as a float."""
    number = read_number(text.strip())
    try:
        return None if number is None else float(number)
    except OverflowError:
        return math.inf


def as_float32(value: float) -> float:
    """Returns a number rounded to float32: infinity beyond the largest one, 0 below the smallest."""
    held = ctypes.c_float(value).value
    return 0.0 if abs(held) < SMALLEST else held


def float32_problem(value: float) -> str | None:
    """Returns why float32 cannot hold a number, as the end of a sentence; None if it can."""
    if math.isnan(value) or math.isinf(value):
        return "must be a finite number"
    if math.isinf(as_float32(value)):
        return f"must be between -{LARGEST:.7g} and {LARGEST:.7g}, since it is computed with in float32"
    if value and not as_float32(value):
        return f"must be at least {SMALLEST:.7g} in size, or 0, since it is computed with in float32"
    return None
