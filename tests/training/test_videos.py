"""Videos beside a training: one process at a time, which costs the training nothing but a note."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from saved_runs import save_run
from whole_runs import Listening, run_small

from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.lock import is_alive
from evoconn_cli.training.tracking import Tracker
from evoconn_cli.training.videos import VideoMaker

DRAWS = """
import os, sys
from pathlib import Path
command, run, out, *options = sys.argv[1:3] + sys.argv[4:]
assert command == "render" and os.environ["JAX_PLATFORMS"] == "cpu"
assert (Path(run) / "config.yaml").is_file()
(generation,) = (Path(run) / "checkpoints").iterdir()
Path(out).write_text(generation.name)
"""
FAILS = "print('something'); print('Error: no picture.'); raise SystemExit(1)"
HANGS = "import time; time.sleep(600)"


@pytest.fixture
def directory(tmp_path):
    """A run of which generations 10, 20, ... 60 seem to be saved."""
    run = RunDirectory(tmp_path / "run")
    for generation in range(10, 70, 10):
        (run.checkpoints / str(generation)).mkdir(parents=True)
    run.config_file.touch()
    return run


def make(directory: RunDirectory, code: str, notes: list[str], *, every: int = 20, start: int = 0) -> VideoMaker:
    command = (sys.executable, "-c", code)
    return VideoMaker(directory, every, start, suffix=".gif", note=notes.append, command=command)


def end_of(videos: VideoMaker):
    """Returns what the process that runs now leads to."""
    videos.wait(lambda: False)
    return videos.finished()


def test_the_first_checkpoint_after_so_many_generations_is_drawn(directory):
    notes, drawn = [], []
    videos = make(directory, DRAWS, notes, every=25, start=10)
    for generation in (20, 30, 40, 50, 60):
        videos.saved(generation)
        if video := end_of(videos):
            drawn.append((video.path.name, video.generation, video.path.read_text()))
    assert drawn == [("generation-30.gif", 30, "30"), ("generation-50.gif", 50, "50")]
    assert all("waiting" in note for note in notes)
    assert sorted(path.name for path in (directory.path / "videos").iterdir()) == [one[0] for one in drawn]


def test_while_one_is_drawn_no_other_begins_and_the_training_ends_it(directory):
    notes = []
    videos = make(directory, HANGS, notes)
    videos.saved(20)
    process = videos._process
    videos.saved(40)
    assert videos._process is process and videos.finished() is None
    asked = iter([False, True])
    videos.wait(lambda: next(asked))
    videos.close()
    assert "not finished" in notes[-1]
    assert process is not None and not is_alive(process.pid)
    assert list((directory.path / "videos").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "reason"), [(FAILS, "no picture"), ("import os; os._exit(9)", "exit code 9"), ("", "exit code 0")]
)
def test_a_failure_is_one_note_and_the_last_attempt(directory, code, reason):
    notes = []
    videos = make(directory, code, notes)
    videos.saved(20)
    while videos._process is not None:
        assert videos.finished() is None
        time.sleep(0.01)
    videos.saved(40)
    (note,) = notes
    assert "generation 20" in note and reason in note and videos._process is None


def test_a_program_or_a_checkpoint_that_is_not_there_is_one_note_too(directory):
    notes = []
    VideoMaker(directory, 20, 0, suffix=".gif", note=notes.append, command=("/nowhere/python",)).saved(20)
    make(directory, DRAWS, notes).saved(80)
    assert len(notes) == 2 and all("No such file" in note for note in notes)


@pytest.mark.parametrize("link", ["videos", "videos/.rendering", "videos/generation-20.gif"])
def test_links_are_not_followed(directory, tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    (directory.path / link).parent.mkdir(exist_ok=True)
    (directory.path / link).symlink_to(tmp_path / "elsewhere")
    notes = []
    make(directory, DRAWS, notes).saved(20)
    assert "symbolic link" in notes[0] and os.listdir(tmp_path / "elsewhere") == []


@pytest.fixture
def tracked(monkeypatch):
    """The videos that the tracker of a run has received."""
    received = []

    class Watching(Tracker):
        def log_video(self, path, generation):
            received.append((path.name, generation))

    monkeypatch.setattr("evoconn_cli.training.train.track_run", lambda *_: Watching())
    return received


def test_a_run_tracks_its_videos_and_waits_for_the_last_one(light, monkeypatch, tmp_path, tracked):
    monkeypatch.setattr("light_engine.POSES", lambda state: state)
    command = (sys.executable, "-c", DRAWS)
    monkeypatch.setattr("evoconn_cli.training.train.VideoMaker", partial(VideoMaker, command=command))
    run_small(tmp_path / "run", "tracking.video_every=6")
    assert tracked == [("generation-6.mp4", 6)]


def test_a_task_without_a_body_has_no_videos(light, tmp_path):
    progress = Listening()
    run_small(tmp_path / "run", "tracking.video_every=2", progress=progress)
    assert any("no body" in note for note in progress.notes)
    assert not (tmp_path / "run" / "videos").exists()


@pytest.mark.slow
def test_a_process_does_not_outlive_the_training(directory):
    hangs = f"from evoconn_cli.runs.signals import end_with_parent; end_with_parent(); {HANGS}"
    trains = (
        "import sys; from pathlib import Path\n"
        "from evoconn_cli.runs.directory import RunDirectory\n"
        "from evoconn_cli.training.videos import VideoMaker\n"
        f"videos = VideoMaker(RunDirectory(Path(sys.argv[1])), 20, 0, suffix='.gif', note=print,"
        f" command=(sys.executable, '-c', {hangs!r}))\n"
        "videos.saved(20)\n"
        f"print(videos._process.pid, flush=True); {HANGS}"
    )
    training = subprocess.Popen([sys.executable, "-c", trains, directory.path], stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    drawing = int(training.stdout.readline())
    assert is_alive(drawing)
    training.kill()
    training.communicate()
    until = time.monotonic() + 60
    while _runs(drawing) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _runs(drawing)


def _runs(pid: int) -> bool:
    """Returns whether a process runs; one whose parent is gone may stay as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return is_alive(pid)


@pytest.mark.slow
def test_a_checkpoint_becomes_a_video(tmp_path):
    run = save_run(tmp_path / "run", "task.name=hopper", "task.episode_length=3", eval_fitness={2: 1.0})
    notes = []
    videos = VideoMaker(RunDirectory(run), 2, 0, suffix=".gif", note=notes.append)
    videos.saved(2)
    video = end_of(videos)
    assert video is not None, notes
    assert video.path.read_bytes()[:4] == b"GIF8"
