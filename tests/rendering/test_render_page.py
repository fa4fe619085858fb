"""The page: what is in the file, and what a browser without a network makes of it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import WAIT, chromium, needs_browser
from paths import PACKAGE
from rendering_cases import brax_bodies, make_episode, make_neurons

from evoconn_cli.config.rendering import make_options
from evoconn_cli.networks import SpikingNeurons
from evoconn_cli.rendering.overlay import format_number
from evoconn_cli.rendering.page import write_page

pytestmark = pytest.mark.xdist_group("render_page")  # that share a browser

DT = 0.02
NEURONS = make_neurons(20, 12)
WEB = PACKAGE / "rendering" / "web"


def make_page(path: Path, *, name: str = "hopper", neurons: SpikingNeurons | None = NEURONS, **given):
    bodies = brax_bodies(name)
    episodes = [make_episode(bodies, steps, neurons, speed=0.02) for steps in (100, 50)]
    options = make_options(path, **given)
    write_page(path, bodies, episodes, neurons=neurons, options=options, dt=DT, about="20 neurons </script> & more")
    return episodes


def unpack(path: Path) -> tuple[dict, list[dict[str, np.ndarray]]]:
    """Returns header and arrays of the recording in a page."""
    text = path.read_text(encoding="utf-8")
    data = gzip.decompress(base64.b64decode(re.search(r'<script id="data"[^>]*>([^<]*)<', text)[1]))
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    episodes = []
    for episode in header["episodes"]:
        arrays = {}
        for name, array in episode["arrays"].items():
            start = header["start"] + array["offset"]
            assert start % 4 == 0
            arrays[name] = np.frombuffer(data, array["type"], array["length"], start)
        episodes.append(arrays)
    return header, episodes


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "a page.html"
    return path, make_page(path)


def test_the_recording_can_be_read_back(page):
    path, episodes = page
    header, stored = unpack(path)
    assert [e["steps"] for e in header["episodes"]] == [100, 50]
    assert header["neurons"] == {"num": 20, "excitatory": 12, "substeps": 33, "substep_ms": 0.5}
    for episode, arrays in zip(episodes, stored, strict=True):
        np.testing.assert_allclose(arrays["positions"].reshape(episode.positions.shape), episode.positions, rtol=1e-6)
        rotations = arrays["rotations"].reshape(episode.rotations.shape) / 32767
        np.testing.assert_allclose(rotations, episode.rotations, atol=2e-5)
        np.testing.assert_array_equal(arrays["spikes"].reshape(episode.spikes.shape), episode.spikes)
        np.testing.assert_array_equal(arrays["rewards"], episode.rewards)
        assert arrays["targets"].size == 3 * (episode.num_steps + 1)


def test_the_page_is_one_file_with_its_licence_that_asks_for_nothing(page):
    path, _ = page
    text = path.read_text(encoding="utf-8")
    assert "three.js authors" in text and "Permission is hereby granted" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", text)
    assert "20 neurons &lt;/script&gt; &amp; more" in text
    assert "{{" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert path.stat().st_size < 1_000_000


def test_what_is_shipped_is_what_its_readme_says():
    version = re.search(r"three@0\.(\d+)\.0", (WEB / "three.md").read_text())[1]
    three = (WEB / "three.js").read_text(encoding="utf-8")
    assert f'"{version}"' in three
    assert "</script" not in three.lower()
    exported = re.findall(r"\b[A-Z]\w+\b", re.search(r"{(.*?)}", (WEB / "three.entry.js").read_text(), re.DOTALL)[1])
    used = set(re.findall(r"THREE\.(\w+)", "".join(p.read_text() for p in WEB.glob("*.js") if p.name != "three.js")))
    assert used <= {*exported, "OrbitControls"} and used


def test_the_same_recording_gives_the_same_page(page, tmp_path):
    path, _ = page
    make_page(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()


def test_options_of_the_page(tmp_path):
    make_page(tmp_path / "a.html", neurons=None, camera="front", speed=0.25, has_overlay=False)
    header, stored = unpack(tmp_path / "a.html")
    assert (header["camera"], header["speed"], header["overlay"], header["neurons"]) == ("front", 0.25, False, None)
    assert "spikes" not in stored[0]


# In a browser


POSITIONS = "return viewer.scene.bodies.map(body => body.position.toArray())"
TOTAL = "return document.querySelector('#total strong').textContent"
SCRUB = """
const scrub = document.getElementById("scrub");
scrub.value = arguments[0];
scrub.dispatchEvent(new Event("input"));
"""


@pytest.fixture(scope="module")
def browser():
    with chromium(1000, 700) as opened:
        yield opened


def open_page(browser, path: Path, fragment: str = "#t=0.4") -> None:
    browser.open(path, fragment)
    browser.run(WAIT % "window.viewer")


def left(picture: np.ndarray) -> np.ndarray:
    """Returns the part of a screenshot in which the scene is, as whole numbers."""
    return picture[100:600, :560].astype(int)


@needs_browser
@pytest.mark.slow
class TestInTheBrowser:
    def test_the_body_and_its_spikes_are_seen(self, browser, page):
        path, episodes = page
        open_page(browser, path)
        picture = browser.picture()
        assert picture.shape[1] == 1000
        assert (left(picture).min(axis=-1) > 110).mean() > 0.01  # a bright body on a dark floor
        plots = picture[:, 700:].astype(int)
        assert (plots[..., 0] > plots[..., 2] + 80).any() and (plots[..., 2] > plots[..., 0] + 80).any()
        np.testing.assert_allclose(browser.run(POSITIONS), episodes[0].positions[20], atol=1e-4)
        assert browser.errors() == []
        assert browser.run("return performance.getEntriesByType('resource').length") == 0
        assert browser.run("return document.querySelector('#name p').textContent") == "20 neurons </script> & more"

    def test_the_scrubber_moves_the_body_and_the_plots(self, browser, page):
        path, episodes = page
        open_page(browser, path)
        before = browser.picture().astype(int)
        browser.run(SCRUB, 1.5)
        after = browser.picture().astype(int)
        np.testing.assert_allclose(browser.run(POSITIONS), episodes[0].positions[75], atol=1e-4)
        assert (np.abs(left(before) - left(after)).max(axis=-1) > 20).mean() > 0.01
        assert (np.abs(before - after)[:, 700:].max(axis=-1) > 20).mean() > 0.01

    def test_the_scrubber_reaches_the_next_episode_and_the_end(self, browser, page):
        path, episodes = page
        open_page(browser, path)
        browser.run(SCRUB, 2.0)
        np.testing.assert_allclose(browser.run(POSITIONS), episodes[1].positions[0], atol=1e-4)
        browser.run(SCRUB, 99)
        np.testing.assert_allclose(browser.run(POSITIONS), episodes[1].positions[50], atol=1e-4)
        assert float(browser.run(TOTAL)) == pytest.approx(float(episodes[1].rewards.sum()), abs=0.5)

    def test_the_return_is_that_of_the_steps_that_are_complete(self, browser, page):
        path, episodes = page
        open_page(browser, path)
        browser.run("viewer.decimals = 3; viewer.show()")
        for steps, complete in ((0, 0), (0.9, 0), (1, 1), (20.5, 20)):
            browser.run("viewer.seek(arguments[0])", steps * DT)
            total = float(episodes[0].rewards[:complete].sum())
            assert float(browser.run(TOTAL)) == pytest.approx(total, abs=6e-4)

    def test_numbers_are_those_of_a_video(self, browser, page):
        open_page(browser, page[0])
        for value in (1234.6, -0.04, 0.0, 2.6, -1e4, 0.0004):
            for decimals in (0, 2):
                for plus in (False, True):
                    shown = browser.run("return formatNumber(...arguments)", value, decimals, plus)
                    assert shown == format_number(value, decimals, plus=plus)

    def test_every_neuron_of_a_large_network_is_seen(self, browser, tmp_path):
        neurons = make_neurons(600, 300)
        bodies = brax_bodies("hopper")
        episodes = []
        for neuron in (300, 301, 302):
            spikes = np.zeros((20, 33, 600), bool)
            spikes[:, :, neuron] = True
            episode = make_episode(bodies, 20, neurons)
            episodes.append(replace(episode, spikes=np.packbits(spikes, axis=-1)))
        path = tmp_path / "a.html"
        options = make_options(path, speed=4.0)
        write_page(path, bodies, episodes, neurons=neurons, options=options, dt=0.004, about="600 neurons")
        open_page(browser, path)
        for index in range(3):
            browser.run("viewer.seek(arguments[0])", (20 * index + 19.9) * 0.004)
            raster = browser.picture()[20:450, 720:].astype(int)
            assert (raster[..., 2] > raster[..., 0] + 80).any()

    def test_keys_of_the_browser_and_of_a_control_are_left_to_them(self, browser, page):
        open_page(browser, page[0])
        press = "document.body.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, ...arguments[0]}))"
        for key, held in (("ArrowLeft", "altKey"), (" ", "ctrlKey"), ("ArrowRight", "metaKey")):
            browser.run(press, {"key": key, held: True})
        assert browser.run("return [viewer.time, viewer.playing]") == [0.4, False]
        browser.run(press, {"key": "ArrowRight"})
        assert browser.run("return viewer.time") == pytest.approx(0.42)
        browser.run("document.getElementById('follow').focus()")
        browser.press(" ")
        assert browser.run("return [viewer.playing, document.getElementById('follow').checked]") == [False, False]

    def test_the_camera_keeps_its_view_over_sizes_and_pans(self, browser, page):
        open_page(browser, page[0])
        distance = "return viewer.scene.camera.position.distanceTo(viewer.scene.controls.target)"
        canvas = "viewer.scene.renderer.domElement.style."
        before = browser.run(distance)
        browser.run(canvas + "display = 'none'; viewer.resize(); " + canvas + "display = ''; viewer.resize()")
        assert browser.run(distance) == pytest.approx(before)
        browser.run(canvas + "width = '60px'; viewer.resize()")
        narrow = browser.run(distance)
        assert narrow > 1.5 * before and narrow == pytest.approx(browser.run("return viewer.scene.distance"))
        browser.run(canvas + "width = ''; viewer.resize()")
        away = "return viewer.scene.camera.position.clone().sub(viewer.scene.controls.target).toArray()"
        offset = browser.run(away)
        browser.run("const follow = document.getElementById('follow'); follow.click()")
        browser.run("for (const x of [viewer.scene.camera.position, viewer.scene.controls.target]) x.y += 1")
        browser.run("document.getElementById('follow').click()")
        np.testing.assert_allclose(browser.run(away), offset, atol=1e-6)

    def test_play_and_pause(self, browser, page):
        open_page(browser, page[0])
        frames = "return new Promise(d => requestAnimationFrame(() => requestAnimationFrame(() => d(viewer.time))))"
        assert browser.run(frames) == 0.4
        browser.run("document.getElementById('play').click()")
        browser.run(WAIT % "viewer.time > 0.45")
        browser.press(" ")
        at = browser.run("return viewer.time")
        assert browser.run(frames) == at and not browser.run("return viewer.playing")

    def test_the_mouse_orbits(self, browser, page):
        open_page(browser, page[0])
        where = "return viewer.scene.camera.position.toArray()"
        before, picture = browser.run(where), browser.picture()
        browser.drag((200, 300), (400, 280))
        moved = "Math.hypot(...viewer.scene.camera.position.toArray().map((x, i) => x - %s[i])) > 0.3"
        browser.run(WAIT % (moved % before))
        assert (np.abs(left(picture) - left(browser.picture())).max(axis=-1) > 20).mean() > 0.01

    def test_a_camera_that_does_not_follow_stays(self, browser, page):
        open_page(browser, page[0])
        where = "return viewer.scene.camera.position.toArray()"
        before = browser.run(where)
        browser.run(SCRUB, 0.8)
        moved = browser.run(where)
        assert moved[0] - before[0] > 0.1  # the body travels along x
        browser.run("document.getElementById('follow').click()")
        browser.run(SCRUB, 1.2)
        np.testing.assert_allclose(browser.run(where), moved, atol=1e-6)

    def test_views_and_speed(self, browser, page):
        open_page(browser, page[0])
        browser.run("const v = document.getElementById('view'); v.value = 'side'; v.dispatchEvent(new Event('change'))")
        away = np.array(
            browser.run("return viewer.scene.camera.position.clone().sub(viewer.scene.controls.target).toArray()")
        )
        assert away[1] / np.linalg.norm(away) < -0.95
        browser.run(
            "const s = document.getElementById('speed'); s.value = '0.25'; s.dispatchEvent(new Event('change'))"
        )
        assert browser.run("return viewer.speed") == 0.25

    def test_a_page_plays_when_it_is_opened(self, browser, page):
        open_page(browser, page[0], "")
        browser.run(WAIT % "viewer.time > 0.05")
        browser.run(WAIT % "viewer.time == 3 && !viewer.playing")
        assert browser.errors() == []

    def test_a_page_without_plots_or_spikes(self, browser, tmp_path):
        make_page(tmp_path / "a.html", neurons=None, has_overlay=False)
        open_page(browser, tmp_path / "a.html")
        assert browser.run("return document.getElementById('plots').hidden")
        make_page(tmp_path / "b.html", neurons=None)
        open_page(browser, tmp_path / "b.html")
        assert browser.errors() == []
        assert (browser.picture()[:, 700:].astype(int)[..., 1] > 150).any()  # the rewards
