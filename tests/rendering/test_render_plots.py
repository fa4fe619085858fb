from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rendering_cases import make_neurons

from evoconn_cli.drawing import colors
from evoconn_cli.networks import SpikingNeurons
from evoconn_cli.rendering.clock import Clock
from evoconn_cli.rendering.overlay import Box, Overlay, format_number, make_layout
from evoconn_cli.rendering.plots import (
    RasterRows,
    SpikeColumns,
    curve_strip,
    fit_rows,
    raster_strip,
    reward_columns,
    spike_columns,
    window,
)
from evoconn_cli.rendering.recording import Motion

DT = 0.02
SUBSTEPS = 10


def episode_of(spikes: np.ndarray, rewards: np.ndarray | None = None) -> Motion:
    """Returns an episode of a resting body with spikes `[T, S, N]`."""
    steps = len(spikes)
    return Motion(
        positions=np.zeros((steps + 1, 1, 3)),
        rotations=np.tile([1.0, 0, 0, 0], (steps + 1, 1, 1)),
        rewards=np.ones(steps, np.float32) if rewards is None else rewards.astype(np.float32),
        spikes=np.packbits(spikes.astype(bool), axis=-1),
    )


def random_spikes(steps: int, num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((steps, SUBSTEPS, num)) < 0.1


# Rows of the raster


@given(num=st.integers(1, 600), share=st.floats(0, 1), height=st.integers(20, 400))
def test_rows_fit_and_never_hold_both_types(num, share, height):
    excitatory = round(num * share)
    rows = fit_rows(make_neurons(num, excitatory), height)
    assert rows.num * rows.zoom <= height
    assert set(rows.row) == set(range(rows.num)) and (np.diff(rows.row) >= 0).all()
    assert set(rows.row[:excitatory]) == set(range(rows.sizes[0]))
    assert not set(rows.row[:excitatory]) & set(rows.row[excitatory:])


def test_every_neuron_has_a_row_of_its_own_where_there_is_room():
    rows = fit_rows(make_neurons(64, 32), 130)
    assert (rows.num, rows.sizes[0], rows.zoom) == (64, 32, 2)
    assert fit_rows(make_neurons(64, None), 40).num == 32


# Columns


@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("excitatory", [5, None, 0, 12])
def test_no_spike_is_lost_and_each_is_in_the_column_of_its_time(speed, excitatory):
    spikes = [random_spikes(40, 12), random_spikes(23, 12, seed=1)]
    neurons = make_neurons(12, excitatory)
    rows = fit_rows(neurons, 8)
    clock = Clock([episode_of(s) for s in spikes], dt=DT, fps=Fraction(25), speed=speed)
    found = spike_columns([episode_of(s) for s in spikes], neurons, rows, clock, per_frame=3)
    expected = np.zeros_like(found.counts, dtype=int)
    for start, episode in zip((0.0, 40 * DT + 0.5 * speed), spikes, strict=True):
        for step, substep, neuron in np.argwhere(episode):
            time = start + (step + (substep + 0.5) / SUBSTEPS) * DT
            expected[rows.row[neuron], int(time / speed * 25 * 3 + 1e-9)] += 1
    np.testing.assert_array_equal(found.counts, expected)


def test_rates_are_spikes_per_neuron_and_second_of_network_time():
    spikes = np.zeros((50, SUBSTEPS, 8), bool)
    spikes[:, ::5, 0] = True  # one of four excitatory neurons, every fifth sub-step of 0.5 ms: 400 Hz
    neurons = make_neurons(8, 4)
    episode = episode_of(spikes)
    clock = Clock([episode], dt=DT, fps=Fraction(25))  # two steps a frame
    rates = spike_columns([episode], neurons, fit_rows(neurons, 8), clock, per_frame=1).rates
    np.testing.assert_allclose(rates, [[100.0] * 38, [0.0] * 38])  # 25 frames, and half a second that holds the last


def test_columns_without_a_sub_step_or_a_reward_keep_the_value_before():
    spikes = np.ones((4, SUBSTEPS, 2), bool)
    neurons = make_neurons(2, None)
    episode = episode_of(spikes, rewards=np.array([1.0, 2.0, 3.0, 4.0]))
    clock = Clock([episode], dt=DT, fps=Fraction(50), speed=0.05)  # 20 frames a step
    np.testing.assert_allclose(
        spike_columns([episode], neurons, fit_rows(neurons, 2), clock, per_frame=2).rates, 2000.0
    )
    rewards = reward_columns([episode], clock, per_frame=2)
    assert len(rewards) == 160 + 50  # a step lasts 40 columns; then half a second that holds the last
    # The first step ends with column 39; before it there is no other reward to show.
    assert [float(rewards[column]) for column in (0, 39, 78, 79, 118, 119, 159, 209)] == [1, 1, 1, 2, 2, 3, 4, 4]


# Strips


def test_a_raster_shows_single_spikes_in_the_colour_of_their_type():
    counts = np.zeros((4, 30), np.uint8)
    counts[1, 7], counts[2, 20], counts[3, 20] = 1, 1, 9
    rows, by_type = RasterRows(np.arange(4), [2, 2], 3), (colors.EXCITATORY, colors.INHIBITORY)
    strip = raster_strip(SpikeColumns(counts, np.zeros((2, 30))), rows, by_type).astype(int)
    assert strip.shape == (12, 30, 3)
    lit = np.argwhere((strip != colors.TRACK).any(axis=-1))
    assert {(y // 3, x) for y, x in lit.tolist()} == {(1, 7), (2, 20), (3, 20)}
    red, _, blue = strip[3, 7]
    assert red > blue + 40  # excitatory: orange
    red, _, blue = strip[6, 20]
    assert blue > red + 40  # inhibitory: blue
    assert strip[9, 20].sum() > strip[6, 20].sum()  # more spikes, brighter


def test_a_curve_rises_to_the_right_and_has_no_seams():
    values = np.linspace(0, 1, 2500)
    strip = curve_strip([values], [(255, 255, 255)], 40, smoothing=1)
    assert strip.shape == (40, 2500, 3)
    heights = strip.astype(int).sum(axis=-1).argmax(axis=0)
    assert heights[10] > 30 and heights[-10] < 8
    assert (np.abs(np.diff(heights)) <= 1).all()


def test_a_curve_of_equal_values_is_drawn():
    strip = curve_strip([np.zeros(20)], [(255, 255, 255)], 20, smoothing=3)
    assert (strip.max(axis=(0, 2)) > 150).all()


def test_a_window_ends_at_the_present_and_is_empty_before_the_beginning():
    strip = np.full((3, 100, 3), 200, np.uint8)
    strip[:, 39] = 255
    view = window(strip, 40, 60)
    assert view.shape == (3, 60, 3)
    assert (view[:, -1] == 255).all() and (view[:, 20:59] == 200).all()
    assert (view[:, :20] == colors.TRACK).all()
    assert (window(strip, 100, 60)[:, 0] < 60).all()  # the past fades out


def test_a_window_marks_where_an_episode_begins():
    view = window(np.full((3, 100, 3), 200, np.uint8), 90, 60, marks=[0, 70])
    assert (view[:, 40] == colors.LINE).all() and (view[:, 41] == 200).all()


# Layout


def overlaps(first: Box, second: Box) -> bool:
    return (
        first.x < second.x + second.width
        and second.x < first.x + first.width
        and first.y < second.y + second.height
        and second.y < first.y + first.height
    )


@given(
    width=st.integers(320, 2000),
    height=st.integers(240, 1400),
    neurons=st.none() | st.builds(lambda n, e: make_neurons(n, round(n * e)), st.integers(2, 512), st.floats(0, 1)),
)
def test_everything_is_inside_the_picture_and_nothing_covers_anything(width, height, neurons):
    layout = make_layout(width, height, neurons)
    boxes = [box for box in (layout.scene, layout.raster, layout.rate, layout.reward) if box is not None]
    assert len(boxes) == (2 if neurons is None else 4)
    for box in boxes:
        assert box.x >= 0 and box.y >= 0 and box.width > 0 and box.height > 0
        assert box.x + box.width <= width and box.y + box.height <= height
    assert not any(overlaps(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert layout.scene.width * layout.scene.height > 0.2 * width * height
    if layout.rows is not None:
        assert layout.raster.height == layout.rows.num * layout.rows.zoom


# The whole picture


def overlay_of(spikes: np.ndarray, neurons: SpikingNeurons | None, **given) -> tuple[Overlay, Clock]:
    episodes = [episode_of(spikes)]
    clock = Clock(episodes, dt=DT, fps=Fraction(25), **given)
    return Overlay(("hopper", "about"), episodes, neurons, clock=clock, width=640, height=480), clock


def scene_of(overlay: Overlay) -> np.ndarray:
    box = overlay.layout.scene
    return np.full((box.height, box.width, 3), 77, np.uint8)


def crop(picture: np.ndarray, box: Box) -> np.ndarray:
    return picture[box.y : box.y + box.height, box.x : box.x + box.width]


def test_the_newest_spikes_are_at_the_right_edge_and_move_left():
    spikes = np.zeros((100, SUBSTEPS, 8), bool)
    spikes[50, :, 1] = True  # at 1.00 to 1.02 s, in an excitatory neuron
    overlay, _ = overlay_of(spikes, make_neurons(8, 4))
    seen = []
    for time in (0.96, 1.04, 1.4):
        raster = crop(overlay.compose(time, scene_of(overlay)), overlay.layout.raster).astype(int)
        orange = np.argwhere(raster[..., 0] > raster[..., 2] + 60)
        seen.append(orange)
    assert len(seen[0]) == 0
    rows, columns = seen[1].T
    assert columns.max() >= overlay.layout.raster.width - 8
    assert set(rows // (overlay.layout.raster.height // 8)) == {1}
    moved = columns.max() - seen[2][:, 1].max()
    assert moved == pytest.approx(0.36 / 2.6 * overlay.layout.raster.width, rel=0.1)


def test_the_scene_is_shown_and_its_texts_change_with_time():
    overlay, _ = overlay_of(random_spikes(100, 8), make_neurons(8, 4))
    first, later = (overlay.compose(time, scene_of(overlay)) for time in (0.5, 1.5))
    assert first.shape == (480, 640, 3) and first.dtype == np.uint8
    box = overlay.layout.scene
    middle = np.s_[box.height // 2, box.width // 2]
    assert (first[middle] == 77).all()
    top_right = np.s_[: round(5 * overlay.layout.unit), 500:]
    assert (first[top_right] != later[top_right]).any()  # the return


def test_a_frame_is_a_function_of_its_time_alone():
    overlay, _ = overlay_of(random_spikes(60, 8), make_neurons(8, 4))
    once = overlay.compose(0.7, scene_of(overlay))
    overlay.compose(1.1, scene_of(overlay))
    np.testing.assert_array_equal(once, overlay.compose(0.7, scene_of(overlay)))


@pytest.mark.parametrize("size", [(320, 240), (480, 320), (640, 480), (1280, 720)])
@pytest.mark.parametrize("name", ["hopper", "inverted_double_pendulum", "humanoidstandup"])
def test_the_title_leaves_room_for_the_longest_return(name, size):
    width, height = size
    rewards = np.full(100, -1234.5)
    clock = Clock(episodes := [episode_of(random_spikes(100, 8), rewards)], dt=DT, fps=Fraction(25))
    pictures = [
        Overlay(title, episodes, make_neurons(8, 4), clock=clock, width=width, height=height)
        for title in (("", ""), (name, "conn_snn, 256 neurons, generation 1000, edited bundle, sampled"))
    ]
    bare, titled = (o.compose(2.0, scene_of(o)).astype(int).sum(axis=-1) for o in pictures)
    layout = pictures[0].layout
    # The text of the return ends at the right; what the title changes ends before it begins.
    top = np.s_[layout.title[1] : layout.title[1] + round(2.6 * layout.unit)]
    shown = bare[top, layout.title[0] : layout.total[0]]
    return_begins = np.flatnonzero((shown != shown[:, :1]).any(axis=0))[0]
    title_ends = np.flatnonzero((bare != titled)[top, layout.title[0] :].any(axis=0))[-1]
    assert title_ends < return_begins
    assert (bare != titled)[top].any()


def test_the_last_frame_has_the_whole_return_and_stands_still():
    rewards = np.arange(7.0)  # 0 to 6: each digit of the return differs from that of the step before
    episodes = [episode_of(random_spikes(7, 8), rewards)]
    clock = Clock(episodes, dt=DT, fps=Fraction(25))
    overlay = Overlay(("", ""), episodes, None, clock=clock, width=640, height=480)
    last, end = (overlay.compose(time, scene_of(overlay)) for time in (clock.time_of(clock.num_frames - 1), 7 * DT))
    np.testing.assert_array_equal(last, end)
    assert clock.moment(clock.time_of(clock.num_frames - 1)).step == 7
    assert (last != overlay.compose(6.5 * DT, scene_of(overlay)))[:60, 500:].any()  # 21 and not 15


@pytest.mark.parametrize("size", [(320, 240), (480, 310), (640, 480), (1280, 720)])
def test_the_lines_about_a_picture_are_whole_and_leave_the_body_free(size):
    width, height = size
    clock = Clock(episodes := [episode_of(random_spikes(100, 8), np.full(100, 9.0))], dt=DT, fps=Fraction(25))
    overlays = [
        Overlay(("hopper", about), episodes, make_neurons(8, 4), clock=clock, width=width, height=height)
        for about in ("", "conn_snn, 128 neurons, generation 120")
    ]
    lines = [text for text, *_ in overlays[1]._title[1:]]
    assert " ".join(lines).replace(",", "").split() == "conn_snn 128 neurons generation 120".split()
    bare, titled = (o.compose(2.0, scene_of(o)).astype(int) for o in overlays)
    changed = np.flatnonzero((bare != titled).any(axis=(0, 2)))
    scene = overlays[0].layout.scene
    assert changed.min() >= scene.width or changed.max() < 0.45 * scene.width
    raster = overlays[0].layout.raster
    np.testing.assert_array_equal(crop(bare, raster), crop(titled, raster))


def test_networks_without_spikes_have_the_rewards_alone():
    overlay, _ = overlay_of(random_spikes(60, 8), None)
    assert overlay.layout.raster is None
    assert overlay.compose(0.5, scene_of(overlay)).shape == (480, 640, 3)


def test_silence_can_be_drawn():
    overlay, _ = overlay_of(np.zeros((5, SUBSTEPS, 8), bool), make_neurons(8, 4), speed=0.5)
    overlay.compose(0.0, scene_of(overlay))
    overlay.compose(0.1, scene_of(overlay))


@pytest.mark.parametrize(
    ("value", "decimals", "plus", "text"),
    [
        (1234.5, 0, False, "1,234"),
        (-0.04, 0, False, "0"),
        (-0.04, 2, True, "-0.04"),
        (0.0, 2, True, "0.00"),
        (2.5, 2, True, "+2.50"),
        (-1e4, 1, False, "-10,000.0"),
    ],
)
def test_numbers(value, decimals, plus, text):
    assert format_number(value, decimals, plus=plus) == text


def deuteranope(rgb: colors.Rgb) -> np.ndarray:
    """Returns a colour as it is seen without green cones. Source: Machado, Oliveira and Fernandes, 2009, severity 1."""
    linear = np.power(np.array(rgb) / 255, 2.2)
    return np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]) @ linear


def test_the_two_types_stay_apart_under_colour_blindness():
    excitatory, inhibitory = deuteranope(colors.EXCITATORY), deuteranope(colors.INHIBITORY)
    assert np.abs(excitatory - inhibitory).max() > 0.5
