from __future__ import annotations

import errno
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rendering_cases import probe_video
from started import killed_after, start

from evoconn_cli.config.rendering import make_options
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.output import replace_text, whole_file
from evoconn_cli.rendering import encoders
from evoconn_cli.rendering.camera import rotate
from evoconn_cli.rendering.clock import Clock, Moment, interpolate_rotations, pose_at
from evoconn_cli.rendering.encoders import make_palette, write_gif, write_mp4, write_png
from evoconn_cli.rendering.recording import Motion


def moving(num_steps: int) -> Motion:
    """Returns an episode whose body is at x = step and turns by 0.1 rad a step about z."""
    steps = np.arange(num_steps + 1)
    positions = np.zeros((num_steps + 1, 1, 3))
    positions[:, 0, 0] = steps
    rotations = np.stack([np.cos(0.05 * steps), 0 * steps, 0 * steps, np.sin(0.05 * steps)], axis=-1)[:, None]
    return Motion(positions, rotations, np.ones(num_steps, np.float32), None)


# The clock


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    dt=st.sampled_from([0.008, 0.015, 0.02, 0.05, 0.00800000037997961]),
    fps=st.sampled_from([Fraction(24), Fraction(30), Fraction(100, 3), Fraction(60)]),
    speed=st.sampled_from([0.1, 0.5, 1.0, 3.0]),
)
def test_frames_cover_the_simulated_time_and_show_their_own_moment(lengths, dt, fps, speed):
    clock = Clock([moving(length) for length in lengths], dt=dt, fps=fps, speed=speed)
    held = max(0.5, 2 / float(fps)) * speed  # of the last state of each episode
    total = sum(length * dt + held for length in lengths)
    assert abs(clock.num_frames / float(fps) - total / speed) <= 1 / float(fps)
    for frame in {0, clock.num_frames // 3, clock.num_frames - 1}:
        time = frame * speed / float(fps)
        moment = clock.moment(clock.time_of(frame))
        shown = (moment.step + moment.fraction) * dt
        assert clock.start_of(moment.episode) == pytest.approx(
            sum(length * dt + held for length in lengths[: moment.episode])
        )
        assert shown == pytest.approx(
            min(time - clock.start_of(moment.episode), lengths[moment.episode] * dt), abs=1e-4
        )
        assert 0 <= moment.step <= lengths[moment.episode] and 0 <= moment.fraction < 1
    # The end of every episode is seen, the last one's too.
    shown_states = {clock.moment(clock.time_of(frame))[:2] for frame in range(clock.num_frames)}
    assert set(enumerate(lengths)) <= shown_states


def test_eight_seconds_in_single_precision_are_240_frames():
    clock = Clock([moving(1000)], dt=0.00800000037997961, fps=Fraction(30))
    assert clock.num_frames == 240 + 15  # half a second for the last state


def test_the_first_moment_of_an_episode_is_its_first_state_and_the_end_is_the_last_one():
    clock = Clock([moving(10), moving(5)], dt=0.1, fps=Fraction(30))
    assert clock.moment(0.0)[:2] == (0, 0)
    assert clock.moment(0.999)[:2] == (0, 9)
    assert clock.moment(1.0) == Moment(0, 10, 0.0) == clock.moment(1.49)
    assert clock.moment(1.5)[:2] == (1, 0)
    assert clock.moment(2.0) == Moment(1, 5, 0.0) == clock.moment(99.0)


def test_poses_lie_between_two_states_and_never_between_episodes():
    episode = moving(10)
    positions, rotations = pose_at(episode, Moment(0, 4, 0.25))
    assert positions[0, 0] == pytest.approx(4.25)
    angle = 2 * np.arctan2(rotations[0, 3], rotations[0, 0])
    assert angle == pytest.approx(0.425, abs=1e-4)
    np.testing.assert_array_equal(pose_at(episode, Moment(0, 10, 0.0))[0], episode.positions[10])


def test_a_quaternion_whose_sign_flips_is_no_turn():
    turned = np.array([[np.cos(0.3), 0.0, np.sin(0.3), 0.0]])
    np.testing.assert_allclose(interpolate_rotations(turned, -turned, 0.5), turned)


def test_quaternions_compose_as_matrices_do():
    rng = np.random.default_rng(0)
    last, first = (q / np.linalg.norm(q) for q in rng.normal(size=(2, 4)))
    vector = rng.normal(size=3)
    (w, v), (w_first, v_first) = (last[0], last[1:]), (first[0], first[1:])
    both = np.concatenate([[w * w_first - v @ v_first], w * v_first + w_first * v + np.cross(v, v_first)])
    np.testing.assert_allclose(rotate(vector, both), rotate(rotate(vector, first), last))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotate(np.array([1.0, 0, 0]), np.array([half, 0, 0, half])), [0, 1, 0], atol=1e-12)


# Options


def options(name: str, **given):
    return make_options(Path(name), **given)


def test_the_name_says_the_format_and_defaults_suit_it():
    assert options("a.MP4").format == "mp4"
    found = options("a.mp4")
    assert (found.fps, found.speed, found.width, found.height) == (30, 1.0, 640, 480)
    assert (options("a.gif").fps, options("a.gif").notes) == (25, ())
    assert options("a.mp4", fps=29.97).fps == Fraction("29.97")


@pytest.mark.parametrize(("asked", "held"), [(30, Fraction(100, 3)), (25, 25), (20, 20), (60, 50), (240, 50), (1, 1)])
def test_a_gif_gets_the_nearest_rate_that_it_can_hold(asked, held):
    found = options("a.gif", fps=asked)
    assert found.fps == held
    assert (100 / found.fps).denominator == 1
    assert bool(found.notes) == (asked != held)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("a.avi", {}, "avi.*mp4"),
        ("video", {}, "has to end in"),
        ("a.mp4", {"size": "640"}, "WIDTHxHEIGHT"),
        ("a.mp4", {"size": "641x480"}, "even.*642x480"),
        ("a.gif", {"size": "20x20"}, "64 to 4096"),
        ("a.gif", {"size": "200x200"}, "320x240.*--no-overlay"),
        ("a.gif", {"size": "9999x480"}, "64 to 4096"),
        ("a.mp4", {"fps": 0.5}, "1 to 240"),
        ("a.mp4", {"fps": float("nan")}, "1 to 240"),
        ("a.mp4", {"speed": 0.0}, "0.01 to 100"),
        ("a.mp4", {"speed": float("nan")}, "0.01 to 100"),
        ("a.html", {"fps": 30.0}, "--fps has no meaning"),
        ("a.html", {"size": "640x480"}, "--size has no meaning"),
        ("a.png", {"speed": 2.0}, "--speed has no meaning"),
        ("a.png", {"fps": 30.0}, "--fps has no meaning"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_played(name, given, message):
    with pytest.raises(ConfigError, match=message):
        options(name, **given)


def test_odd_sizes_are_fine_where_the_format_has_them():
    assert options("a.gif", size="641x481").width == 641
    assert options("a.html", speed=0.5).speed == 0.5


# Files


def frames(number: int, width: int = 64, height: int = 48):
    """Yields frames that brighten from left to right, frame by frame."""
    for index in range(number):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, : (index + 1) * width // number] = [250, 140, 20]
        yield frame


def lit_share(frame: np.ndarray) -> float:
    return float((frame[..., 0] > 128).mean())


def test_an_mp4_has_its_size_rate_and_frames_and_their_colours(tmp_path):
    path = tmp_path / "a.mp4"
    write_mp4(path, frames(16), fps=Fraction(30), size=(64, 48))
    read, fps = probe_video(path)
    assert len(read) == 16 and fps == 30 and read[0].shape == (48, 64, 3)
    np.testing.assert_allclose([lit_share(f) for f in read], (np.arange(16) + 1) / 16, atol=0.02)
    np.testing.assert_allclose(read[-1].mean((0, 1)), [250, 140, 20], atol=4)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_gif_has_its_size_delays_and_frames_and_repeats(tmp_path):
    path = tmp_path / "a.gif"
    write_gif(path, frames(16), list(frames(16))[::5], fps=Fraction(100, 3), size=(64, 48))
    with Image.open(path) as gif:
        assert gif.size == (64, 48) and gif.n_frames == 16 and gif.info["loop"] == 0
        shares, delays = [], []
        for index in range(16):
            gif.seek(index)
            delays.append(gif.info["duration"])
            shares.append(lit_share(np.asarray(gif.convert("RGB"))))
    assert delays == [30] * 16
    np.testing.assert_allclose(shares, (np.arange(16) + 1) / 16, atol=0.02)


def test_a_palette_holds_the_colours_of_its_samples():
    sample = np.zeros((10, 10, 3), np.uint8)
    sample[:5], sample[5:] = [10, 200, 30], [90, 20, 250]
    colors = {tuple(color) for color in np.asarray(make_palette([sample])).reshape(-1, 3).tolist()}
    assert {(10, 200, 30), (90, 20, 250)} <= colors


def test_frames_are_asked_for_one_at_a_time(tmp_path):
    held = []

    class Frame(np.ndarray):
        def __del__(self):
            held.remove(1)

    def counted():
        for frame in frames(30):
            held.append(1)
            assert len(held) <= 2
            yield frame.view(Frame)

    write_mp4(tmp_path / "a.mp4", counted(), fps=Fraction(30), size=(64, 48))


def failing():
    yield next(frames(4))
    raise RuntimeError("out of ideas")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_file_appears_whole_or_not_at_all(tmp_path, name):
    path = tmp_path / name
    path.write_text("the one before")
    with pytest.raises(RuntimeError, match="out of ideas"):
        if name == "a.mp4":
            write_mp4(path, failing(), fps=Fraction(30), size=(64, 48))
        else:
            write_gif(path, failing(), list(frames(2)), fps=Fraction(25), size=(64, 48))
    assert path.read_text() == "the one before"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_failing_encoder_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "_codec_options", lambda: ["-c:v", "no_such_codec"])
    with pytest.raises(EvoconnError, match="ffmpeg failed: Unknown encoder 'no_such_codec'"):
        write_mp4(tmp_path / "a.mp4", frames(200), fps=Fraction(30), size=(64, 48))
    assert list(tmp_path.iterdir()) == []


def no_room(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_goes_wrong_beside_the_file_is_not_said_of_the_file(tmp_path, monkeypatch):
    def write(name):
        if name == "a.mp4":
            write_mp4(tmp_path / name, frames(2), fps=Fraction(30), size=(64, 48))
        else:
            write_gif(tmp_path / name, frames(2), list(frames(2)), fps=Fraction(25), size=(64, 48))

    for name, failing in (("a.mp4", "TemporaryFile"), ("a.gif", "TemporaryDirectory")):
        with monkeypatch.context() as patch, pytest.raises(EvoconnError, match="temporary file.*No space left"):
            patch.setattr(encoders.tempfile, failing, no_room)
            write(name)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere" / "ffmpeg"))
    with pytest.raises(EvoconnError, match="ffmpeg cannot be started: .*nowhere"):
        write("a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EvoconnError, match="file.* cannot be written"):
        write_png(tmp_path / "file" / "a.png", next(frames(1)))


def test_a_new_folder_is_made_and_a_png_is_exact(tmp_path):
    frame = next(frames(3))
    write_png(tmp_path / "new" / "a.png", frame)
    with Image.open(tmp_path / "new" / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), frame)


def test_nothing_is_left_by_a_block_that_raises(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with whole_file(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from evoconn_cli.output import partial_path
with partial_path(Path(sys.argv[1]), directory=sys.argv[2] == "directory") as partial:
    (partial / "a" if partial.is_dir() else partial).write_text("half")
    print(partial.name, flush=True)
    sys.stdin.read()
"""


def writing(path, kind):
    """Starts a process that is writing `path`; returns it and the name of what is not whole yet."""
    process = start([sys.executable, "-c", WRITER, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with killed_after(process):
        return process, process.stdout.readline().decode().strip()


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_that_ends_a_process_leaves_nothing(tmp_path, kind, number):
    process, name = writing(tmp_path / "x.pdf", kind)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_process_left_goes_with_the_next_file_and_what_a_living_one_writes_stays(tmp_path, kind):
    killed, left = writing(tmp_path / "x", kind)
    living, written = writing(tmp_path / "y.png", kind)
    killed.kill()
    killed.communicate(timeout=60)
    mine = tmp_path / ".x-0123456789abcdef.partial"
    mine.touch()
    replace_text(tmp_path / "z.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {written, mine.name, "z.json"}
    living.communicate(timeout=60)
    assert not (tmp_path / written).exists() and left != written
