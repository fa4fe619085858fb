"""Which runs are below a directory, what is known of them, and which is the latest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from grids import GONE

from evoconn_cli.config.loading import load_config
from evoconn_cli.config.reading import peek
from evoconn_cli.errors import ConfigError, NoRunError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.listing import find_runs, named_run, runs_named, summarize
from evoconn_cli.runs.lock import host_name
from evoconn_cli.runs.metrics import Reached, read_reached

SMOKE = load_config("smoke")
CELL = {"grid": {"name": "grid", "cell": "set-a/seed0", "settings": {}}}


def make(path: str, *, active: float = 0.0, **facts) -> Path:
    """Returns a run without checkpoints that was last written to at a time [s]."""
    run = RunDirectory.create(Path(path), SMOKE, {"status": "created", **facts})
    os.utime(run.facts_file, (active, active))
    return Path(path)


@pytest.fixture(autouse=True)
def in_a_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_runs_are_found_once_at_any_depth_and_nothing_else_is_one():
    made = [make("runs/b"), make("runs/grid/set-a/seed0"), make("runs/mine/c")]
    Path("runs/damaged").mkdir()
    Path("runs/damaged/run.json").write_text("{")
    for other in ("runs/other", "runs/.hidden/run", "runs/empty", "runs/b/copy"):
        Path(other).mkdir(parents=True)
        (Path(other) / "config.yaml").write_text("lr: 1")
    Path("runs/mine/circle").symlink_to("..")
    Path("runs/mine/itself").symlink_to("itself")
    assert find_runs(Path("runs")) == sorted([*made, Path("runs/damaged")])
    assert find_runs(made[0]) == [made[0]]


@pytest.mark.parametrize(
    ("told", "owner", "saved", "expected"),
    [
        ("created", None, [], "waiting"),
        ("running", "this process", [20], "running"),
        ("running", GONE, [20], "stale"),
        ("running", None, [20], "stale"),  # the lock is gone as well
        ("interrupted", None, [20, 40], "saved"),
        ("quit", None, [], "waiting"),
        ("failed", None, [20], "failed"),
        ("finished", None, [100], "finished"),
        ("interrupted", None, [100], "finished"),  # a run that was resumed with fewer generations
    ],
)
def test_the_status_follows_from_lock_facts_and_checkpoints(told, owner, saved, expected):
    path = make("run", status=told)
    for generation in saved:
        (path / "checkpoints" / str(generation)).mkdir(parents=True)
    if owner is not None:
        pid = os.getpid() if owner == "this process" else owner
        (path / "lock").write_text(json.dumps({"pid": pid, "host": host_name(), "since": "now"}))
    run = summarize(path)
    assert (run.status, run.task, run.strategy, run.network) == (expected, "probe_sign", "ec", "conn_snn")
    assert (run.seed, run.generations, run.grid) == (0, 100, None)


@pytest.mark.parametrize("text", [None, "a: [", "task: {name: hopper}", "\x00", "- " * 40_000, "[" * 50_000])
def test_a_run_that_cannot_be_read_is_damaged_and_says_why(text):
    path = make("run")
    (path / "config.yaml").unlink()
    if text is not None:
        (path / "config.yaml").write_text(text)
    run = summarize(path)
    assert run.status == "damaged" and "config.yaml" in run.problem


def test_a_run_that_has_ended_by_itself_is_finished():
    ended = {"by": "algo.patience", "reason": "no better network", "generation": 40}
    path = make("run", status="finished", ended=ended)
    (path / "checkpoints" / "40").mkdir(parents=True)
    assert summarize(path).status == "finished"
    (path / "checkpoints" / "60").mkdir()
    assert summarize(path).status == "saved"


def test_a_cell_knows_its_grid_until_it_is_moved():
    path = make("runs/grid/set-a/seed0", **CELL)
    assert summarize(path).grid == Path("runs/grid").absolute()
    assert summarize(path.rename("runs/mine")).grid is None


def test_what_a_stranger_wrote_into_a_run_hides_no_other():
    path = make("runs/a")
    (path / "run.json").write_text(json.dumps({"grid": {"cell": str(path.absolute())}}))
    text = (path / "config.yaml").read_text().replace("generations: 100", f"generations: {'9' * 400}")
    (path / "config.yaml").write_text(text)
    run = summarize(path)
    assert (run.grid, run.generations) == (None, None)


def test_metrics_are_summed_up_without_what_was_cut_off(tmp_path):
    lines = [
        {"generation": 1, "eval_fitness": 2.5, "seconds": 9.0},
        {"generation": 2, "eval_fitness": -1e-05},
        {"generation": 3, "eval_fitness": 2.5},
        {"generation": 4, "eval_fitness": None, "fitness_max": 99.0},
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"generation": 5, "eval_fitness": 777.1')
    assert read_reached(file) == Reached(generation=4, evaluation=2.5, best=2.5, best_generation=3)
    assert read_reached(tmp_path / "nothing") == Reached()


def test_a_look_into_a_file_finds_the_texts_of_two_levels(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: &x [1, {b: 2}]\nc: *x\nd: {e: 1_0, f: {g: 3}}\nh: 'i: j'\nk:\n")
    found = peek(file)
    assert {key: found[key] for key in ("d.e", "h", "k")} == {"d.e": "1_0", "h": "i: j", "k": ""}
    assert not found.keys() & {"c", "d.f", "d.f.g", "g"}
    with pytest.raises(ConfigError, match="not valid YAML"):
        file.write_text("a: b: c")
        peek(file)


def test_latest_is_the_run_that_was_trained_last():
    with pytest.raises(NoRunError, match="evoconn train"):
        named_run(Path("latest"))
    make("runs/new", active=100.0)
    old = make("runs/mine/old", active=50.0)
    (old / "metrics.jsonl").touch()
    make("runs/grid/set-a/seed0", active=9e9, **CELL)  # no process has started it yet
    assert named_run(Path("latest")) == old
    assert named_run(Path("latest/checkpoints/40")) == old / "checkpoints" / "40"
    assert named_run(Path("runs/latest")) == Path("runs/latest")
    Path("latest").mkdir()
    assert named_run(Path("latest")) == Path("latest")


def test_a_directory_that_is_no_run_names_the_runs_below_it():
    made = [make("runs/a"), make("runs/grid/set-a/seed0", **CELL)]
    assert runs_named(Path("runs")) == made
    assert runs_named(Path("runs/grid")) == made[1:]
    for other in ("runs/a", "runs/a/checkpoints/20", "nowhere"):
        assert runs_named(Path(other)) == [Path(other)]
