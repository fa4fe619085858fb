"""Sections with measured figures, from docs/benchmark.json, which `make bench` writes, and the records of the zoo."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import markdown
from tools import zoo
from tools.reference.markdown import table

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "benchmark.json"
PAGES = ("README.md", "docs/performance.md", "docs/reproducing.md", "docs/zoo.md")
MARKED = re.compile(r"(<!-- figures: (\w+), written by `make docs` -->\n).*?(<!-- end -->)", re.DOTALL)

_README = {
    "whole generation, µs per environment step and member": ("generation", 1),
    "baseline generation, µs": ("baseline", 0),
    "speed-up, full episodes": ("speedup", 1),
    "speed-up, first 10 generations": ("early_speedup_10", 0),
    "speed-up, first 20 generations": ("early_speedup_20", 0),
    "peak memory of 10,240 members above the bare process [MB]": ("memory_10240", 0),
}
_PUBLISHED_STEPS = 10_240 * 1_000 * 1_000  # members, generations, steps of an episode


def pages_with_figures() -> dict[str, str]:
    """Returns the text of every page that has such sections, by its path in the repository."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    sections = {"all": markdown(report), "summary": _summary(report), "estimates": _estimates(report)}
    sections |= {"zoo": zoo.results(), "commands": zoo.commands()}

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}\n{sections[found[2]].strip()}\n\n{found[3]}"

    return {name: MARKED.sub(fill, (ROOT / name).read_text(encoding="utf-8")) for name in PAGES}


def _summary(report: Mapping[str, Any]) -> str:
    tasks = report["tasks"]
    rows = [
        (label, *(f"{figures[name]:,.{digits}f}" for figures in tasks.values()))
        for label, (name, digits) in _README.items()
    ]
    measured = f"{report['machine']}, {report['population']} members, {report['date']}:"
    return f"{measured}\n\n{_with_numbers(('', *tasks), rows)}"


def _estimates(report: Mapping[str, Any]) -> str:
    """Returns how long a published run would take at the measured speed of a generation."""
    rows = []
    for task, figures in report["tasks"].items():
        hours = figures["generation"] * 1e-6 * _PUBLISHED_STEPS / 3600
        rows.append((task, f"{figures['generation']:.2f}", f"{hours:.0f} hours", f"{3 * hours / 24:.1f} days"))
    lines = _with_numbers(("task", "µs per step and member", "one run", "three seeds"), rows)
    return f"{report['machine']}:\n\n{lines}"


def _with_numbers(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Returns a table whose columns but the first are aligned right."""
    lines = table(titles, rows).splitlines()
    return "\n".join([lines[0], "|---|" + "---:|" * (len(titles) - 1), *lines[2:]])
