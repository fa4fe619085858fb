"""Writes TensorBoard's event files of a run into `tensorboard/`: one file per start, which together are one log.

They are written in the training's own thread: tensorboardX's writer has another one, and if that dies on a full disk,
the training waits for it forever.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evoconn_cli.config.fields import walk
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import first_line
from evoconn_cli.runs.metrics import MetricsLine
from evoconn_cli.training.histograms import Histogram
from evoconn_cli.training.tracking import Tracker
from evoconn_cli.training.videos import SIZE


class EventLog(Tracker):
    """A tracker that writes an event file, and turns itself off, with one note, at the first write that fails.

    Readers skip what earlier files hold of generations after `start`. If there is no earlier file, this one begins
    with `history`.

    Args:
        folder: Directory of the event files.
        history: Metrics of the generations before.
        start: Generation that the run resumes after.
        config: Configuration of the run.
        note: Called with messages for the user.

    Raises:
        OSError: the file cannot be created.
    """

    is_recording = True

    def __init__(
        self,
        folder: Path,
        history: Sequence[MetricsLine],
        start: int,
        *,
        config: RunConfig,
        note: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._note = note
        self._config = config
        folder.mkdir(exist_ok=True)
        earlier = list(folder.glob("events.out.tfevents.*"))
        now = time.time()
        # Readers read the files in the order of their names.
        name = f"events.out.tfevents.{now:017.6f}.{os.uname().nodename}.{os.getpid()}"
        self._file = (folder / name).open("xb")
        try:
            self._begin(history, start, now, continues=bool(earlier))
        except OSError:
            self.finish()
            raise

    def log(self, metrics: Mapping[str, Any], generation: int) -> None:
        """Writes the metrics of one generation; those that are None are left out."""
        self._append(generation, _scalars(metrics))

    def _append(self, generation: int, values: Sequence[Mapping[str, Any]]) -> None:
        if self._file.closed:
            return
        try:
            self._write(wall_time=time.time(), step=generation, summary={"value": values})
            self._file.flush()
        except OSError as error:
            self.finish()
            self._note(f"TensorBoard's files are no longer written ({error.strerror}); metrics.jsonl is complete.")

    def log_histograms(self, histograms: Mapping[str, Histogram], generation: int) -> None:
        """Writes histograms by name."""
        self._append(generation, [{"tag": name, "histo": _histogram(one)} for name, one in histograms.items()])

    def log_video(self, path: Path, generation: int) -> None:
        """Writes a video, a GIF, at the step of its generation."""
        try:
            width, height, data = *SIZE, path.read_bytes()
        except OSError:
            return
        picture = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": data}
        self._append(generation, [{"tag": "training_video", "image": picture}])

    def finish(self, exit_code: int = 0) -> None:
        """Closes the file."""
        del exit_code
        with suppress(OSError):  # the user has been told
            self._file.close()

    def _begin(self, history: Sequence[MetricsLine], start: int, now: float, *, continues: bool) -> None:
        self._write(wall_time=now, file_version="brain.Event:2")
        self._write(wall_time=now, summary={"value": [_hyperparameters(self._config)]})
        if continues:
            self._write(wall_time=now, step=start + 1, session_log={"status": "START"})
        else:
            took = [line.get("elapsed") or 0.0 for line in history]
            for line, elapsed in zip(history, took, strict=True):
                generation, wall_time = int(line["generation"] or 0), now - took[-1] + elapsed
                self._write(wall_time=wall_time, step=generation, summary={"value": _scalars(line)})
        self._file.flush()

    def _write(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]: generated

        self._file.write(b"".join(_record(Event(**fields).SerializeToString())))


def open_event_log(
    run_dir: Path, history: Sequence[MetricsLine], start: int, *, config: RunConfig, note: Callable[[str], None]
) -> Tracker:
    """Returns a tracker that writes event files into `run_dir`/tensorboard; if it cannot, it notes that."""
    try:
        import tensorboardX  # noqa: F401 - before an empty file is made

        return EventLog(run_dir / "tensorboard", history, start, config=config, note=note)
    except ModuleNotFoundError as error:
        note(f"TensorBoard's files are not written ({first_line(error)}); metrics.jsonl is complete.")
        return Tracker()
    except OSError as error:
        note(f"TensorBoard's files cannot be written ({error.strerror}); metrics.jsonl is complete.")
        return Tracker()


_NO_HYPERPARAMETER = ("engine.", "checkpoint.", "tracking.")
"""Prefixes of keys that do not shape what is learned."""


def _hyperparameters(config: RunConfig) -> dict[str, Any]:
    """Returns the keys that shape what is learned as a value of the HPARAMS plugin, which compares runs by them."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]

    kinds = {bool: "bool_value", int: "number_value", float: "number_value"}
    known = {
        key: {kinds[type(value)]: value} if type(value) in kinds else {"string_value": str(value)}
        for key, value, _ in walk(config)
        if value is not None and not key.startswith(_NO_HYPERPARAMETER)
    }
    # Without an "experiment", TensorBoard offers the keys of all runs, and all of their metrics.
    data = HParamsPluginData(version=0, session_start_info={"hparams": known})
    content = {"plugin_name": "hparams", "content": data.SerializeToString()}
    return {"tag": "_hparams_/session_start_info", "metadata": {"plugin_data": content}}


def _scalars(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"tag": name, "simple_value": value}
        for name, value in metrics.items()
        if value is not None and name != "generation"
    ]


def _histogram(one: Histogram) -> dict[str, Any]:
    """Returns a histogram as TensorBoard has it: the right edges of the buckets, the first of which is empty."""
    return {
        "min": one.edges[0],
        "max": one.edges[-1],
        "num": one.counts.sum(),
        "sum": one.sum,
        "sum_squares": one.sum_squares,
        "bucket_limit": one.edges,
        "bucket": [0, *one.counts],
    }


def _record(data: bytes) -> Iterable[bytes]:
    """Yields a record of the TFRecord format: length and data, each followed by its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    for part in (length, data):
        yield part
        yield struct.pack("<I", masked_crc32c(part))
