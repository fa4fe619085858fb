"""The page of a connectome: what is in the file, and what a browser without a network makes of it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import WAIT, chromium, needs_browser
from connectome_cases import random_connectome, random_episode

from evoconn_cli.config.formats import SORTS
from evoconn_cli.export.analysis.dynamics import episode_dynamics, neuron_order
from evoconn_cli.export.analysis.reports import statistics_rows
from evoconn_cli.export.connectome import ExportSource
from evoconn_cli.export.pictures.explorer_page import write_explorer

pytestmark = pytest.mark.xdist_group("connectome_page")  # that share a browser

CONNECTOME = random_connectome(20)


def write_page(path: Path, connectome=CONNECTOME) -> ExportSource:
    source = ExportSource([connectome], lambda: random_episode(connectome), {"run": "</script> & more"})
    write_explorer(source, path)
    return source


def unpack(path: Path) -> tuple[dict, dict[str, dict[str, np.ndarray]]]:
    """Returns header and arrays of a page."""
    text = path.read_text(encoding="utf-8")
    data = gzip.decompress(base64.b64decode(re.search(r'<script id="data"[^>]*>([^<]*)<', text)[1]))
    header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
    layers = {}
    for layer in header["groups"]:
        layers[layer["name"]] = {
            name: np.frombuffer(data, array["type"], array["length"], header["start"] + array["offset"])
            for name, array in layer["arrays"].items()
        }
    return header, layers


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "a page.html"
    return path, write_page(path)


def test_the_connectome_can_be_read_back(page):
    header, layers = unpack(page[0])
    for name, layer in CONNECTOME.layers.items():
        bits = np.unpackbits(layers[name]["bits"], count=layer.size).reshape(layer.shape)
        np.testing.assert_array_equal(bits, layer)
        probs = layers[name]["probs"].reshape(layer.shape) / 255
        np.testing.assert_allclose(probs, CONNECTOME.probs[name], atol=0.5 / 255 + 1e-6)
    assert header["types"] == CONNECTOME.neuron_types.tolist()
    assert header["orders"] == {sort: neuron_order(CONNECTOME, sort).tolist() for sort in SORTS}
    rows = statistics_rows(page[1].statistics[0])
    assert header["statistics"] == [[list(row) for row in section] for section in rows]


def test_the_episode_can_be_read_back(page):
    header, groups = unpack(page[0])
    dynamics = episode_dynamics(CONNECTOME, page[1].episode)
    steps = header["episode_steps"]
    assert (steps, header["episode_ms"]) == (4 * 33, [0.5, 66.0])
    spikes = np.unpackbits(groups["episode"]["spikes"], count=steps * 20).reshape(steps, 20)
    np.testing.assert_array_equal(spikes, dynamics.spikes)
    np.testing.assert_allclose(groups["episode"]["current_I"], dynamics.currents["I"], rtol=1e-6)
    assert header["labels"] == {"observations": [], "actions": []}


def test_the_page_is_one_small_file_that_asks_for_nothing(page):
    text = page[0].read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", text)
    assert not re.search(r"https?://", text)
    assert "&lt;/script&gt; &amp; more" in text
    assert page[0].stat().st_size < 40_000


def test_the_same_connectome_gives_the_same_page(page, tmp_path):
    write_page(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page[0].read_bytes()


# In a browser


SELECT = """
const box = document.getElementById(arguments[0]);
box.value = arguments[1];
box.dispatchEvent(new Event("change"));
"""
MOUSE = """
const canvas = document.getElementById("matrix"), box = canvas.getBoundingClientRect();
const [x, y] = explorer.matrix.cell(arguments[1]);
canvas.dispatchEvent(new MouseEvent(arguments[0], { clientX: box.left + x, clientY: box.top + y, bubbles: true }));
return document.getElementById("readout").textContent;
"""
PIXEL = """
const [x, y] = explorer.matrix.cell(arguments[0]), ratio = Math.min(2, devicePixelRatio);
return Array.from(explorer.matrix.pen.getImageData(x * ratio, y * ratio, 1, 1).data).slice(0, 3);
"""
NUMBERS = "return [...document.querySelectorAll(arguments[0])].map(chip => Number(chip.textContent.replace('−', '-')))"


def cell(layer: str, pre: int, post: int) -> dict:
    return {"kernel": layer, "pre": pre, "post": post}


def rgb_of(css: str) -> list[int]:
    return [int(css[at : at + 2], 16) for at in (1, 3, 5)]


@pytest.fixture(scope="module")
def browser():
    with chromium(1300, 900) as opened:
        yield opened


@pytest.fixture
def opened(browser, page):
    browser.open(page[0])
    browser.run(WAIT % "window.explorer")
    yield browser
    assert browser.errors() == []


@needs_browser
@pytest.mark.slow
class TestInTheBrowser:
    @pytest.mark.parametrize("sort", SORTS)
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_every_connection_has_the_colour_of_its_type(self, opened, page, sort, theme):
        opened.run("explorer.dress(arguments[0])", theme)
        opened.run(SELECT, "sort", sort)
        colors = unpack(page[0])[0]["colors"][theme]
        empty = rgb_of(opened.run("return explorer.styles.empty"))
        for pre, post in [(0, 0), (0, 1), (3, 17), (17, 3), (12, 12), (19, 5), (5, 19)]:
            kind = "E" if CONNECTOME.neuron_types[pre] > 0 else "I"
            expected = rgb_of(colors[kind]) if CONNECTOME.layers["recurrent"][pre, post] else empty
            assert opened.run(PIXEL, cell("recurrent", pre, post)) == expected
        for pre, post in [(0, 1), (19, 0), (7, 1)]:
            kind = "E" if CONNECTOME.neuron_types[pre] > 0 else "I"
            expected = rgb_of(colors[kind]) if CONNECTOME.layers["output"][pre, post] else empty
            assert opened.run(PIXEL, cell("output", pre, post)) == expected

    def test_what_is_under_the_mouse_is_said(self, opened):
        for pre, post in [(3, 17), (17, 3), (0, 0)]:
            said = opened.run(MOUSE, "mousemove", cell("recurrent", pre, post))
            kinds = ["E" if CONNECTOME.neuron_types[n] > 0 else "I" for n in (pre, post)]
            assert said.startswith(f"neuron {pre} ({kinds[0]}) → neuron {post} ({kinds[1]}): ")
            sign = "+1" if kinds[0] == "E" else "−1"
            connected = CONNECTOME.layers["recurrent"][pre, post]
            assert (f": connected, sign {sign}" in said) == connected and (": not connected" in said) != connected
            assert abs(float(said.split(" p ")[-1]) - CONNECTOME.probs["recurrent"][pre, post]) < 0.0071
        net = CONNECTOME.layers["input"].astype(int)[:3] - CONNECTOME.layers["input"][3:]
        for observation, neuron in [(0, 0), (1, 5), (2, 19), (2, 8)]:
            said = opened.run(MOUSE, "mousemove", cell("input", observation, neuron))
            words = {1: "acts directly", -1: "acts reversed", 0: "not"}[net[observation, neuron]]
            assert said.startswith(f"observation {observation} → neuron {neuron}") and words in said

    def test_a_neuron_that_is_clicked_shows_its_connections(self, opened):
        opened.run(MOUSE, "click", cell("recurrent", 4, 11))
        recurrent = CONNECTOME.layers["recurrent"]
        assert opened.run("return document.querySelector('#picked h2').textContent").startswith("Neuron 4, excitatory")
        assert opened.run(NUMBERS, "#to button") == np.flatnonzero(recurrent[4]).tolist()
        assert opened.run(NUMBERS, "#from button") == np.flatnonzero(recurrent[:, 4]).tolist()
        assert opened.run(NUMBERS, "#acts span") == np.flatnonzero(CONNECTOME.layers["output"][4]).tolist()
        before = opened.run("return explorer.matrix.order")
        opened.press("\ue015")  # arrow down
        assert opened.run("return explorer.picked") == before[before.index(4) + 1]
        opened.press("\ue00c")  # escape
        assert opened.run("return explorer.picked") is None
        assert opened.run("return document.querySelector('#picked h2').textContent") == "No neuron picked"

    def test_a_number_and_a_chip_pick_a_neuron(self, opened):
        opened.run("const n = document.getElementById('neuron'); n.value = '13'; n.dispatchEvent(new Event('input'))")
        assert opened.run("return explorer.picked") == 13
        chip = opened.run("const b = document.querySelector('#to button'); b.click(); return Number(b.textContent)")
        assert opened.run("return explorer.picked") == chip
        opened.run("const n = document.getElementById('neuron'); n.value = '99'; n.dispatchEvent(new Event('input'))")
        assert opened.run("return explorer.picked") is None

    def test_probabilities_are_shades(self, opened):
        opened.run("explorer.dress('light')")
        opened.run(SELECT, "show", "probs")
        pixels = np.array([opened.run(PIXEL, cell("recurrent", 2, post)) for post in range(20)])
        blue = rgb_of(opened.run("return explorer.colors.E"))[2]
        np.testing.assert_allclose((255 - pixels[:, 2]) / (255 - blue), CONNECTOME.probs["recurrent"][2], atol=0.01)

    def test_the_page_asks_for_nothing_and_has_its_table(self, opened, page):
        assert opened.run("return performance.getEntriesByType('resource').length") == 0
        rows = sum(map(len, statistics_rows(page[1].statistics[0])))
        assert opened.run("return document.querySelectorAll('#statistics tbody tr').length") == rows
        assert opened.run("return document.querySelectorAll('.plots svg').length") == 4

    def test_the_episode_and_what_colours_mean_are_shown(self, opened, page):
        assert opened.run("return document.querySelectorAll('.episode svg polyline').length") == 2 + 3
        words = opened.run("return document.getElementById('legend').textContent")
        assert all(text in words for text in ("from E", "from I", "(x)", "(−x)"))
        count = "return [...arguments[0]].filter(n => explorer.connectome.spiked(arguments[1], n)).length"
        spikes = page[1].episode.spikes.reshape(-1, 20)
        assert opened.run(count, list(range(20)), 50) == spikes[50].sum()
        pixels = (
            "return Array.from(document.getElementById('raster').getContext('2d').getImageData(0, 0, 400, 150).data)"
        )
        drawn = np.array(opened.run(pixels), int).reshape(150, 400, 4)
        colors = unpack(page[0])[0]["colors"][opened.run("return document.documentElement.dataset.theme")]
        assert all((drawn[..., :3] == rgb_of(colors[name])).all(axis=-1).any() for name in ("E", "I"))

    def test_a_fragment_opens_with_a_neuron(self, browser, page):
        browser.open(page[0], "#neuron=6")
        browser.run(WAIT % "window.explorer && explorer.picked !== null")
        assert browser.run("return document.querySelector('#picked h2').textContent").startswith("Neuron 6,")

    @pytest.mark.parametrize("given", [{"density": 0.0}, {"excitatory_ratio": 1.0}], ids=str)
    def test_extremes_are_shown(self, browser, tmp_path, given):
        write_page(tmp_path / "a.html", random_connectome(3, **given))
        browser.open(tmp_path / "a.html", "#neuron=1")
        browser.run(WAIT % "window.explorer && explorer.picked !== null")
        assert browser.errors() == []
