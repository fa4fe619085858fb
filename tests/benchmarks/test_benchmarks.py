"""The benchmark runs; what it measures is nobody's promise."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from paths import ROOT

from benchmarks.interleaving import interleave


@pytest.mark.slow
def test_the_benchmark_writes_its_table(tmp_path):
    report = tmp_path / "report.json"
    options = ["--tasks", "probe_sign", "--population", "64", "--processes", "2", "--skip-processes"]
    arguments = [*options, "--json", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["tasks"]["probe_sign"]
    assert {"physics", "network", "network_dense", "sampling", "update", "generation", "baseline"} <= figures.keys()
    assert all(math.isfinite(value) for value in figures.values())
    # The parts are differences of two times, and a small part of a small task may come out as nothing or less.
    assert min(figures["generation"], figures["baseline"], figures["early_steps_20"]) > 0
    assert figures["speedup"] > 0
    assert figures["over_physics_lowest"] <= figures["over_physics"] <= figures["over_physics_highest"]
    assert figures["early_share_counted_10"] <= 1.0
    assert "probe_sign" in done.stdout


def test_a_ratio_does_not_see_that_the_machine_slows_down():
    clock = iter(range(1, 100))

    def takes(seconds: float):
        return lambda: seconds * next(clock)

    times = interleave(takes(6.0), {"physics": takes(2.0)}, repetitions=4)
    assert times.ratios == {"physics": pytest.approx(3.0)}
    assert times.subject == 6.0 * 5 and times.beside == {"physics": 2.0 * 5}
