"""metrics.jsonl: one line a generation."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.output import replace_text

MetricsLine: TypeAlias = dict[str, float | int | None]
"""One generation; None stands for a value that is not a finite number."""


def read_metrics(path: Path, up_to: int | None = None, after: int = 0) -> list[MetricsLine]:
    """Returns the lines of `path`; none if there is no file.

    Lines that were cut off when their process died, or that something else wrote, are left out.

    Args:
        path: of the file.
        up_to: last generation wanted; None for all.
        after: generation before the first one wanted.

    Raises:
        RunDirectoryError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}.") from None
    lines = parse_lines(text)
    return [line for line in lines if after < (line["generation"] or 0) <= (math.inf if up_to is None else up_to)]


def parse_lines(text: str) -> list[MetricsLine]:
    """Returns the lines of a part of metrics.jsonl that are whole."""
    return [line for part in text.splitlines() if (line := _parse(part)) is not None]


def write_metrics(lines: Iterable[MetricsLine], path: Path) -> None:
    """Replaces the content of `path`.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    replace_text(path, "".join(map(_to_text, lines)))


class MetricsFile:
    """The metrics.jsonl of a run that goes on after generation `start`; later lines are dropped.

    Attributes:
        history: the lines that the file holds.

    Raises:
        RunDirectoryError: the file cannot be written; it stays as it is.
    """

    def __init__(self, path: Path, start: int = 0):
        try:
            self.history = read_metrics(path, up_to=start)
            write_metrics(self.history, path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise RunDirectoryError(f"cannot write {path}: {error.strerror}.") from None

    def append(self, line: Mapping[str, Any]) -> MetricsLine:
        """Writes one generation and returns it as written.

        Raises:
            OSError: it cannot be written.
        """
        finite = {name: _finite_or_none(value) for name, value in line.items()}
        self._file.write(_to_text(finite))
        self._file.flush()
        self.history.append(finite)
        return finite

    def flush(self) -> None:
        """Has all lines written to the disk, where they survive that the power fails.

        Raises:
            OSError: they cannot be written.
        """
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _parse(text: str) -> MetricsLine | None:
    try:
        line = json.loads(text, parse_constant=_number, parse_float=_number)
    except (ValueError, RecursionError):
        return None
    known = isinstance(line, dict) and all(map(_is_number_or_none, line.values()))
    return line if known and type(line.get("generation")) is int else None


def _is_number_or_none(value: object) -> bool:
    return value is None or (
        isinstance(value, (int, float)) and type(value) is not bool and abs(value) <= sys.float_info.max
    )


def _number(text: str) -> float | None:
    return _finite_or_none(float(text))


def _finite_or_none(value: float | int | None) -> float | int | None:
    return None if value is None or not math.isfinite(value) else value


def _to_text(line: MetricsLine) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
