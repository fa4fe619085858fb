from __future__ import annotations

import json

import pytest
from paths import ROOT
from typer.testing import CliRunner

from evoconn_cli.app import app
from evoconn_cli.config.loading import load_config
from evoconn_cli.progress.estimate import MEASURED, MEASURED_CORES, MEASURED_ON, expected_in_all, seconds_at_most

PAPER = 10_240 * 1_000 * 1_000  # environment steps


def test_the_figures_are_those_of_the_published_benchmark():
    report = json.loads((ROOT / "docs" / "benchmark.json").read_text())
    assert report["machine"].startswith(f"{MEASURED_ON}, {MEASURED_CORES} x cpu")
    published = {task: (found["generation"], found["memory_10240"]) for task, found in report["tasks"].items()}
    assert published == MEASURED


def test_a_run_takes_its_steps_times_the_measured_time_on_as_many_cores():
    paper = load_config("paper", ["task.name=hopper"])
    assert seconds_at_most(paper, 2) == pytest.approx(PAPER * 3.39e-6)
    assert seconds_at_most(paper, 8) == pytest.approx(PAPER * 3.39e-6 / 4)
    assert seconds_at_most(paper, 2, done=900) == pytest.approx(PAPER * 3.39e-7)
    assert seconds_at_most(paper, 2, done=1001) == 0


def test_a_limit_of_steps_shortens_a_run_that_has_far_more():
    limited = ["task.name=hopper", "algo.max_env_steps=100000000"]
    assert seconds_at_most(load_config("paper", limited), 2) == pytest.approx(2.2 * 110_240_000 * 3.39e-6)
    short = load_config("paper", [*limited, "algo.generations=2"])
    assert seconds_at_most(short, 2) == pytest.approx(2 * 10_240_000 * 3.39e-6)


@pytest.mark.parametrize(
    "other",
    ["network.num_neurons=257", "network.dt_ms=0.25", "rollout.warmup_steps=9", "task.name=ant", "algo.name=es"]
    + ["task.action_repeat=2"],
)
def test_nothing_is_said_about_what_was_not_measured(other):
    assert seconds_at_most(load_config("laptop"), 2) is not None
    assert seconds_at_most(load_config("laptop", [other]), 2) is None


def test_a_sentence_about_several_runs_counts_those_at_once_and_those_unknown():
    assert "at most about 40 s in all, 2 at once on 1 core each" in expected_in_all([20.0, 40.0, 20.0], 3, 1, 2)
    assert "at most about 50 s in all" in expected_in_all([50.0, 2.0], 2, 1, 2)  # the longest
    some = expected_in_all([40.0], 3, 4, 2)
    assert "40 s in all, without 2 that were not measured, 2 at once on 4 cores each" in some


def dry_run(*arguments: str):
    return CliRunner().invoke(app, ["train", *arguments, "--dry-run"], env={"COLUMNS": "300"})


def test_a_dry_run_shows_what_a_run_would_be_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = dry_run("--config", "laptop", "--devices", "4", "algo.patience=30", "tracking.tags=a b")
    assert done.exit_code == 0 and not list(tmp_path.iterdir())
    rows = {line[:15].strip(): line[15:].strip() for line in done.output.splitlines()}
    assert rows["generations"] == "120, fewer with algo.patience=30"
    assert rows["steps"] == "at most 512,000 per generation, 61,440,000 in all"
    assert rows["training time"].startswith("at most about 1 min 44 s on 4 CPU cores (AMD EPYC), less")
    assert rows["memory"].startswith("about 841 MB")
    assert "algo.learning_rate=0.1" in rows["changed keys"] and "'tracking.tags=a b'" in rows["changed keys"]
    assert "seed" not in rows["changed keys"]
    assert rows["run"] == "runs/hopper-ec-001 (not created)"
    assert "unknown: this task" in dry_run("--config", "smoke").output


def test_a_dry_run_fails_as_the_run_would(tmp_path):
    (tmp_path / "full").write_text("")
    done = dry_run("--config", "smoke", "--run-dir", str(tmp_path))
    assert done.exit_code and "is not empty" in str(done.exception or done.output)
