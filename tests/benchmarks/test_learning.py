"""Studies of learning: figures of curves made by hand, whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_lines import check_command_line
from paths import ROOT

from benchmarks.learning.__main__ import KEPT, grid_dir, launch_command, main
from benchmarks.learning.curves import COLUMNS, Curve, read_source, thin, together, write_curves
from benchmarks.learning.report import (
    Measured,
    Study,
    compare,
    differences,
    draw,
    estimate,
    first_crossing,
    in_order,
    measure,
    read_study,
    to_markdown,
    value_at,
)
from evoconn_cli.config.loading import load_config
from evoconn_cli.errors import ConfigError
from evoconn_cli.evaluation.statistics import Interval
from evoconn_cli.grid.cells import open_grid, prepare
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import write_metrics

STUDIES = sorted((ROOT / "benchmarks" / "learning").glob("*.yaml"))
STUDIES = [path for path in STUDIES if not path.stem.endswith("-grid")]

GRID = """
base: smoke
sets: {slow: {algo.learning_rate: 0.1}, fast: {algo.learning_rate: 0.2}}
tasks: [probe_sign]
seeds: [0, 1]
"""


def make_curve(returns, method="slow", seed=0, pace=1.0) -> Curve:
    """A curve with a point every 100 steps, which take `pace` seconds each."""
    places = range(1, len(returns) + 1)
    points = {
        "generation": [10 * place for place in places],
        "env_steps": [100 * place for place in places],
        "elapsed": [100.0 * pace * place for place in places],
        **{key: [float(value) for value in returns] for key in COLUMNS[3:]},
    }
    return Curve("hopper", method, seed, {"algo.population": 32}, {"commit": None, "devices": None}, points)


def make_study(tmp_path, **given) -> Study:
    return Study("study", tmp_path / "grid.yaml", **{"budget": {"hopper": 400.0}, "target": {}, "paper": {}, **given})


def line(generation, fitness, steps=100, **others):
    return {
        "generation": generation,
        "env_steps": steps * generation,
        "elapsed": 0.5 * generation,
        "eval_fitness": fitness,
        "fitness_mean": 2.0 * generation,
        "entropy": None,
        **others,
    }


def test_a_point_has_the_mean_of_the_last_ten_generations_and_the_last_one_ends_the_run():
    points = thin([line(generation, float(generation)) for generation in range(1, 24)])
    assert points == {
        "generation": [10, 20, 23],
        "env_steps": [1000, 2000, 2300],
        "elapsed": [5.0, 10.0, 11.5],
        "eval_fitness": [5.5, 15.5, 18.5],
        "fitness_mean": [11.0, 31.0, 37.0],
        "entropy": [None, None, None],
    }


def test_generations_without_an_evaluation_do_not_count():
    lines = [line(generation, None if generation % 2 else 3.0 * generation) for generation in range(1, 21)]
    assert thin(lines)["eval_fitness"] == [18.0, 48.0]
    assert thin([line(1, None)]) == thin([]) == {key: [] for key in COLUMNS}
    gap = [line(1, 1.0), line(35, 7.0)]
    assert thin(gap)["generation"] == [35], "no point within the gap"


def test_the_return_at_a_budget_is_interpolated_and_unknown_beyond_the_run():
    curve = make_curve([10, 20, 40], pace=2.0)
    assert value_at(curve, "eval_fitness", "env_steps", 150) == 15.0
    assert value_at(curve, "eval_fitness", "env_steps", 300) == 40.0
    assert value_at(curve, "eval_fitness", "elapsed", 500) == 30.0
    assert value_at(curve, "eval_fitness", "env_steps", 301) is None
    assert value_at(curve, "eval_fitness", "env_steps", 99) is None
    assert value_at(make_curve([]), "eval_fitness", "env_steps", 100) is None


def test_the_target_is_reached_at_the_first_crossing():
    curve = make_curve([10, 30, 0, 50], pace=2.0)
    assert first_crossing(curve, 20) == (150.0, 300.0)
    assert first_crossing(curve, 30) == (200.0, 400.0)
    assert first_crossing(curve, 40) == (380.0, 760.0)
    assert first_crossing(curve, 5) == (100.0, 200.0), "the first point"
    assert first_crossing(curve, 51) is None
    late = measure(curve, budget=379, seconds=None, target=40)
    assert late.steps_to_target is None and late.seconds_to_target is None, "not within the budget"


def test_the_interval_is_students():
    assert estimate([1.0, 2.0, 3.0]).interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert estimate([5.0]) == (1, 5.0, None)
    assert estimate([5.0, 5.0]) == (2, 5.0, Interval(5.0, 5.0))


def test_differences_are_taken_between_runs_of_the_same_seed():
    slow = {seed: Measured(100.0 * seed, None, None, None) for seed in (0, 1, 2)}
    fast = {seed: Measured(100.0 * seed + 7, None, None, None) for seed in (2, 1, 5)}
    assert differences(fast, slow, "at_steps") == [7.0, 7.0]
    fast[1] = fast[1]._replace(at_steps=None)
    assert differences(fast, slow, "at_steps") == [7.0], "a run that has not reached the budget has no pair"
    assert differences(fast, slow, "at_seconds") == []


def test_equal_time_is_that_of_the_first_run_to_reach_the_budget(tmp_path):
    slow, fast = make_curve([10, 20, 30, 40], pace=3.0), make_curve([10, 20, 30, 40], "fast")
    short = make_curve([10], "fast", seed=1, pace=0.1)
    (comparison,) = compare([slow, fast, short], make_study(tmp_path))
    assert comparison.seconds == 400.0
    assert comparison.methods["slow"][0].at_seconds == pytest.approx(40 / 3)
    assert comparison.methods["fast"][0].at_seconds == 40.0
    assert comparison.short == [short]


def test_a_run_that_has_not_reached_the_budget_is_named_and_not_averaged(tmp_path):
    curves = [
        *(make_curve([10, 20, 30, 40], seed=seed) for seed in (0, 1)),
        make_curve([10, 20, 30, 60], "fast"),
        make_curve([10, 99], "fast", seed=1),
        make_curve([], "fast", seed=2),
    ]
    study = make_study(tmp_path, target={"hopper": 40.0}, paper={"hopper": 2450.0})
    text = to_markdown(study, curves)
    assert (
        "| slow | 0, 1 | 40.0 (40.0 to 40.0) | 40.0 (40.0 to 40.0) | 0.0M (0.0M to 0.0M) | 400 s (400 s to 400 s) |"
        in text
    )
    assert "| fast | 0, 1, 2 | 60.0, 1 of 3 seeds | 60.0, 1 of 3 seeds | 2 of 3 seeds | 2 of 3 seeds |" in text
    assert "| fast | +20.0, 1 seed |" in text
    assert "- fast, seed 1: 0.0M of 0.0M steps" in text and "- fast, seed 2: 0.0M of 0.0M steps" in text
    assert "2,450.0" in text
    nothing = to_markdown(study, [make_curve([10])])
    assert "| slow | 0 | 0 of 1 seeds | 0 of 1 seeds | 0 of 1 seeds | 0 of 1 seeds |" in nothing


def test_a_task_without_a_budget_is_left_out_and_named(tmp_path):
    walker = make_curve([1])._replace(task="walker2d")
    assert "no budget for them: walker2d" in to_markdown(make_study(tmp_path), [make_curve([10, 20, 30, 40]), walker])
    with pytest.raises(ConfigError, match="no run of hopper"):
        to_markdown(make_study(tmp_path), [walker, make_curve([])])


def test_a_task_whose_runs_have_not_begun_has_no_panel(tmp_path):
    study = make_study(tmp_path, budget={"hopper": 400.0, "walker2d": 400.0})
    curves = [make_curve([10, 20]), make_curve([], seed=1), make_curve([])._replace(task="walker2d")]
    (panel,) = draw(study, curves, "env_steps").axes
    assert panel.get_title(loc="left") == "hopper"
    assert "## walker2d" in to_markdown(study, curves)


def test_runs_that_must_not_be_averaged_are_refused():
    curve = make_curve([10])
    assert together([curve, curve]) == [curve], "the same run in two sources"
    with pytest.raises(ConfigError, match="two different runs with seed 0"):
        together([curve, make_curve([11])])
    with pytest.raises(ConfigError, match="differ in algo.population"):
        together([curve, make_curve([10], seed=1)._replace(settings={"algo.population": 64})])


@pytest.mark.slow
def test_a_grid_and_its_kept_curves_give_the_same_report(tmp_path, monkeypatch, capsys):
    (tmp_path / "grid.yaml").write_text(GRID)
    (tmp_path / "study.yaml").write_text("grid: grid.yaml\nbudget: {probe_sign: 1000}\ntarget: {probe_sign: 7}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.learning.__main__.KEPT", tmp_path / "kept")
    study = read_study(tmp_path / "study.yaml")
    for cell in open_grid(str(study.grid), grid_dir(study)).cells:
        prepare(cell, "grid")
        slope = {"slow": 1.0, "fast": 2.0}[cell.set_name] + cell.seed
        if (cell.set_name, cell.seed) != ("fast", 1):  # this one has not begun
            lines = [line(generation, slope * generation) for generation in range(1, 21)]
            write_metrics(lines, RunDirectory(cell.path).metrics_file)
    main(["report", "study.yaml", "--out", "live"])
    main(["keep", "first", str(grid_dir(study))])
    main(["report", "study.yaml", "kept/first.json", "--out", "kept-report"])
    report = (tmp_path / "live" / "report.md").read_text()
    assert report == (tmp_path / "kept-report" / "report.md").read_text()
    assert "Differences from slow" in report
    assert "| fast | 0, 1 | 11.0, 1 of 2 seeds |" in report and "| slow | 0, 1 | 8.2 (" in report
    assert all((tmp_path / "live" / f"{axis}.png").stat().st_size > 10_000 for axis in ("env_steps", "elapsed"))
    assert capsys.readouterr().out.split()[-1] == "kept-report/elapsed.png"
    mixed = [*read_source("kept/first.json"), *read_source("before=kept/first.json")]
    methods = list(dict.fromkeys(curve.method for curve in in_order(study, together(mixed))))
    assert methods == ["slow", "fast", "before fast", "before slow"], "the order of the grid, then of the sources"


def test_the_method_of_a_run_outside_a_grid_is_its_directory_or_its_label(tmp_path):
    run = RunDirectory.create(tmp_path / "mine", load_config("smoke"), {})
    write_metrics([line(1, 4.0)], run.metrics_file)
    (curve,) = read_source(str(run.path))
    assert (curve.method, curve.points["eval_fitness"]) == ("mine", [4.0])
    assert read_source(f"name={run.path}")[0].method == "name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget: {hopper: 1}", "`grid` is missing"),
        ("grid: a.yaml\nbudgets: {hopper: 1}", "Did you mean 'budget'"),
        ("grid: a.yaml\nbudget: {hoper: 1}", "Did you mean 'hopper'"),
        ("grid: a.yaml\nbudget: {hopper: 0}", "expected a positive number"),
        ("grid: a.yaml\nbudget: 7", "expected numbers by task"),
        ("grid: a.yaml\ntarget: {hopper: 1}", "budget has no hopper"),
    ],
)
def test_a_wrong_study_file_is_refused(tmp_path, text, message):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_study(tmp_path / "study.yaml")


def test_a_source_that_has_no_curves_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('[{"task": "hopper"}]')
    for source, message in {
        str(tmp_path): "has no runs",
        str(tmp_path / "nothing"): "there is no",
        str(tmp_path / "other.json"): "not a file of kept curves",
    }.items():
        with pytest.raises(ConfigError, match=message):
            read_source(source)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_of_the_repository_has_a_grid_that_launch_grid_takes(path, tmp_path):
    study = read_study(path)
    cells = open_grid(str(study.grid), tmp_path).cells
    assert {cell.task for cell in cells} == study.budget.keys() == study.target.keys()
    seeds = {}
    for cell in cells:
        seeds.setdefault((cell.set_name, cell.task), set()).add(cell.seed)
    assert len(set(map(frozenset, seeds.values()))) == 1, "methods are paired by seed"
    command = launch_command(study, tmp_path, ["--dry-run"])
    check_command_line(command[3], command[4:])
    assert command[5:7] == ["--grid-dir", str(tmp_path)]


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.json")), ids=lambda path: path.stem)
def test_kept_curves_can_be_read_and_written_again(path, tmp_path):
    curves = read_source(str(path))
    write_curves(curves, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())
    for curve in together(curves):
        assert np.all(np.diff(curve.points["env_steps"]) > 0) and np.all(np.diff(curve.points["elapsed"]) > 0)
