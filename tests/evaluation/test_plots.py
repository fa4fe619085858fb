"""Learning curves and sweeps: the numbers that are drawn."""

from __future__ import annotations

import json

import matplotlib
import numpy as np
import pytest
from saved_runs import save_run

from evoconn_cli.drawing.canvas import make_figure, save_figure
from evoconn_cli.errors import ConfigError, EvoconnError, RunDirectoryError
from evoconn_cli.evaluation.curves import curve_figure, learning_figure, read_curve
from evoconn_cli.evaluation.evaluating import Evaluated
from evoconn_cli.evaluation.opened import open_run
from evoconn_cli.evaluation.statistics import summarize
from evoconn_cli.runs.directory import RunDirectory

FITNESS = {"a": {1: 1.0, 2: 3.0, 3: 5.0}, "b": {1: 3.0, 2: 5.0, 3: 9.0, 4: 11.0}}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed, (name, fitness) in enumerate(FITNESS.items()):
        save_run(folder / name, f"seed={seed}", eval_fitness=fitness)
    save_run(folder / "gru", "network.name=gru", eval_fitness={1: 0.0, 2: 2.0})
    save_run(folder / "other", "task.name=probe_bias", eval_fitness={1: 0.0, 2: 2.0})
    return {path.name: RunDirectory.open(path) for path in folder.iterdir()}


def curves(directories, *names, x="generations"):
    return [read_curve(directories[name], x) for name in names]


def lines_of(panel):
    """Returns `{label: (x, y)}` of the lines in the legend."""
    return {line.get_label(): line.get_data() for line in panel.get_lines() if not line.get_label().startswith("_")}


def band_of(panel, index=0):
    """Returns the lowest and highest y of a band."""
    (y,) = [panel.collections[index].get_paths()[0].vertices[:, 1]]
    return y.min(), y.max()


def test_seeds_are_averaged_where_all_have_data(directories):
    figure = learning_figure(curves(directories, "a", "b"), "generations")
    (panel,) = figure.axes
    x, y = lines_of(panel)["ec, conn_snn (2 seeds)"]
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_allclose(y, [2, 4, 7])
    low, high = band_of(panel)
    assert (low, high) == (pytest.approx(2 - np.sqrt(2)), pytest.approx(7 + np.sqrt(8)))
    thin = [line.get_ydata().tolist() for line in panel.get_lines() if line.get_label().startswith("_")]
    assert thin == [[1, 3, 5], [3, 5, 9, 11]]
    assert "± one standard deviation" in panel.get_xlabel()


@pytest.mark.parametrize(
    ("x_axis", "expected", "label"),
    [
        ("generations", [1, 2, 3], "generation"),
        ("env-steps", [1000, 2000, 3000], "environment steps"),
        ("time", [2, 4, 6], "training time [s]"),
    ],
)
def test_the_axis_is_what_is_asked_for(directories, x_axis, expected, label):
    figure = learning_figure(curves(directories, "a", x=x_axis), x_axis)
    (panel,) = figure.axes
    np.testing.assert_array_equal(lines_of(panel)["evaluation copies (ec, conn_snn)"][0], expected)
    assert panel.get_xlabel() == label


def test_long_times_are_in_larger_units(tmp_path):
    path = save_run(tmp_path / "run", eval_fitness={1: 0.0})
    lines = [{"generation": g, "eval_fitness": 1.0, "elapsed": 3600.0 * g} for g in (1, 20)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = learning_figure([read_curve(RunDirectory.open(path), "time")], "time")
    assert figure.axes[0].get_xlabel() == "training time [h]"
    np.testing.assert_allclose(lines_of(figure.axes[0])["evaluation copies (ec, conn_snn)"][0], [1, 20])


def test_groups_have_their_own_colour_and_tasks_their_own_panel(directories):
    figure = learning_figure(curves(directories, "a", "b", "gru", "other"), "generations")
    first, second = figure.axes
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["probe_bias", "probe_sign"]
    assert set(lines_of(second)) == {"ec, conn_snn (2 seeds)", "es, gru (1 run)"}
    colors = {line.get_label(): line.get_color() for line in second.get_lines()}
    assert colors["ec, conn_snn (2 seeds)"] != colors["es, gru (1 run)"]
    assert lines_of(first)["evaluation copies (ec, conn_snn)"]


def test_gaps_are_left_out(tmp_path):
    path = save_run(tmp_path / "run", eval_fitness={1: 0.0})
    lines = [{"generation": g, "eval_fitness": value} for g, value in ((1, 1.0), (2, None), (3, 2.0))]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"gener')
    curve = read_curve(RunDirectory.open(path), "generations")
    assert (curve.x.tolist(), curve.fitness.tolist()) == ([1, 3], [1, 2])


def test_a_run_without_a_curve_is_told(tmp_path):
    path = save_run(tmp_path / "run", eval_fitness={1: 0.0})
    (path / "metrics.jsonl").unlink()
    with pytest.raises(RunDirectoryError, match="no learning curve"):
        read_curve(RunDirectory.open(path), "generations")
    (path / "metrics.jsonl").write_text("[1, 2]\n")
    with pytest.raises(RunDirectoryError, match=r"metrics\.jsonl|no learning curve"):
        read_curve(RunDirectory.open(path), "generations")


def test_an_unknown_axis_is_told(directories):
    with pytest.raises(ConfigError, match="Did you mean 'generations'"):
        read_curve(directories["a"], "generation")


def evaluated(opened, value, returns):
    setting = {} if value is None else {"mass": value}
    return Evaluated(opened, setting, None, summarize(np.asarray(returns, float), seed=0), None)


def test_a_sweep_of_one_run_is_drawn_in_the_order_of_its_values(directories):
    opened = open_run(directories["a"].path)
    points = [evaluated(opened, 2.0, [1, 1, 1, 1]), evaluated(opened, 0.5, [5, 6, 7, 8])]
    figure = curve_figure(points, "mass", seed=0)
    (panel,) = figure.axes
    label = f"ec, conn_snn, 40 neurons\n{directories['a'].path} at 3"
    x, y = lines_of(panel)[label]
    assert (list(x), list(y)) == ([0.5, 2.0], [6.5, 1.0])
    assert lines_of(panel)["as trained"][0] == [1.0, 1.0]
    assert panel.get_xlabel().startswith("mass [× trained]\ninterquartile mean, 95 % bootstrap interval")
    low, high = band_of(panel)
    assert low == 1.0 and 6.5 < high <= 8.0


def test_the_same_run_is_drawn_once_and_what_differs_in_more_than_the_seed_apart(directories, tmp_path):
    copy = RunDirectory.open(save_run(tmp_path / "copy", "seed=1", eval_fitness={1: 3.0, 2: 5.0}))
    found = [*curves(directories, "a", "b"), read_curve(copy, "generations")]
    (panel,) = learning_figure(found, "generations").axes
    np.testing.assert_allclose(lines_of(panel)["ec, conn_snn (2 seeds)"][1], [2, 4, 7])
    fast = RunDirectory.open(save_run(tmp_path / "fast", "algo.learning_rate=0.3", eval_fitness={1: 0.0}))
    (panel,) = learning_figure([*found, read_curve(fast, "generations")], "generations").axes
    assert set(lines_of(panel)) == {
        "ec, conn_snn learning_rate=0.15 (2 seeds)",
        "ec, conn_snn learning_rate=0.3 (1 run)",
    }


def test_a_sweep_of_seeds_is_one_line(directories):
    opened = [open_run(directories[name].path, "3") for name in ("a", "b")]
    points = [evaluated(run, v, [v * 10 + i]) for i, run in enumerate(opened) for v in (0.5, 0.7)]
    (panel,) = curve_figure(points, "mass", seed=0).axes
    assert list(lines_of(panel)) == ["ec, conn_snn, 40 neurons (2 runs)"]
    x, y = lines_of(panel)["ec, conn_snn, 40 neurons (2 runs)"]
    np.testing.assert_allclose((x, y), ([0.5, 0.7], [5.5, 7.5]))


def test_a_bundle_has_its_own_line_beside_seeds(directories):
    a, b = (open_run(directories[name].path, "3") for name in ("a", "b"))
    bundle = a._replace(directory=RunDirectory(directories["a"].path / "exports" / "bundle"), bundle="a bundle")
    points = [evaluated(run, v, [v]) for run in (a, b, bundle) for v in (0.5, 0.7)]
    (panel,) = curve_figure(points, "mass", seed=0).axes
    group, alone = lines_of(panel)
    assert group == "ec, conn_snn, 40 neurons (2 runs)" and alone.endswith("bundle at 3")
    np.testing.assert_allclose(lines_of(panel)[alone][1], [0.5, 0.7])


def at(run, generation):
    """Returns a run at another generation."""
    return run._replace(state=run.state._replace(generation=np.int32(generation)))


def test_a_curve_over_checkpoints_has_the_generations_as_its_axis(directories):
    a, b = (open_run(directories[name].path) for name in ("a", "b"))
    points = [evaluated(at(a, g), None, [g, g + 1]) for g in (3, 1, 2)]
    (panel,) = curve_figure(points, None, seed=0).axes
    ((label, (x, y)),) = lines_of(panel).items()
    assert label.endswith(str(directories["a"].path))
    np.testing.assert_allclose((x, y), ([1, 2, 3], [1.5, 2.5, 3.5]))
    assert panel.get_xlabel().startswith("generation\n")
    points += [evaluated(at(b, g), None, [10.0 * g]) for g in (1, 2, 3)]
    (panel,) = curve_figure(points, None, seed=0).axes
    ((label, (x, y)),) = lines_of(panel).items()
    assert label == "ec, conn_snn, 40 neurons (2 runs)"
    np.testing.assert_allclose((x, y), ([1, 2, 3], [5.75, 11.25, 16.75]))


def test_a_sweep_at_several_checkpoints_has_a_line_for_each(directories):
    a = open_run(directories["a"].path)
    points = [evaluated(at(a, g), v, [g + v]) for g in (1, 2) for v in (0.5, 0.7)]
    (panel,) = curve_figure(points, "mass", seed=0).axes
    assert [label.rpartition(" at ")[2] for label in lines_of(panel)] == ["1", "2"]


def test_a_plot_that_cannot_be_written_is_told(tmp_path):
    figure, _ = make_figure(["title"])
    (tmp_path / "file").touch()
    with pytest.raises(EvoconnError, match="cannot be written"):
        save_figure(figure, tmp_path / "file" / "plot.png")
    save_figure(figure, tmp_path / "new" / "plot.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["plot.png"]


HOSTILE = {
    "text.usetex": True,
    "font.size": 40.0,
    "savefig.dpi": 20.0,
    "axes.facecolor": "black",
    "savefig.bbox": "tight",
}
"""What a user's matplotlibrc may say; without LaTeX the first alone ends every plot."""


def drawn_figures(directories):
    opened = open_run(directories["a"].path)
    points = [evaluated(opened, value, [value]) for value in (0.5, 2.0)]
    return {
        "learning": lambda: learning_figure(curves(directories, "a", "b"), "generations"),
        "sweep": lambda: curve_figure(points, "mass", seed=0),
    }


@pytest.mark.parametrize("name", ["learning", "sweep"])
def test_the_settings_of_a_user_change_no_picture(directories, tmp_path, name):
    draw = drawn_figures(directories)[name]
    save_figure(draw(), tmp_path / "usual.png")
    with matplotlib.rc_context(HOSTILE):
        save_figure(draw(), tmp_path / "hostile.png")
        assert matplotlib.rcParams["font.size"] == 40.0, "the settings are given back"
    assert (tmp_path / "hostile.png").read_bytes() == (tmp_path / "usual.png").read_bytes()


def test_dollars_in_a_name_are_no_formula(directories, tmp_path):
    named = [curve._replace(group="$TASK_$SEED^2$") for curve in curves(directories, "a", "b")]
    opened = open_run(directories["a"].path)._replace(directory=RunDirectory(tmp_path / "$x_$y^{$"))
    sweep = curve_figure([evaluated(opened, 0.5, [1.0])], "mass", seed=0)
    for figure in (learning_figure(named, "generations"), sweep):
        save_figure(figure, tmp_path / "plot.png")  # a formula that makes no sense is a ValueError
        (label,) = (text.get_text() for text in figure.axes[0].get_legend().get_texts() if "$" in text.get_text())
        assert "$TASK_$SEED^2$" in label or "$x_$y^{$" in label
