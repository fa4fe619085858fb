"""The format statistics: what is measured of a network, or of several steps of it, as JSON or csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evoconn_cli.export.analysis.evolution import evolution_as_json
from evoconn_cli.export.analysis.statistics import as_json
from evoconn_cli.export.source import ExportSource


def write_statistics(source: ExportSource, out: Path) -> None:
    """Writes the statistics as csv where `out` ends so, and as JSON otherwise.

    The csv has a line for each number, `generation,statistic,value`; the parts of a name have dots between.
    """
    if out.suffix.lower() != ".csv":
        _write_json(source, out)
        return
    facts = _facts(source)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("generation", "statistic", "value"))
        for step in facts.get("steps", [facts]):
            writer.writerows(
                (step["generation"], name, value)
                for name, value in _numbers(step)
                if name not in ("generation", "policy")
            )


def _write_json(source: ExportSource, out: Path) -> None:
    """Writes the statistics with where the network comes from; of several steps, also what changed between them."""
    text = json.dumps({"provenance": source.provenance, **_facts(source)}, indent=2, allow_nan=False)
    out.write_text(text + "\n", encoding="utf-8")


def _facts(source: ExportSource) -> dict[str, Any]:
    if len(source.connectomes) == 1:
        return as_json(source.statistics[0])
    return evolution_as_json(source.connectomes, source.statistics)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the numbers in a JSON value with their names; what is not defined is left out."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(entry, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value
