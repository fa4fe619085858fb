"""Figures of connectomes: what is drawn, and the files that the command writes."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
from connectome_cases import connectome_of, random_connectome, random_episode
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from saved_runs import save_run
from typer.testing import CliRunner

from evoconn_cli.app import app
from evoconn_cli.config.formats import SORTS, ExportOptions
from evoconn_cli.config.loading import load_config
from evoconn_cli.drawing.canvas import save_figure
from evoconn_cli.drawing.colors import ON_WHITE
from evoconn_cli.errors import ConfigError
from evoconn_cli.export.analysis.dynamics import communities_of, episode_dynamics, neuron_order
from evoconn_cli.export.analysis.reports import agreement_with_last, changed_connections, evolution_as_json
from evoconn_cli.export.analysis.statistics import connectome_statistics
from evoconn_cli.export.connectome import ExportSource
from evoconn_cli.export.pictures.connectome_figure import connectome_figure
from evoconn_cli.export.pictures.evolution_figure import evolution_figure, write_picture
from evoconn_cli.export.units import observation_weights, unit_labels

UNSORTED = ExportOptions(sort="none")


def source_of(*connectomes, **options) -> ExportSource:
    return ExportSource(connectomes, lambda: random_episode(connectomes[-1]), {"run": "a"}, ExportOptions(**options))


@pytest.mark.parametrize("sort", SORTS)
def test_neurons_are_ordered_by_type_and_then_as_asked(sort):
    connectome = random_connectome(21)
    order = neuron_order(connectome, sort)
    assert sorted(order) == list(range(21))
    num_excitatory = int((connectome.neuron_types > 0).sum())
    assert set(order[:num_excitatory]) == set(range(num_excitatory))
    recurrent = connectome.layers["recurrent"]
    degree = recurrent.sum(axis=0) + recurrent.sum(axis=1)
    for part in (order[:num_excitatory], order[num_excitatory:]):
        if sort == "none":
            assert (np.diff(part) > 0).all()
        elif sort == "degree":
            assert (np.diff(degree[part]) <= 0).all()
        else:
            communities = communities_of(connectome)[part]
            assert (np.diff(communities) >= 0).all()
            assert (np.diff(degree[part])[np.diff(communities) == 0] <= 0).all()


def picture_of(panel, positive: str, negative: str) -> np.ndarray:
    """Returns `[rows, columns]` of 1, 0 and -1: the colours of the picture in a panel."""
    (image,) = panel.get_images()
    pixels = np.asarray(image.get_array())
    found = np.full(pixels.shape[:2], 9)
    for value, color in ((1, to_rgb(ON_WHITE[positive])), (-1, to_rgb(ON_WHITE[negative])), (0, (1, 1, 1))):
        found[(pixels == np.round(255 * np.array(color))).all(axis=-1)] = value
    return found


def test_every_connection_is_where_it_belongs():
    connectome = random_connectome(20)
    figure = connectome_figure(connectome, connectome_statistics(connectome, num_random_graphs=2), ExportOptions())
    order = neuron_order(connectome, "degree")
    signs = connectome.neuron_types[order][:, None]
    panels = {panel.get_ylabel() or panel.get_xlabel(): panel for panel in figure.axes if panel.get_images()}
    recurrent = picture_of(panels["from neuron, by degree within a type"], "E", "I")
    np.testing.assert_array_equal(recurrent, connectome.layers["recurrent"][order][:, order] * signs)
    np.testing.assert_array_equal(picture_of(panels["action"], "E", "I"), connectome.layers["output"][order] * signs)
    seen = picture_of(panels["obs."], "+", "-")
    np.testing.assert_array_equal(seen, observation_weights(connectome)[:, order])
    both = connectome.layers["input"].astype(int)
    np.testing.assert_array_equal(seen, (both[:3] - both[3:])[:, order])


MANY_OBSERVATIONS = connectome_of(
    {"input": np.eye(800, 8, dtype=bool), "recurrent": np.eye(8, dtype=bool), "output": np.ones((8, 2), bool)}
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "connectome", [random_connectome(1024), random_connectome(500), MANY_OBSERVATIONS], ids=["1024", "500", "wide"]
)
def test_every_connection_has_a_pixel_in_the_saved_file(connectome, tmp_path):
    """Lines at edges and between types hide no connection either."""
    small = connectome_of({name: np.ones((2, 2), bool) for name in connectome.layers})
    figure = connectome_figure(connectome, connectome_statistics(small, num_random_graphs=2), UNSORTED)
    save_figure(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[:2] == (int(figure.bbox.height), int(figure.bbox.width))
    for panel in figure.axes:
        for image in panel.get_images():
            colors = np.asarray(image.get_array())
            box = panel.get_window_extent()
            (bottom, top), (left, right) = np.round([pixels.shape[0] - box.y0, pixels.shape[0] - box.y1]), box.intervalx
            shown = pixels[int(top) : int(bottom), int(np.ceil(left)) : int(right)]
            rows = ((np.arange(len(shown)) + 0.5) * len(colors) / len(shown)).astype(int)
            columns = ((np.arange(shown.shape[1]) + 0.5) * colors.shape[1] / shown.shape[1]).astype(int)
            seen = np.zeros(colors.shape[:2], bool)
            equal = (shown == colors[np.ix_(rows, columns)]).all(axis=-1)
            np.logical_or.at(seen, np.ix_(rows, columns), equal)
            assert seen.all(), f"{(~seen).sum()} connections are not to be seen"


@pytest.fixture(scope="module")
def drawn():
    """A connectome with its statistics and episode, as figures are given them."""
    connectome = dataclasses.replace(
        random_connectome(40, excitatory_ratio=0.7), config=load_config(None, ["task.name=hopper"])
    )
    connectome = dataclasses.replace(
        connectome, config=dataclasses.replace(connectome.config, network=random_connectome(40).config.network)
    )
    return connectome, connectome_statistics(connectome, num_random_graphs=2), random_episode(connectome)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [{}, {"width": 3.4}, {"width": 7.0, "panels": "ad", "title": False}, {"width": 3.4, "panels": "g"}],
    ids=str,
)
def test_a_figure_can_be_printed_as_it_is(drawn, given):
    """At the width that was asked for, with text of 6 points at least, of which none is cut off or hidden."""
    connectome, statistics, episode = drawn
    figure = connectome_figure(connectome, statistics, ExportOptions(**given), episode)
    assert_printable(figure, given.get("width", 7.0))
    titles = [panel.get_title(loc="left") for panel in figure.axes if panel.get_title(loc="left")]
    count = len(given.get("panels", "abcdefghij"))
    assert [title[:3] for title in titles] == [f"{letter}  " for letter in "abcdefghij"[:count]] or count == 1
    assert (figure.get_suptitle() == "") == (given.get("title") is False)


@pytest.mark.parametrize("given", [{}, {"width": 3.4, "panels": "ae"}], ids=str)
def test_a_figure_of_several_steps_can_be_printed_as_it_is(given):
    connectomes = [random_connectome(seed=seed, generation=1000 * seed) for seed in (1, 2)]
    statistics = [connectome_statistics(one, num_random_graphs=2) for one in connectomes]
    assert_printable(evolution_figure(connectomes, statistics, ExportOptions(**given)), given.get("width", 7.0))


def assert_printable(figure, width: float) -> None:
    assert figure.get_figwidth() == width and figure.dpi >= 300
    figure.canvas.draw()
    whole = figure.bbox.padded(2.0)
    for panel in figure.axes:
        legend = panel.get_legend()
        parts = legend.get_texts() if legend else []
        for text in (*parts, *panel.get_xticklabels(), *panel.get_yticklabels(), panel.xaxis.label, panel._left_title):
            assert text.get_fontsize() >= 6, text
        for part in (*parts, panel._left_title, panel.xaxis, panel.yaxis):
            box = part.get_tightbbox(figure.canvas.get_renderer())
            assert box is None or not np.isfinite(box.x0) or (whole.containsx(box.x0) and whole.containsx(box.x1)), part
        for part in parts:
            box = part.get_window_extent()
            assert not panel._left_title.get_window_extent().overlaps(box), part
            assert box.y0 >= panel.get_window_extent().y1 - 1, part


def test_colours_mean_one_thing():
    connectome = random_connectome(20)
    figure = connectome_figure(
        connectome, connectome_statistics(connectome, num_random_graphs=2), UNSORTED, random_episode(connectome)
    )
    meanings: dict[str, set[str]] = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handle = handle[0] if isinstance(handle, tuple) else handle
            if hasattr(handle, "get_color"):
                color = handle.get_color()
            else:
                outline = hasattr(handle, "get_fill") and not handle.get_fill()
                color = np.ravel(handle.get_edgecolor() if outline else handle.get_facecolor())[:3]
            name = label.removeprefix("from ")
            if name in ("E", "I", "x", "−x", "recurrent", "output") or panel.get_title(loc="left").endswith("ilities"):
                meanings.setdefault(to_hex(color), set()).add(name)
    assert sorted(map(sorted, meanings.values())) == [["E"], ["I"], ["input"], ["output"], ["recurrent"], ["x"], ["−x"]]


def test_currents_and_rates_are_those_of_the_neurons():
    connectome = random_connectome(20)
    episode = random_episode(connectome, num_steps=3)
    dynamics = episode_dynamics(connectome, episode)
    substeps = connectome.constants.num_substeps
    synaptic = (dynamics.currents["E"] + dynamics.currents["I"])[substeps - 1 :: substeps]
    np.testing.assert_allclose(synaptic, episode.states["i_syn"].mean(axis=1), rtol=1e-9)
    assert (dynamics.currents["E"] >= 0).all() and (dynamics.currents["I"] <= 0).all()
    np.testing.assert_allclose(dynamics.currents["input"][::substeps], episode.input_currents.mean(axis=1))
    excitatory = episode.spikes.reshape(-1, 20)[:, connectome.neuron_types > 0]
    assert dynamics.rates["E"].mean() == pytest.approx(1000 / 0.5 * excitatory.mean(), rel=0.1)


def test_steps_without_connections_of_a_probability_do_not_fall_to_the_axis():
    connectome = random_connectome(8)
    figure = connectome_figure(
        connectome, connectome_statistics(connectome, num_random_graphs=2), ExportOptions(panels="d")
    )
    for step in figure.axes[0].patches:
        values = step.get_data().values
        assert np.isnan(values).any() and (values[~np.isnan(values)] > 0).all() and step.get_data().baseline is None


def test_the_bars_are_the_counts():
    connectome = random_connectome(20)
    statistics = connectome_statistics(connectome, num_random_graphs=2)
    figure = connectome_figure(connectome, statistics, UNSORTED)
    panels = {panel.get_title(loc="left"): panel for panel in figure.axes}
    heights = [bar.get_width() for bar in panels["f  Onto actions"].patches]
    assert heights == [a["E"] for a in statistics.onto_actions] + [-a["I"] for a in statistics.onto_actions]
    weights = observation_weights(connectome)
    heights = [bar.get_width() for bar in panels["g  Observations"].patches]
    assert heights == [*(weights > 0).sum(axis=1), *-(weights < 0).sum(axis=1)]
    for title, axis in (("b  In-degree", 0), ("c  Out-degree", 1)):
        drawn = sum(np.nansum(step.get_data().values) for step in panels[title].patches if not step.get_fill())
        assert drawn == 20
        random = panels[title].get_lines()
        assert sum(np.sum(line.get_ydata()) for line in random) == pytest.approx(20, rel=0.1)
        degrees = connectome.layers["recurrent"].sum(axis=axis)
        assert panels[title].get_xlim()[0] <= degrees.min() and degrees.max() <= panels[title].get_xlim()[1]


def test_changes_between_steps():
    connectomes = [random_connectome(seed=seed, generation=seed) for seed in (1, 2, 3)]
    changed, agreement = changed_connections(connectomes), agreement_with_last(connectomes)
    first, second = (one.layers["recurrent"] for one in connectomes[:2])
    assert changed[0]["recurrent"] == (first ^ second).sum() / 400
    assert agreement[-1] == {"input": 1, "recurrent": 1, "output": 1}
    assert agreement[0]["input"] == (connectomes[0].layers["input"] == connectomes[2].layers["input"]).mean()
    statistics = [connectome_statistics(one, num_random_graphs=2) for one in connectomes]
    steps = evolution_as_json(connectomes, statistics)["steps"]
    assert [step["generation"] for step in steps] == [1, 2, 3]
    assert steps[0]["changed_since_step_before"] is None and steps[1]["changed_since_step_before"] == changed[0]
    figure = evolution_figure(connectomes, statistics, ExportOptions())
    densities = figure.axes[0].get_lines()[0]
    np.testing.assert_array_equal(densities.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(densities.get_ydata(), [one.density["E->E"] for one in statistics])


@pytest.mark.slow
@pytest.mark.parametrize(
    "given", [{"density": 0.0}, {"density": 1.0}, {"excitatory_ratio": 0.0}, {"excitatory_ratio": 1.0}], ids=str
)
def test_extremes_can_be_drawn(given, tmp_path):
    one, two = (random_connectome(8, generation=g, **given) for g in (1, 2))
    write_picture(source_of(one, sort="community"), tmp_path / "a.png")
    write_picture(source_of(one, two), tmp_path / "b.png")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


@pytest.mark.slow
def test_a_network_of_one_neuron(tmp_path):
    write_picture(source_of(random_connectome(1)), tmp_path / "a.svg")
    assert b"</svg>" in (tmp_path / "a.svg").read_bytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs") / "a", "checkpoint.keep_every=1")


def invoke(*arguments):
    result = CliRunner().invoke(app, ["export-connectivity", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_pictures_and_statistics_are_a_file_each(run, tmp_path):
    """In any order, together or one after the other."""
    output = invoke(run, "--format", "png,statistics", "--step", "4", "--out", tmp_path)
    assert "Connectome of generation 4" in output and output.count("modularity") == 1
    invoke(run, "--format", "svg,pdf", "--step", "4", "--out", tmp_path)
    invoke(run, "--format", "png", "--step", "4", "--out", tmp_path / "other.pdf")
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {*(f"generation-4.{suffix}" for suffix in ("png", "pdf", "svg", "json")), "other.pdf"}
    facts = json.loads((tmp_path / "generation-4.json").read_text())
    assert facts["generation"] == 4 and facts["provenance"]["run"] == "a"
    with pytest.raises(ConfigError, match="exists already"):
        invoke(run, "--format", "png", "--step", "4", "--out", tmp_path / "other.pdf")


@pytest.mark.slow
def test_fonts_of_a_pdf_are_true_type(run, tmp_path):
    invoke(run, "--format", "pdf", "--step", "4", "--out", tmp_path / "a.pdf")
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf and b"/Type3" not in pdf


@pytest.mark.slow
def test_the_command_compares_steps(run):
    output = invoke(run, "--format", "png", "--step", "all")
    assert "over generations" in output
    with Image.open(run / "exports" / "generations-2-to-6.png") as picture:
        assert picture.size[0] > 1000


def test_statistics_alone_as_json_and_as_csv(run, tmp_path):
    given = ("--format", "statistics", "--random-graphs", "3", "--out")
    assert "3 random graphs" in invoke(run, *given, tmp_path / "a.json")
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["random_graphs"] == 3 and facts["provenance"]["run"] == "a"
    invoke(run, *given, tmp_path / "a.csv", "--step", "4,6")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = {(row["generation"], row["statistic"]): row["value"] for row in csv.DictReader(file)}
    assert {generation for generation, _ in rows} == {"4", "6"}
    assert float(rows["6", "reciprocity.value"]) == facts["reciprocity"]["value"]
    assert float(rows["6", "density.E->I"]) == facts["density"]["E->I"]
    assert int(rows["6", "onto_actions.0.E"]) == facts["onto_actions"][0]["E"]
    assert ("4", "changed_since_step_before.input") not in rows and ("6", "changed_since_step_before.input") in rows


@pytest.mark.slow
def test_the_command_takes_width_title_and_panels(run, tmp_path):
    given = ("--format", "png", "--step", "4", "--no-title", "--random-graphs", "2")
    invoke(run, *given, "--width", "9cm", "--panel", "d,b", "--out", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] == pytest.approx(300 * 9 / 2.54, abs=1)
    for wrong, message in {
        ("--width", "7"): "expected a length from 1in to 40in",
        ("--width", "70in"): "expected a length from 1in to 40in",
        ("--panel", "a,k"): "'k' is no panel. Known: a, b,",
        ("--panel", ""): "'' is no panel",
        ("--panel", "h", "--step", "all"): "the figure of several steps has a, b, c, d, e, f",
    }.items():
        with pytest.raises(ConfigError, match=message):
            invoke(run, *given, *wrong, "--out", tmp_path / "b.png")
    with pytest.raises(ConfigError, match="--panel does nothing for npz: it is for png, pdf, svg"):
        invoke(run, "--format", "npz", "--panel", "a")


def test_names_of_observations_are_those_of_the_task_if_it_has_as_many():
    config = load_config(None, ["task.name=hopper"])
    hopper = dataclasses.replace(random_connectome(), config=config, obs_mean=np.zeros(11), action_size=3)
    assert len(unit_labels(hopper)[0]) == 11
    assert unit_labels(dataclasses.replace(hopper, obs_mean=np.zeros(12))) == ((), unit_labels(hopper)[1])


def test_real_weights_have_no_picture(tmp_path):
    dense = save_run(tmp_path / "dense", "network.name=dense_snn", "algo.name=es", eval_fitness={2: 1.0})
    for name in ("png", "html"):
        with pytest.raises(ConfigError, match=f"{name} does not hold dense_snn: .*Formats for dense_snn: .*npz"):
            invoke(dense, "--format", name)
    assert not (dense / "exports").exists()
