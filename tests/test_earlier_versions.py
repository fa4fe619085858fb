"""What an earlier version wrote, opened by this one: runs, a grid and a bundle, with the numbers that it gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from saved_runs import files_of

from evoconn_cli.runs.metrics import read_metrics

pytestmark = pytest.mark.slow

WRITTEN = Path(__file__).parent / "golden" / "written_by_03e163f.tar.xz"
LATER = {
    "initial_connectome",
    "target_fitness",
    "patience",
    "max_env_steps",
    "ended_by",
    "initial_certainty",
    "alive_bonus",
    "alive_bonus_generations",
    "shaping_generations",
    "wiring",
    "video_every",
}
"""Keys that the version which wrote the files did not have."""

ROUNDS_ALIKE = "--xla_cpu_max_isa=SSE4_2"
"""Flag of XLA under which both versions simulated. The last bit of a potential decides about a spike, and a fused
multiply-add or another width of vectors changes it, so the newest instructions of a processor give other numbers."""

OF_THE_MACHINE = {"evoconn", "versions", "exported", "seconds", "elapsed", "env_steps_simulated"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    with tarfile.open(WRITTEN) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def evoconn(written):
    """Runs `evoconn` in the directory of the files, and returns its standard output."""
    command = [sys.executable, "-m", "evoconn_cli"]
    environment = {**os.environ, "XLA_FLAGS": ROUNDS_ALIKE, "COLUMNS": "160"}

    def run(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], cwd=written, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def assert_same(found, expected, place: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() - LATER == expected.keys(), place
        for key in expected.keys() - OF_THE_MACHINE:
            assert_same(found[key], expected[key], f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{place}.{index}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5), place
    else:
        assert found == expected, place


@pytest.mark.parametrize("name", ["ec", "es", "bundle"])
def test_runs_and_bundles_evaluate_to_the_same(written, evoconn, name):
    evoconn("evaluate", name, "--episodes", "8", "--json", "again.json")
    assert_same(*(json.loads((written / file).read_text()) for file in ("again.json", f"eval_{name}.json")))


def test_the_statistics_of_a_run_are_the_same(written, evoconn):
    evoconn("export-connectivity", "ec", "--format", "statistics", "--out", "again-stats.json")
    assert_same(*(json.loads((written / name).read_text()) for name in ("again-stats.json", "stats.json")))


def test_a_bundle_verifies(evoconn):
    evoconn("export-connectivity", "bundle", "--verify")


def test_a_grid_is_finished_and_its_report_is_the_same(written, evoconn):
    before, cells = json.loads((written / "grid" / "results.json").read_text()), written / "grid"
    unchanged = {name: file for name, file in files_of(cells).items() if "/seed" in name}
    assert "2 finished" in " ".join(evoconn("launch-grid", "grid.yaml", "--grid-dir", "grid", "--status").split())
    evoconn("launch-grid", "grid.yaml", "--grid-dir", "grid", "--report")
    assert_same(json.loads((cells / "results.json").read_text()), before)
    assert {name: file for name, file in files_of(cells).items() if "/seed" in name} == unchanged


def test_a_resumed_run_goes_on_as_before(written, evoconn):
    before = read_metrics(written / "ec_resumed.jsonl")
    evoconn("resume", "ec", "--from-step", "2")
    after = read_metrics(written / "ec" / "metrics.jsonl")
    assert after[:2] == before[:2]
    assert_same(after[2:], before[2:])
