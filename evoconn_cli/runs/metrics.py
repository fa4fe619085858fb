"""metrics.jsonl: one line a generation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

MetricsLine: TypeAlias = dict[str, float | int | None]
"""One generation; None stands for a value that is not a finite number."""


def read_metrics(path: Path, up_to: int | None = None) -> list[MetricsLine]:
    """Returns the lines of `path`, those of generations beyond `up_to` left out; none if there is no file.

    A line that was cut off when its process died ends the list.
    """
    lines: list[MetricsLine] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if up_to is None or line["generation"] <= up_to:
            lines.append(line)
    return lines


class MetricsFile:
    """The metrics.jsonl of a run that goes on after generation `start`; later lines are dropped.

    Attributes:
        history: the lines that the file holds.
    """

    def __init__(self, path: Path, start: int = 0):
        self.history = read_metrics(path, up_to=start)
        partial = path.with_suffix(".partial")
        partial.write_text("".join(_to_text(line) for line in self.history), encoding="utf-8")
        partial.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, line: Mapping[str, Any]) -> MetricsLine:
        """Writes one generation and returns it as written."""
        finite = {name: _finite_or_none(value) for name, value in line.items()}
        self._file.write(_to_text(finite))
        self._file.flush()
        self.history.append(finite)
        return finite

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _finite_or_none(value: float | int | None) -> float | int | None:
    return None if value is None or not math.isfinite(value) else value


def _to_text(line: MetricsLine) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
