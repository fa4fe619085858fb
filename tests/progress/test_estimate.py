from __future__ import annotations

import json

import pytest
from paths import ROOT
from typer.testing import CliRunner

from evoconn_cli.app import app
from evoconn_cli.config.loading import load_config
from evoconn_cli.progress import estimate
from evoconn_cli.progress.estimate import MEMORY, THIS_MACHINE, Expected, expected, expected_in_all, remember
from evoconn_cli.progress.history import Metrics

PAPER = 10_240 * 1_000 * 1_000  # environment steps
TABLE = {
    "machine": "AMD EPYC",
    "cores": 2,
    "neurons": 256,
    "tasks": {"hopper": 3.0, "ant": 7.0},
    "networks": {"gru": {"hopper": 5.0, "humanoid": 9.0}},
}


@pytest.fixture(autouse=True)
def table(tmp_path_factory, monkeypatch):
    """A table of made-up times, and a cache of this test's own."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "table.json").write_text(json.dumps(TABLE))
    monkeypatch.setattr(estimate, "STEP_TIMES", folder / "table.json")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    return folder


def seconds(preset, overrides=(), cores=2, done=0):
    found = expected(load_config(preset, list(overrides)), cores, done)
    return None if found is None else found.seconds


def test_the_shipped_table_has_what_an_estimate_needs():
    shipped = json.loads((ROOT / "evoconn_cli" / "progress" / "step_times.json").read_text())
    assert shipped.keys() == TABLE.keys() and {"hopper", "walker2d", "humanoid"} <= shipped["tasks"].keys()
    report = json.loads((ROOT / "docs" / "benchmark.json").read_text())
    assert {task: found["memory_10240"] for task, found in report["tasks"].items()} == MEMORY


def test_a_run_takes_its_steps_times_the_measured_time_on_as_many_cores():
    paper = ["task.name=hopper"]
    assert seconds("paper", paper) == pytest.approx(PAPER * 3e-6)
    assert seconds("paper", paper, cores=8) == pytest.approx(PAPER * 3e-6 / 4)
    assert seconds("paper", paper, done=900) == pytest.approx(PAPER * 3e-7)
    assert seconds("paper", paper, done=1001) == 0


def test_another_network_adds_its_time_at_this_task_or_the_largest_of_those_measured():
    gru = ["algo.name=es", "network.name=gru", "network.num_neurons=128"]
    assert seconds("paper", ["task.name=hopper", *gru]) == pytest.approx(PAPER * 8e-6)
    assert seconds("paper", ["task.name=ant", *gru]) == pytest.approx(PAPER * 16e-6)


def test_a_limit_of_steps_shortens_a_run_that_has_far_more():
    limited = ["task.name=hopper", "algo.max_env_steps=100000000"]
    assert seconds("paper", limited) == pytest.approx(2.2 * 110_240_000 * 3e-6)
    assert seconds("paper", [*limited, "algo.generations=2"]) == pytest.approx(2 * 10_240_000 * 3e-6)


def lines(first: int, last: int, us_per_step: float) -> list[Metrics]:
    steps = 512_000
    return [
        {"generation": n, "seconds": steps * us_per_step * 1e-6, "env_steps_simulated": steps * n}
        for n in range(first, last + 1)
    ]


def test_the_last_run_on_this_machine_counts_more_than_the_table(table):
    trained, other = load_config("laptop", ["engine.block=64", "seed=3"]), load_config("laptop", ["network.wiring=0.5"])
    remember(trained, 4, lines(1, 5, 10.0))
    assert expected(trained, 2) == expected(other, 2)  # five generations are too few, and the first is not known
    remember(trained, 4, lines(1, 6, 10.0))
    assert not list(table.glob("*.tmp*"))
    longer = load_config("laptop", ["algo.generations=1000", "algo.learning_rate=0.2"])
    assert expected(longer, 2) == Expected(pytest.approx(512_000_000 * 10e-6 * 2), THIS_MACHINE)
    remember(trained, 2, lines(40, 50, 4.0))
    assert seconds("laptop", ["algo.generations=1000"]) == pytest.approx(512_000_000 * 4e-6)
    assert seconds("laptop", ["network.wiring=0.5"]) == pytest.approx(61_440_000 * 3e-6)
    assert expected(trained, 2, gpus="1 x NVIDIA H200") is None
    remember(trained, 2, lines(1, 9, 0.5), gpus="1 x NVIDIA H200")
    on_gpu = expected(trained, 2, gpus="1 x NVIDIA H200")
    assert on_gpu is not None and on_gpu.seconds == pytest.approx(61_440_000 * 0.5e-6)


def test_what_cannot_be_read_or_written_is_not_remembered(table, monkeypatch):
    (table / "evoconn-step-times.json").write_text("[1")
    assert seconds("laptop") == pytest.approx(61_440_000 * 3e-6)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(table / "missing"))
    remember(load_config("laptop"), 2, lines(1, 9, 10.0))
    assert seconds("laptop") == pytest.approx(61_440_000 * 3e-6)
    remember(load_config("laptop"), 2, [])


@pytest.mark.parametrize(
    "other",
    ["network.num_neurons=257", "network.dt_ms=0.25", "rollout.warmup_steps=9", "task.name=fetch", "algo.name=es"]
    + ["task.action_repeat=2"],
)
def test_nothing_is_said_about_what_was_not_measured(other):
    assert seconds("laptop") is not None
    assert seconds("laptop", [other]) is None


def test_a_sentence_about_several_runs_counts_those_at_once_and_those_unknown():
    def sentence(times, *numbers):
        return expected_in_all([Expected(seconds, "here") for seconds in times], *numbers)

    assert "at most about 40 s in all, 2 at once on 1 core each (here)" in sentence([20.0, 40.0, 20.0], 3, 1, 2)
    assert "at most about 50 s in all" in sentence([50.0, 2.0], 2, 1, 2)  # the longest
    some = sentence([40.0], 3, 4, 2)
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
    assert rows["training time"].startswith("at most about 1 min 32 s on 4 CPU cores (AMD EPYC), less")
    assert rows["memory"].startswith("about 841 MB")
    assert "algo.learning_rate=0.1" in rows["changed keys"] and "'tracking.tags=a b'" in rows["changed keys"]
    assert "seed" not in rows["changed keys"]
    assert rows["run"] == "runs/hopper-ec-001 (not created)"
    assert "unknown: this task" in dry_run("--config", "smoke").output


def test_a_dry_run_fails_as_the_run_would(tmp_path):
    (tmp_path / "full").write_text("")
    done = dry_run("--config", "smoke", "--run-dir", str(tmp_path))
    assert done.exit_code and "is not empty" in str(done.exception or done.output)


def test_a_training_is_remembered(tmp_path, monkeypatch, evoconn, light):
    monkeypatch.chdir(tmp_path)
    assert "unknown: this task" in dry_run("--config", "smoke").output
    assert evoconn("train", "--config", "smoke", "--generations", "6")[0] == 0
    assert f"({THIS_MACHINE}), less while" in dry_run("--config", "smoke", "--seed", "4").output
