"""TensorBoard's event files, read back as TensorBoard does."""

from __future__ import annotations

import math
import shutil
import struct
import time

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c
from whole_runs import resume_small, run_small

from evoconn_cli.config.loading import load_config
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.histograms import Histogram
from evoconn_cli.training.tensorboard import open_event_log

ON = "tracking.tensorboard=true"


def read_events(path):
    """Yields the events of a file, and fails where a checksum is wrong."""
    data = path.read_bytes()
    while data:
        length, check = struct.unpack_from("<QI", data)
        content, (check_content,) = data[12 : 12 + length], struct.unpack_from("<I", data, 12 + length)
        assert (check, check_content) == (masked_crc32c(data[:8]), masked_crc32c(content))
        yield Event.FromString(content)
        data = data[16 + length :]


def read_log(run):
    """Returns the events with metrics of all files, without those that a restart takes back."""
    kept = []
    for path in sorted((run / "tensorboard").iterdir()):
        first, *events = read_events(path)
        assert first.file_version == "brain.Event:2"  # from 2 on, restarts count
        for event in events:
            if event.session_log.status == SessionLog.START:
                kept = [earlier for earlier in kept if earlier.step < event.step]
            elif all(value.WhichOneof("value") == "simple_value" for value in event.summary.value):
                kept.append(event)
    return kept


def assert_equals_metrics(run):
    lines, log = read_metrics(run / "metrics.jsonl"), read_log(run)
    assert [event.step for event in log] == [line["generation"] for line in lines]
    for event, line in zip(log, lines, strict=True):
        values = {value.tag: value.simple_value for value in event.summary.value}
        expected = {name: value for name, value in line.items() if value is not None and name != "generation"}
        assert values.keys() == expected.keys()
        assert all(math.isclose(values[name], expected[name], rel_tol=1e-6) for name in values)
    times = [event.wall_time for event in log]
    assert times == sorted(times) and times[-1] <= time.time()


def values_of(run, kind):
    """Returns (step, tag, value) of all values of a kind."""
    events = [event for path in (run / "tensorboard").iterdir() for event in read_events(path)]
    values = [(event.step, value) for event in events for value in event.summary.value]
    return [(step, one.tag, getattr(one, kind)) for step, one in values if one.WhichOneof("value") == kind]


def test_the_hyperparameters_are_those_that_shape_what_is_learned(light, tmp_path):
    run_small(tmp_path / "run", ON, "algo.generations=2", "algo.learning_rate=0.25")
    (path,) = (tmp_path / "run" / "tensorboard").iterdir()
    (value,) = next(event for event in read_events(path) if event.summary.value).summary.value
    assert (value.tag, value.metadata.plugin_data.plugin_name) == ("_hparams_/session_start_info", "hparams")
    keys = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info.hparams
    assert (keys["algo.learning_rate"].number_value, keys["task.name"].string_value) == (0.25, "probe_sign")
    assert not [key for key in keys if key.startswith(("tracking.", "engine.", "checkpoint."))]


def test_histograms_and_videos_are_at_the_step_of_their_generation(tmp_path):
    log = open_event_log(tmp_path, [], 0, config=load_config("smoke"), note=pytest.fail)
    counts, edges = np.array([3, 0, 1]), np.array([0.0, 0.5, 1.0, 1.5])
    log.log_histograms({"probabilities/input": Histogram(counts, edges, 2.0, 3.5)}, 20)
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    log.log_video(tmp_path / "a.gif", 10)
    log.finish()
    ((step, tag, histogram),) = values_of(tmp_path, "histo")
    assert (step, tag, list(histogram.bucket)) == (20, "probabilities/input", [0, 3, 0, 1])
    assert list(histogram.bucket_limit) == list(edges)
    assert (histogram.num, histogram.sum, histogram.sum_squares) == (4, 2.0, 3.5)
    ((step, tag, image),) = values_of(tmp_path, "image")
    assert (step, tag, image.encoded_image_string) == (10, "training_video", b"GIF89a")


def test_only_when_asked(light, tmp_path):
    run_small(tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_it_is_metrics_jsonl(light, tmp_path):
    run_small(tmp_path / "run", ON)
    assert_equals_metrics(tmp_path / "run")


def test_a_resumed_run_goes_on_in_the_same_log(light, tmp_path):
    run_small(tmp_path / "run", ON, "algo.generations=3")
    resume_small(tmp_path / "run", "algo.generations=6")
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
    assert_equals_metrics(tmp_path / "run")


@pytest.mark.parametrize("from_step", [0, 4])
def test_generations_that_are_done_again_are_in_the_log_once(light, tmp_path, from_step):
    run_small(tmp_path / "run", ON, "checkpoint.keep_every=1")
    resume_small(tmp_path / "run", "algo.generations=5", from_step=from_step)
    assert_equals_metrics(tmp_path / "run")
    assert len(read_log(tmp_path / "run")) == 5


def test_after_a_crash_generations_that_were_not_saved_are_in_the_log_once(light, tmp_path):
    run_small(tmp_path / "run", ON)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    resume_small(tmp_path / "run")
    assert_equals_metrics(tmp_path / "run")


def test_asked_for_later_the_log_has_the_generations_before_too(light, tmp_path):
    run_small(tmp_path / "run", "algo.generations=4")
    resume_small(tmp_path / "run", "algo.generations=6", ON)
    assert_equals_metrics(tmp_path / "run")
    assert len(read_log(tmp_path / "run")) == 6


def test_lines_of_other_origin_do_no_harm(light, tmp_path):
    """What are no numbers is left out."""
    run_small(tmp_path / "run", "algo.generations=2")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(
        '{"generation": 1, "fitness_mean": "much", "elapsed": "long", "seconds": 1e300}\n{"generation": 2}\n'
    )
    resume_small(tmp_path / "run", "algo.generations=3", ON)
    assert [len(event.summary.value) > 1 for event in read_log(tmp_path / "run")] == [False, True]
