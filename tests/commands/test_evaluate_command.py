"""`evoconn evaluate` as a user types it: what it prints, what it writes, and how it says what is wrong."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from saved_runs import files_of, save_run

from evoconn_cli.config.perturbations import KINDS
from evoconn_cli.evaluation.statistics import interquartile_mean
from evoconn_cli.runs.directory import RunDirectory


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one configuration and another network."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "first": save_run(folder / "first", "task.name=probe_steps"),
        "second": save_run(folder / "second", "task.name=probe_steps", "seed=1"),
        "mlp": save_run(folder / "mlp", "task.name=probe_steps", "network.name=mlp"),
    }
    return {name: str(path) for name, path in made.items()}


@pytest.fixture
def evoconn(evoconn, monkeypatch, tmp_path):
    """Runs the command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(evoconn, "evaluate")


@pytest.mark.slow
def test_a_run_is_evaluated_without_any_other_flag(evoconn, runs):
    before = files_of(Path(runs["first"]))
    code, out, _ = evoconn(runs["first"], "--episodes", "12")
    assert code == 0 and files_of(Path(runs["first"])) == before
    for text in ("probe_steps, conn_snn of 40 neurons, ec", "interquartile mean", "quartiles", "effective ACs"):
        assert text in out
    assert "12, seed 0" in out and "of 12 episodes" in out


def test_a_damaged_latest_checkpoint_is_passed_over_and_said(evoconn, runs, tmp_path):
    copy = shutil.copytree(runs["first"], tmp_path / "copy")
    for file in (copy / "checkpoints" / "6" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    code, out, err = evoconn(str(copy), "--episodes", "4", "--json", "-")
    assert code == 0 and json.loads(out)["evaluations"][0]["generation"] == 4
    assert "Notice: " in err and "generation 6" in err
    code, _, err = evoconn(str(copy), "--episodes", "4", "--step", "6")
    assert code == 1 and "Error: " in err and "damaged" in err


@pytest.mark.slow
def test_json_and_csv_hold_the_same_episodes(evoconn, runs, tmp_path):
    code, out, err = evoconn(
        runs["first"], "--step", "best", "--episodes", "20", "--seed", "7", "--json", "-", "--csv", "deep/e.csv",
        "--energy", "45nm", "--perturb", "obs-noise=0.1",
    )  # fmt: skip
    assert code == 0
    document = json.loads(out)
    assert "probe_steps" in err
    (one,) = document["evaluations"]
    assert (one["generation"], one["task"], one["perturbations"]) == (4, "probe_steps", {"obs-noise": 0.1})
    assert (document["policy"], document["seed"], document["aggregates"]) == ("deterministic", 7, [])
    with (tmp_path / "deep" / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["episode"]) for row in rows] == list(range(20))
    assert {(row["generation"], row["seed"], row["obs-noise"]) for row in rows} == {("4", "7", "0.1")}
    returns = np.array([float(row["return"]) for row in rows])
    assert one["return"]["mean"] == pytest.approx(returns.mean())
    assert one["return"]["iqm"] == pytest.approx(interquartile_mean(returns))
    assert one["return"]["std"] == pytest.approx(returns.std(ddof=1))
    assert one["return"]["iqm_interval"][0] <= one["return"]["iqm"] <= one["return"]["iqm_interval"][1]
    assert one["ended_early"] == sum(int(row["ended_early"]) for row in rows)
    assert one["length"]["maximum"] == max(int(row["length"]) for row in rows) <= one["length"]["limit"] == 8
    step = one["per_step"]
    assert step["energy_nj"] == pytest.approx((0.9 * step["effective_acs"] + 4.6 * step["effective_macs"]) / 1000)


@pytest.mark.slow
def test_the_same_command_gives_the_same_numbers(evoconn, runs):
    first, again, other = (
        json.loads(evoconn(runs["first"], "--episodes", "6", "--json", "-", "--policy", "sampled", *more)[1])
        for more in ((), (), ("--seed", "1"))
    )
    assert first == again != other


@pytest.mark.slow
def test_what_is_not_a_number_is_null(evoconn, tmp_path):
    run = save_run(tmp_path / "nan", "task.name=probe_nan", eval_fitness={1: 0.0})
    for seed in range(20):  # Sampled policies act at random, so that some episode is soon without a return
        _, out, err = evoconn(str(run), "--episodes", "1", "--json", "-", "--policy", "sampled", "--seed", str(seed))
        one = json.loads(out, parse_constant=pytest.fail)["evaluations"][0]
        if one["return"]["failed"]:
            break
    assert one["return"]["failed"] == 1 and one["return"]["mean"] is one["return"]["iqm"] is None
    assert one["return"]["iqm_interval"] is None
    assert "1 episode, left out" in err
    code, out, _ = evoconn(*[str(run), "--policy", "sampled", "--episodes", "30", "--perturb", "obs-noise=0,1"])
    assert code == 0 and "number" in out


@pytest.mark.slow
def test_a_sweep_makes_a_table_and_a_curve(evoconn, runs, tmp_path):
    run = shutil.copytree(runs["first"], tmp_path / "copy")
    code, out, _ = evoconn("copy", "--episodes", "4", "--perturb", "lesion-neurons=0,0.25,0.5")
    assert code == 0
    curve = run / "plots" / "lesion-neurons-sweep.png"
    with Image.open(curve) as picture:
        assert picture.size == (900, 600)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    assert "curve: copy/plots/lesion-neurons-sweep.png" in out
    lines = [line.split() for line in out.splitlines()]
    assert sum(line[:1] in (["0"], ["0.25"], ["0.5"]) for line in lines) == 6


@pytest.mark.slow
def test_perturbations_may_stand_among_the_runs(evoconn, runs):
    arguments = ["--episodes", "3", "--json", "-"]
    _, spread, _ = evoconn(runs["first"], *arguments, "--perturb", "obs-noise=0.2", "lesion-synapses=0.1")
    _, repeated, _ = evoconn(
        runs["first"], *arguments, "--perturb", "obs-noise=0.2", "--perturb", "lesion-synapses=0.1"
    )
    assert json.loads(spread) == json.loads(repeated)
    assert json.loads(spread)["evaluations"][0]["perturbations"] == {"obs-noise": 0.2, "lesion-synapses": 0.1}


@pytest.mark.slow
def test_several_runs_are_compared_and_put_together(evoconn, runs):
    code, out, _ = evoconn(*runs.values(), "--episodes", "5", "--json", "results.json")
    assert code == 0
    assert "1  " in out and "mlp of 40, es, seed 0" in out and "runs together" in out and "2 × probe_steps" in out
    with open("results.json") as file:
        document = json.load(file)
    assert [one["run_seed"] for one in document["evaluations"]] == [0, 1, 0]
    # Lengths of this task follow from the initial state alone, which is the same for every run.
    assert len({str(one["length"]) for one in document["evaluations"]}) == 1
    (together,) = document["aggregates"]
    means = [one["return"]["mean"] for one in document["evaluations"][:2]]
    assert together["iqm"] == pytest.approx(np.mean(means))
    assert together["iqm_interval"] == pytest.approx(sorted(means))
    mlp = document["evaluations"][2]["per_step"]
    assert mlp["activation_sparsity"] is None and mlp["effective_acs"] == 0


def test_a_run_that_is_named_twice_counts_once(evoconn, runs):
    _, out, _ = evoconn(runs["first"], f"{runs['first']}/checkpoints/6", "--episodes", "2", "--json", "-")
    assert len(json.loads(out)["evaluations"]) == 1


@pytest.mark.slow
def test_learning_curves_are_drawn_without_evaluating(evoconn, runs):
    for suffix, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        code, out, _ = evoconn(*runs.values(), "--episodes", "0", "--plot", f"c{suffix}", "--plot-x", "env-steps")
        assert (code, out) == (0, f"learning curves: c{suffix}\n")
        with open(f"c{suffix}", "rb") as file:
            assert file.read(5).startswith(start)
    assert sorted(os.listdir()) == ["c.pdf", "c.png", "c.svg"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--perturb", "obs-noize=1"], 2, "Did you mean 'obs-noise'"),
        (["--perturb", "gravity=2"], 2, "no physics"),
        (["--curve", "c.png"], 2, "--curve draws a sweep"),
        (["--plot", "c.jpeg"], 2, "End the name with .png"),
        (["--csv", "."], 2, "is a directory"),
        (["--json", f"{sys.executable}/y.json"], 2, "is a file, not a directory"),
        (["--episodes", "0"], 2, "leaves nothing to do"),
        (["--episodes", "0", "--plot", "p.png", "--json", "-", "--csv", "e.csv"], 2, "leave --json and --csv out"),
        (["--step", "4,"], 2, "a name is missing beside a comma"),
        (["--step", "5"], 1, "no generation 5. Saved: 4, 6"),
        (["--reference", "ant=5"], 2, "no --reference for probe_steps"),
        (["--devices", "99"], 2, "Set at most"),
    ],
)
def test_a_wrong_option_is_one_message_before_any_work(evoconn, runs, options, code, message):
    ended, out, err = evoconn(runs["first"], "--episodes", "2", *options)
    assert ended == code
    assert err.startswith("Error: ") and message in err and "Traceback" not in err
    assert out == ""


def test_checkpoints_are_evaluated_over_training(evoconn, runs):
    arguments = ["--step", "all", "--episodes", "4", "--json", "r.json", "--csv", "e.csv", "--curve", "c.png"]
    code, out, _ = evoconn(runs["first"], runs["second"], *arguments)
    assert code == 0 and "1  " in out and "2 generations, 4 to 6" in out and "curve: c.png" in out
    with open("r.json") as file:
        document = json.load(file)
    found = [(one["run_seed"], one["generation"], one["return"]["mean"]) for one in document["evaluations"]]
    assert [(seed, generation) for seed, generation, _ in found] == [(0, 4), (0, 6), (1, 4), (1, 6)]
    together = {one["generation"]: one["iqm"] for one in document["aggregates"]}
    assert together == {g: pytest.approx(np.mean([mean for _, at, mean in found if at == g])) for g in (4, 6)}
    with open("e.csv") as file:
        rows = [(int(row["run_seed"]), int(row["generation"])) for row in csv.DictReader(file)]
    assert rows == [at for *at_and_mean, _ in found for at in [tuple(at_and_mean)] * 4]
    with Image.open("c.png") as picture:
        assert picture.size == (900, 600)


def test_a_curve_needs_several_checkpoints(evoconn, runs):
    code, _, err = evoconn(f"{runs['first']}/checkpoints/4", "--episodes", "2", "--curve", "c.png")
    assert code == 2 and "or several checkpoints" in err
    code, _, _ = evoconn(*(f"{runs['first']}/checkpoints/{g}" for g in (4, 6)), "--episodes", "2", "--curve", "c.png")
    assert code == 0 and Path("c.png").is_file()


@pytest.mark.slow
def test_a_sweep_is_drawn_where_it_is_asked_for_and_returns_are_divided(evoconn, runs):
    arguments = ["--episodes", "3", "--perturb", "obs-noise=0,1", "--curve", "deep/c.svg", "--json", "r.json"]
    code, out, _ = evoconn(runs["first"], runs["second"], *arguments, "--reference", "probe_steps=4")
    assert code == 0 and "relative to the references" in out
    assert Path("deep/c.svg").read_text().startswith("<?xml")
    with open("r.json") as file:
        document = json.load(file)
    means = [one["return"]["mean"] for one in document["evaluations"] if one["perturbations"] == {"obs-noise": 1.0}]
    assert document["aggregates"][1]["iqm"] == pytest.approx(np.mean(means) / 4)


@pytest.mark.slow
def test_lengths_and_their_limit_have_one_unit(evoconn, tmp_path):
    run = save_run(tmp_path / "run", "task.episode_length=8", "task.action_repeat=3", eval_fitness={1: 0.0})
    _, out, _ = evoconn(str(run), "--episodes", "2", "--json", "-")
    length = json.loads(out)["evaluations"][0]["length"]
    assert length == {"mean": 3.0, "minimum": 3, "maximum": 3, "limit": 3}


@pytest.mark.slow
def test_a_terminal_without_unicode_shows_the_tables(evoconn, runs, monkeypatch):
    for arguments in (["--step", "best"], ["--step", "all"]):
        raw = io.BytesIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
            code, _, err = evoconn(*runs.values(), "--episodes", "3", *arguments)
            assert (code, err) == (0, "") and b"IQM" in raw.getvalue()


def test_a_run_that_is_not_there_is_one_message(evoconn, runs, tmp_path):
    for path, message in (
        ("nowhere", "no run at nowhere"),
        (str(tmp_path), "not a run"),
        ("mass=2", "no run is named"),
    ):
        code, out, err = evoconn(path)
        assert code in (1, 2) and out == "" and err.startswith("Error: ") and message in err


def test_of_many_paths_those_that_are_no_trained_run_are_left_out_and_said(evoconn, runs, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("no run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("lr: 1")
    RunDirectory.create(tmp_path / "new", RunDirectory(Path(runs["first"])).read_config(), {})
    paths = ["broken", runs["first"], "new", "notes.txt", "other"]
    code, out, err = evoconn(*paths, "--episodes", "2", "--json", "-", "--plot", "c.png")
    assert code == 0, err
    assert [one["run"] for one in json.loads(out)["evaluations"]] == [runs["first"]]
    for name, reason in {
        "broken": "not a run",
        "new": "no checkpoint yet",
        "notes.txt": "not a run",
        "other": "another program",
    }.items():
        assert re.search(rf"^Notice: not evaluated: .*{name}.*{re.escape(reason)}", err, re.MULTILINE), name
    code, out, err = evoconn("broken", "notes.txt")
    assert code == 1 and "none of the 2 paths" in err
    code, _, err = evoconn(runs["first"], "nowhere")
    assert code == 1 and "no run at nowhere" in err, "a name that is mistyped is an error"


@pytest.mark.slow
def test_a_grid_is_its_cells_and_latest_the_run_trained_last(evoconn, runs, tmp_path):
    cells = [tmp_path / "runs" / "grid" / "set-a" / f"seed{seed}" for seed in (0, 1)]
    for cell, run in zip(cells, ("first", "second"), strict=True):
        shutil.copytree(runs[run], cell)
    os.utime(cells[0] / "run.json", (9e9, 9e9))
    code, out, err = evoconn("runs/grid", "--episodes", "2", "--json", "-", "--plot", "curves.png")
    assert code == 0, err
    assert [one["run_seed"] for one in json.loads(out)["evaluations"]] == [0, 1]
    assert "Notice: runs/grid holds 2 runs" in err and "learning curves: curves.png" in err
    code, out, _ = evoconn("latest", "--episodes", "2", "--json", "-")
    assert [one["run"] for one in json.loads(out)["evaluations"]] == ["runs/grid/set-a/seed0"]
    shutil.rmtree(cells[0] / "checkpoints")
    shutil.rmtree(cells[1] / "checkpoints")
    code, _, err = evoconn("runs/grid")
    assert code == 1 and "none of the 2 paths" in err


def test_help_names_every_perturbation(evoconn, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = evoconn("--help")
    assert all(name in out for name in KINDS)
