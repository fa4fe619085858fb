"""Findings of a step of `benchmarks.gpu_check`, as lines of its output that the check reads."""

from __future__ import annotations

import contextlib
import json
import math
import traceback
from collections.abc import Callable, Iterator
from typing import Any

_FINDING, _MACHINE = "@finding ", "@machine "

NO_GPU = 3
"""Exit code of a step that finds no GPU."""


def report(what: str, **figures: Any) -> None:
    """Adds a finding to the report at once: what is printed is kept also if the step is cut off later."""
    print(_FINDING + json.dumps({"what": what, **{name: _plain(value) for name, value in figures.items()}}), flush=True)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    return value


@contextlib.contextmanager
def part_of_step(what: str) -> Iterator[None]:
    """Reports the failure of one part of a step; the parts after it run all the same."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        report(what, error=f"{type(error).__name__}: {str(error).strip()[:300]}")


def report_machine(description: str) -> None:
    """Reports what the step runs on."""
    print(_MACHINE + json.dumps(description), flush=True)


def read_finding(line: str, finding: Callable[[dict[str, Any]], None], machine: Callable[[str], None]) -> bool:
    """Passes on what a line of a step's output reports; returns False if it reports nothing."""
    for beginning, take in {_FINDING: finding, _MACHINE: machine}.items():
        if line.startswith(beginning):
            take(json.loads(line.removeprefix(beginning)))
            return True
    return False
