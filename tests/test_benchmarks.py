"""The benchmark runs; what it measures is nobody's promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_benchmark_writes_its_table(tmp_path):
    report = tmp_path / "report.json"
    arguments = ["--tasks", "probe_sign", "--population", "64", "--json", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["figures"]["probe_sign"]
    assert figures.keys() == {"physics, vmap", "physics", "network", "generation", "compile [s]"}
    assert all(value > 0 for value in figures.values())
    assert "probe_sign" in done.stdout
