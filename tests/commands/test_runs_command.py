"""`evoconn runs`: a list that fits the terminal, and the same as JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from evoconn_cli.config.loading import load_config
from evoconn_cli.grid.attempts import record_pruned
from evoconn_cli.runs.directory import RunDirectory

SMOKE = load_config("smoke")


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    """A long name, a run without any evaluation, a damaged one, and a grid with three cells on two tasks."""
    monkeypatch.chdir(tmp_path)
    for name, best in (("probe_sign-ec-001", 12.0), ("an-experiment-with-a-name-that-is-far-too-long", 9.0)):
        run = RunDirectory.create(Path("runs") / name, SMOKE, {"status": "interrupted"})
        run.metrics_file.write_text(
            f'{{"generation": 1, "eval_fitness": {best}}}\n{{"generation": 2, "eval_fitness": 8}}'
        )
        (run.checkpoints / "2").mkdir(parents=True)
        (run.checkpoints / "2" / "state").write_bytes(b"x" * 300_000)
    RunDirectory.create(Path("runs/zero"), SMOKE, {"status": "failed"})
    for number, task in enumerate(("probe_sign", "probe_bias", "probe_bias")):
        cell = f"set-{task}/seed{number}"
        config = load_config("smoke", [f"task.name={task}", f"seed={number}"])
        RunDirectory.create(Path("runs/grid") / cell, config, {"status": "created", "grid": {"cell": cell}})
    (Path("runs") / "damaged").mkdir()
    (Path("runs") / "damaged" / "run.json").write_text("{")


def table(out: str) -> dict[str, str]:
    return {line.split()[0]: line for line in out.splitlines() if line.strip()}


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_the_table_fits_and_always_has_name_and_status(evoconn, monkeypatch, width):
    monkeypatch.setattr("evoconn_cli.commands.terminal._FILE_WIDTH", 0)
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, err = evoconn("runs")
    assert (code, err) == (0, "")
    shown, _, problems = out.partition("damaged: ")
    assert max(map(len, shown.splitlines())) <= width
    rows = table(out)
    assert any(name.startswith("probe_sign-ec") and "saved" in row for name, row in rows.items())
    assert "failed" in rows["zero"] and "damaged" in rows["damaged"]
    assert "run.json" not in problems and "config.yaml" in problems


def test_a_wide_table_says_everything(evoconn):
    _, out, _ = evoconn("runs", "--sort", "size")
    rows = table(out)
    assert rows["probe_sign-ec-001"].split()[1:9] == [
        "probe_sign", "ec", "conn_snn", "0", "2/100", "8.0", "12.0", "saved",
    ]  # fmt: skip
    assert "2 tasks" in rows["grid"] and "3 seeds" in rows["grid"] and "0/3 cells" in rows["grid"]
    assert " kB" in rows["probe_sign-ec-001"]
    assert "7 runs, 3 of them in 1 grid: 1 damaged, 1 failed, 2 saved, 3 waiting" in out
    assert list(rows).index("probe_sign-ec-001") < list(rows).index("zero")


def test_a_grid_shows_its_cells(evoconn):
    _, out, _ = evoconn("runs", "runs/grid", "--sort", "task", "--limit", "2")
    assert {name for name in table(out) if "/seed" in name} == {"set-probe_bias/seed1", "set-probe_bias/seed2"}
    assert "1 more line" in out


def test_cells_that_a_search_has_ended_are_pruned(evoconn):
    cell = Path("runs/grid/set-probe_sign/seed0")
    (cell / "checkpoints" / "2").mkdir(parents=True)
    record_pruned(cell)
    assert "pruned" in table(evoconn("runs", "runs/grid")[1])["set-probe_sign/seed0"]


def test_the_best_come_first_and_runs_without_evaluation_last(evoconn):
    _, out, _ = evoconn("runs", "--sort", "best")
    names = list(table(out))[2:]
    assert names[:2] == ["probe_sign-ec-001", "an-experiment-with-a-name-that-is-far-too-long"]


def test_json_lists_every_run_with_its_numbers(evoconn):
    code, out, _ = evoconn("runs", "--json", "-")
    found = {one["run"]: one for one in json.loads(out)["runs"]}
    assert code == 0 and len(found) == 7
    one = found["runs/probe_sign-ec-001"]
    assert (one["best"], one["best_generation"], one["last"], one["generation"]) == (12.0, 1, 8.0, 2)
    assert one["size"] > 300_000 and time.strptime(one["active"], "%Y-%m-%dT%H:%M:%S%z")
    assert found["runs/grid/set-probe_sign/seed0"]["grid"] == "runs/grid"
    assert found["runs/damaged"]["status"] == "damaged" and found["runs/damaged"]["problem"]
    evoconn("runs", "--json", "all.json")
    assert {one["run"] for one in json.loads(Path("all.json").read_text())["runs"]} == found.keys()


def test_nothing_to_list_is_no_error_but_a_missing_directory_is(evoconn, monkeypatch, tmp_path):
    assert "cannot access nowhere" in evoconn("runs", "nowhere")[2]
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    code, out, _ = evoconn("runs")
    assert code == 0 and "evoconn train" in out
    assert json.loads(evoconn("runs", "--json", "-")[1])["runs"] == []


def test_sizes_that_take_too_long_are_left_out(evoconn, monkeypatch):
    monkeypatch.setattr("evoconn_cli.commands.runs._MEASURING", -1.0)
    _, out, _ = evoconn("runs")
    assert "--sort size" in out and "kB" not in out
    assert "kB" in evoconn("runs", "--sort", "size")[1]
