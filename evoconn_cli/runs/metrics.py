"""Reads and writes metrics.jsonl, which has one line per generation."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.output import finite_json, replace_text

MetricsLine: TypeAlias = dict[str, float | int | None]
"""Metrics of one generation; None stands for a value that is not a finite number."""

_END = 16 * 1024
"""Length of the end of a file in which its last line is looked for [bytes]."""


def read_metrics(path: Path, up_to: int | None = None, after: int = 0) -> list[MetricsLine]:
    """Returns the lines of `path`; none if there is no file.

    Lines that were cut off when their process died, or that another program wrote, are left out.

    Args:
        path: File to read.
        up_to: Last generation to return; None for all.
        after: Generation before the first one to return.

    Raises:
        RunDirectoryError: the file cannot be read.
    """
    lines = parse_lines(_content(path).decode(errors="replace"))
    return [line for line in lines if after < (line["generation"] or 0) <= (math.inf if up_to is None else up_to)]


def parse_lines(text: str) -> list[MetricsLine]:
    """Returns the complete lines in a part of metrics.jsonl."""
    return [line for part in text.splitlines() if (line := _parse(part)) is not None]


class Reached(NamedTuple):
    """How far a run is, from its metrics.jsonl."""

    generation: int = 0
    evaluation: float | None = None  # last evaluation fitness
    best: float | None = None  # highest one
    best_generation: int | None = None


_EVALUATION = re.compile(rb'"eval_fitness": *(-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?) *[,}]')


def read_reached(path: Path) -> Reached:
    """Returns how far a run is, without parsing every line of `path`; nothing is done if there is no file.

    Raises:
        RunDirectoryError: the file cannot be read.
    """
    data = _content(path)
    lines = parse_lines(data[-_END:].decode(errors="replace"))
    generation = int(lines[-1]["generation"] or 0) if lines else 0
    found = [(float(match[1]), match.start()) for match in _EVALUATION.finditer(data)]
    if not found:
        return Reached(generation)
    best, place = max(found)
    of_best = parse_lines(data[data.rfind(b"\n", 0, place) + 1 :].partition(b"\n")[0].decode(errors="replace"))
    return Reached(generation, found[-1][0], best, int(of_best[0]["generation"] or 0) if of_best else None)


def write_metrics(lines: Iterable[MetricsLine], path: Path) -> None:
    """Replaces the content of `path`.

    Raises:
        OSError: it cannot be written and keeps its content.
    """
    replace_text(path, "".join(map(_to_text, lines)))


class MetricsFile:
    """The metrics.jsonl of a run that resumes after generation `start`; later lines are dropped.

    Attributes:
        history: Lines of the file.

    Raises:
        RunDirectoryError: the file cannot be written and keeps its content.
    """

    def __init__(self, path: Path, start: int = 0):
        try:
            self.history = read_metrics(path, up_to=start)
            write_metrics(self.history, path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise RunDirectoryError(f"cannot write {path}: {error.strerror}.") from None

    def append(self, line: Mapping[str, Any]) -> MetricsLine:
        """Writes the metrics of one generation and returns them as written.

        Raises:
            OSError: it cannot be written.
        """
        finite = finite_json(dict(line))
        self._file.write(_to_text(finite))
        self._file.flush()
        self.history.append(finite)
        return finite

    def flush(self) -> None:
        """Flushes all lines to the disk, to survive a power failure.

        Raises:
            OSError: they cannot be written.
        """
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _content(path: Path) -> bytes:
    """Returns the content of a file; nothing if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}.") from None


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
    return finite_json(float(text))


def _to_text(line: MetricsLine) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
