"""`evoconn render` as a user calls it, and its files read back."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rendering_cases import probe_video
from saved_runs import files_of, save_run

from evoconn_cli.app import app
from evoconn_cli.commands.render import make_subject
from evoconn_cli.errors import CheckpointError, ConfigError, EvoconnError, RunDirectoryError
from evoconn_cli.evaluation.opened import open_run
from evoconn_cli.rendering import mujoco as gl
from evoconn_cli.rendering import recording
from evoconn_cli.training import tracking as wandb_video

pytestmark = pytest.mark.slow
TASK = "inverted_pendulum"  # the one that compiles fastest
DT = 0.04
OPTIONS = ["task.episode_length=30"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs") / "run", f"task.name={TASK}", *OPTIONS)


@pytest.fixture(autouse=True)
def can_draw():
    found, reasons = gl.find_backend()
    if found is None:
        pytest.skip(f"no GL on this machine: {reasons}")


@pytest.fixture
def no_gl(monkeypatch):
    monkeypatch.setattr(gl, "find_backend", lambda: (None, "no GL in this test"))


@pytest.fixture
def recordings(monkeypatch):
    """The episodes that the command plays."""
    played = []
    record = recording.record_episodes

    def keep(*args, **options):
        played.append(record(*args, **options))
        return played[-1]

    monkeypatch.setattr(recording, "record_episodes", keep)
    return played


def render(*arguments: object) -> None:
    app(["render", *map(str, arguments)], standalone_mode=False)


def render_small(*arguments: object) -> None:
    render(*arguments, "--size", "96x64", "--no-overlay")


def duration(recordings, speed: float = 1.0) -> float:
    """Returns how long the last video is: the last state of each episode is held for half a second."""
    return sum(episode.num_steps * DT / speed + 0.5 for episode in recordings[-1])


def test_a_video_goes_into_the_run_directory_in_true_time(run, recordings, capsys):
    render(run, "--size", "320x240")
    path = run / "videos" / "generation-6-seed-0.mp4"
    frames, fps = probe_video(path)
    assert fps == 30 and frames[0].shape == (240, 320, 3)
    assert len(frames) == pytest.approx(duration(recordings) * 30, abs=1)
    assert len({frame.tobytes() for frame in frames}) > len(frames) / 2
    said = capsys.readouterr().out
    assert "Drawn by MuJoCo" in said and str(path) in said.replace("\n", "")


def test_slow_motion_takes_longer_and_shows_the_same(run, recordings, tmp_path):
    out = tmp_path / "slow.mp4"
    render_small(run, "--out", out, "--speed", 0.5, "--fps", 20, "--steps", 10)
    frames, fps = probe_video(out)
    assert fps == 20
    assert len(frames) == pytest.approx(duration(recordings, 0.5) * 20, abs=1)


def test_a_gif_runs_at_a_rate_that_it_can_hold(run, recordings, tmp_path, capsys):
    out = tmp_path / "a.gif"
    render(run, "--out", out, "--size", "97x65", "--no-overlay", "--steps", 12, "--fps", 30)
    with Image.open(out) as gif:
        assert gif.size == (97, 65)
        delays = []
        for index in range(gif.n_frames):
            gif.seek(index)
            delays.append(gif.info["duration"])
    assert set(delays) == {30} and sum(delays) / 1000 == pytest.approx(duration(recordings), abs=0.03)
    assert "33.33 frames per second" in capsys.readouterr().out


def test_a_still_shows_the_moment_after_its_steps(run, recordings, tmp_path):
    pictures = {}
    for steps in (4, 9):
        out = tmp_path / f"{steps}.png"
        render_small(run, "--out", out, "--steps", steps)
        pictures[steps] = np.asarray(Image.open(out))
        assert recordings[-1][0].num_steps <= steps
    assert pictures[4].shape == (64, 96, 3)
    assert (pictures[4] != pictures[9]).any()


def test_episodes_follow_each_other_and_differ(run, recordings, tmp_path):
    out = tmp_path / "a.mp4"
    render_small(run, "--out", out, "--episodes", 3, "--steps", 5)
    starts = [episode.positions[0] for episode in recordings[-1]]
    assert len(starts) == 3 and (starts[0] != starts[1]).any()
    assert len(probe_video(out)[0]) == pytest.approx(duration(recordings) * 30, abs=1)


def test_the_seed_decides_and_the_checkpoint_too(run, recordings, tmp_path):
    for number, arguments in enumerate(((), (), ("--seed", 1), ("--step", "best"))):
        render_small(run, "--out", tmp_path / f"{number}.png", *arguments)
    same, again, other_seed, other_step = (recorded[0] for recorded in recordings)
    np.testing.assert_array_equal(same.positions, again.positions)
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    assert (same.positions[0] != other_seed.positions[0]).any()
    np.testing.assert_array_equal(same.positions[0], other_step.positions[0])
    assert same.spikes.shape != other_step.spikes.shape or (same.spikes != other_step.spikes).any()


def test_without_the_overlay_the_scene_fills_the_picture(run, tmp_path):
    for name, more in (("with", []), ("without", ["--no-overlay"])):
        render(run, "--out", tmp_path / f"{name}.png", "--size", "320x240", "--steps", 3, *more)
    plots, scene_only = (np.asarray(Image.open(tmp_path / f"{n}.png")).astype(int) for n in ("with", "without"))
    is_orange = lambda p: (p[..., 0] > p[..., 2] + 60).any()  # noqa: E731 - the excitatory neurons
    assert is_orange(plots) and not is_orange(scene_only)


@pytest.mark.parametrize("camera", ["side", "front"])
def test_cameras_see_something_else(run, tmp_path, camera):
    for name in ("track", camera):
        render_small(run, "--out", tmp_path / f"{name}.png", "--steps", 3, "--camera", name)
    assert (tmp_path / "track.png").read_bytes() != (tmp_path / f"{camera}.png").read_bytes()


def test_mujoco_draws_the_video(run, tmp_path, capsys):
    render_small(run, "--out", tmp_path / "a.mp4", "--steps", 5)
    frames, _ = probe_video(tmp_path / "a.mp4")
    assert len(frames) == 6 + 15 and frames[0].std() > 10
    assert "MuJoCo" in capsys.readouterr().out


def test_only_the_file_is_written(run, tmp_path):
    before = files_of(run)
    render_small(run / "checkpoints" / "4", "--out", tmp_path / "a.png", "--steps", 2)
    assert files_of(run) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_options_are_checked_before_anything_is_opened(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    for option, value, message in (("--size", "101x100", "even"), ("--out", tmp_path / "a.mp4", "a directory")):
        with pytest.raises(ConfigError, match=message):
            render(tmp_path / "nowhere", option, value)


def test_what_cannot_be_drawn_is_said_before_anything_is_played(run, recordings, no_gl):
    with pytest.raises(EvoconnError, match="no GL in this test.*libegl1.*--out FILE.html"):
        render(run)
    assert recordings == []


def test_what_cannot_be_written_is_said_before_anything_is_played(run, recordings, tmp_path):
    blocked = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("videos"))
    (blocked / "videos").touch()
    with pytest.raises(ConfigError, match="videos is a file"):
        render(blocked)
    assert recordings == []


def test_a_file_that_is_replaced_is_named(tmp_path, run, capsys):
    out = tmp_path / "[bold] :100:.png"
    for said in ("Written", "Replaced"):
        render_small(run, "--out", out, "--steps", 2)
        assert f"{said}: {out}\n" in capsys.readouterr().out


def test_any_episode_of_an_evaluation_can_be_shown(run, recordings, tmp_path):
    render_small(run, "--out", tmp_path / "a.png", "--episodes", 3, "--policy", "sampled")
    render_small(run, "--out", tmp_path / "b.png", "--episode", 2, "--policy", "sampled")
    render_small(run, "--out", tmp_path / "c.png", "--episode", 2)
    (third,), (deterministic,) = recordings[1:]
    np.testing.assert_array_equal(third.spikes, recordings[0][2].spikes)
    np.testing.assert_array_equal(third.positions[0], deterministic.positions[0])
    assert third.spikes.shape != deterministic.spikes.shape or (third.spikes != deterministic.spikes).any()


def test_a_bundle_is_shown_as_what_it_is(run, tmp_path):
    opened = open_run(run)._replace(bundle=SimpleNamespace(edit=object()))
    assert make_subject(opened, policy="sampled", seed=0).about.endswith("generation 6, edited bundle, sampled")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["{run}/nowhere"], RunDirectoryError, "no run at"),
        (["{run}", "--step", "5"], CheckpointError, "no generation 5"),
        (["{run}", "--out", "{run}/config.yaml/a.mp4"], ConfigError, "config.yaml is a file"),
        (["{run}", "--out", "{run}"], ConfigError, "has to end in"),
    ],
)
def test_what_is_wrong_is_said(run, arguments, error, message):
    with pytest.raises(error, match=message):
        render(*(argument.format(run=run) for argument in arguments))


def test_the_file_is_uploaded_where_that_is_asked_for(run, tmp_path, monkeypatch):
    uploads = []
    monkeypatch.setattr(wandb_video, "upload", lambda directory, config, path, note: uploads.append((directory, path)))
    render_small(run, "--out", tmp_path / "a.png", "--steps", 2)
    assert uploads == []
    render_small(run, "--out", tmp_path / "a.png", "--steps", 2, "--wandb")
    ((directory, path),) = uploads
    assert directory.path == run and path == tmp_path / "a.png"


def test_a_probe_has_nothing_to_show(tmp_path):
    with pytest.raises(ConfigError, match="no body"):
        render(save_run(tmp_path / "probe"))


@pytest.mark.parametrize("program", ["nowhere", "/bin/false", "/bin/true"])
def test_an_ffmpeg_that_does_not_work_is_told_before_anything_is_played(
    run, tmp_path, monkeypatch, recordings, program
):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program)
    for name in ("video.mp4", "video.gif"):
        with pytest.raises(EvoconnError, match="ffmpeg (cannot be started|failed)|writes no video"):
            render(run, "--out", tmp_path / name)
    assert not recordings and not any(tmp_path.iterdir())
