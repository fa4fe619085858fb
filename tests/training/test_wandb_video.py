"""Videos and histograms in W&B runs; whatever goes wrong there costs nothing but a note."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from test_tracking import KEY, FakeWandb, history_of, records_of

from evoconn_cli.config.loading import load_config
from evoconn_cli.rendering.encoders import write_png
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.training.histograms import Histogram
from evoconn_cli.training.tracking import open_tracker, upload

pytestmark = pytest.mark.usefixtures("no_account")


@pytest.fixture
def notes():
    return []


def run_with(tmp_path, wandb_id: str | None = "abcd1234", mode: str = "offline") -> RunDirectory:
    config = load_config(overrides=["task.name=hopper", f"tracking.wandb={mode}", "tracking.project=probe"])
    return RunDirectory.create(tmp_path / "run", config, {"wandb_id": wandb_id})


def picture(tmp_path, suffix: str = ".png"):
    path = tmp_path / f"a{suffix}"
    write_png(path, np.full((8, 8, 3), 90, np.uint8))
    return path


def fake_wandb(monkeypatch, *failing: str) -> FakeWandb:
    module = FakeWandb(*failing)
    module.run.summary = {}
    for kind in ("Video", "Image", "Html"):
        setattr(module, kind, lambda path, kind=kind: (kind, path))
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".mp4", "Video"), (".gif", "Video"), (".png", "Image"), (".html", "Html")]
)
def test_the_file_goes_to_the_run_of_the_training(tmp_path, notes, monkeypatch, suffix, kind):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    module = fake_wandb(monkeypatch)
    run = run_with(tmp_path, mode="auto")
    path = picture(tmp_path, suffix)
    assert upload(run, run.read_config(), path, notes.append)
    (init,) = module.inits
    assert (init["id"], init["mode"], init["resume"]) == ("abcd1234", "online", "allow")
    assert module.run.summary == {"video": (kind, str(path))}
    assert module.run.logged == [] and module.run.exit_code == 0
    assert notes == []


@pytest.mark.parametrize("run_id", [None, "../../../outside", "a/b", "", 3, ["x"]])
def test_a_run_without_wandb_gets_a_note(tmp_path, notes, monkeypatch, run_id):
    module = fake_wandb(monkeypatch)
    run = run_with(tmp_path, wandb_id=run_id)
    assert not upload(run, run.read_config(), picture(tmp_path), notes.append)
    assert module.inits == [] and "not tracked" in notes[0]


def test_the_run_of_an_original_is_left_alone_by_its_copy(tmp_path, notes, monkeypatch):
    module = fake_wandb(monkeypatch)
    run = run_with(tmp_path)
    run.update_facts(wandb_place=["another path", "1"])
    assert not upload(run, run.read_config(), picture(tmp_path), notes.append)
    assert module.inits == [] and len(notes) == 1 and "is a copy" in notes[0]


@pytest.mark.parametrize("mode", ["auto", "disabled"])
def test_where_wandb_is_disabled_a_note_says_so(tmp_path, notes, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    module = fake_wandb(monkeypatch)
    run = run_with(tmp_path, mode=mode)
    assert not upload(run, run.read_config(), picture(tmp_path), notes.append)
    assert module.inits == [] and len(notes) == 1 and "disabled" in notes[0]


def test_a_failing_upload_is_noted_once_and_the_file_kept(tmp_path, notes, monkeypatch):
    module = fake_wandb(monkeypatch)

    def refuse(path):
        raise OSError("disk is full")

    module.Image = refuse
    run = run_with(tmp_path)
    path = picture(tmp_path)
    assert not upload(run, run.read_config(), path, notes.append)
    assert len(notes) == 1 and "disk is full" in notes[0] and str(path) in notes[0]
    assert path.exists()


def test_a_failing_start_is_noted_once(tmp_path, notes, monkeypatch):
    fake_wandb(monkeypatch, "init")
    run = run_with(tmp_path)
    assert not upload(run, run.read_config(), picture(tmp_path), notes.append)
    assert len(notes) == 1


def test_a_library_that_cannot_be_imported_is_noted(tmp_path, notes, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = run_with(tmp_path)
    assert not upload(run, run.read_config(), picture(tmp_path), notes.append)
    assert len(notes) == 1


@pytest.mark.slow
def test_the_library_itself_takes_the_file(tmp_path, notes):
    run = run_with(tmp_path)
    assert upload(run, run.read_config(), picture(tmp_path), notes.append)
    assert notes == []
    (stored,) = (run.path / "wandb").glob("*/files/media/images/*.png")
    assert stored.stat().st_size == (tmp_path / "a.png").stat().st_size
    (log,) = (run.path / "wandb").glob("*/run-*.wandb")
    records = list(records_of(log))
    (started,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert started.run_id == "abcd1234"
    summaries = [record.summary for record in records if record.WhichOneof("record_type") == "summary"]
    values = {item.key: json.loads(item.value_json) for summary in summaries for item in summary.update}
    assert values["video"]["path"].endswith(stored.name)
    assert not [record for record in records if record.WhichOneof("record_type") == "history"]


@pytest.mark.slow
def test_histograms_and_videos_of_the_training_are_in_the_row_of_the_generation(tmp_path, notes):
    run = run_with(tmp_path)
    tracker = open_tracker(run.read_config(), run.path, None, notes.append)
    video = tmp_path / "a.gif"
    video.write_bytes(b"GIF89a")
    for generation in (1, 2):
        tracker.log({"generation": generation, "fitness_mean": 1.5}, generation)
    tracker.log_histograms({"probabilities/input": Histogram(np.array([2, 1]), np.array([0.0, 0.5, 1.0]), 1.0, 1.0)}, 2)
    tracker.log_video(video, 1)
    tracker.finish()
    assert notes == []
    (log,) = (run.path / "wandb").glob("*/run-*.wandb")
    first, second = history_of(log)
    assert (first["_step"], second["_step"], second["fitness_mean"]) == (1, 2, 1.5)
    assert second["probabilities/input.values"] == [2, 1] and "probabilities/input.values" not in first
    assert second["training_video.caption"] == "generation 1"


def test_a_failing_histogram_is_noted_once(tmp_path, notes, monkeypatch):
    fake_wandb(monkeypatch)  # has no histograms
    tracker = open_tracker(run_with(tmp_path).read_config(), tmp_path / "run", None, notes.append)
    for generation in (1, 2):
        tracker.log_histograms({"fitness": Histogram(np.array([1]), np.array([0.0, 1.0]), 0.5, 0.25)}, generation)
    assert len(notes) == 1 and "W&B stopped recording" in notes[0]
