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

from evoconn_cli.errors import first_line
from evoconn_cli.runs.metrics import MetricsLine
from evoconn_cli.training.tracking import Tracker


class EventLog(Tracker):
    """A tracker that writes an event file, and turns itself off, with one note, at the first write that fails.

    Readers skip what earlier files hold of generations after `start`. If there is no earlier file, this one begins
    with `history`.

    Args:
        folder: Directory of the event files.
        history: Metrics of the generations before.
        start: Generation that the run resumes after.
        note: Called with messages for the user.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, folder: Path, history: Sequence[MetricsLine], start: int, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note
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
        if self._file.closed:
            return
        try:
            self._write_line(metrics, generation, time.time())
            self._file.flush()
        except OSError as error:
            self.finish()
            self._note(f"TensorBoard's files are no longer written ({error.strerror}); metrics.jsonl is complete.")

    def finish(self, exit_code: int = 0) -> None:
        """Closes the file."""
        del exit_code
        with suppress(OSError):  # the user has been told
            self._file.close()

    def _begin(self, history: Sequence[MetricsLine], start: int, now: float, *, continues: bool) -> None:
        self._write(wall_time=now, file_version="brain.Event:2")
        if continues:
            self._write(wall_time=now, step=start + 1, session_log={"status": "START"})
        else:
            took = [_seconds(line.get("elapsed")) for line in history]
            for line, elapsed in zip(history, took, strict=True):
                self._write_line(line, int(line["generation"] or 0), now - took[-1] + elapsed)
        self._file.flush()

    def _write_line(self, metrics: Mapping[str, Any], generation: int, wall_time: float) -> None:
        values = [
            {"tag": name, "simple_value": value}
            for name, value in metrics.items()
            if isinstance(value, (int, float)) and name != "generation"
        ]
        self._write(wall_time=wall_time, step=generation, summary={"value": values})

    def _write(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]: generated

        self._file.write(b"".join(_record(Event(**fields).SerializeToString())))


def open_event_log(run_dir: Path, history: Sequence[MetricsLine], start: int, note: Callable[[str], None]) -> Tracker:
    """Returns a tracker that writes event files into `run_dir`/tensorboard; if it cannot, it notes that."""
    try:
        import tensorboardX  # noqa: F401 - before an empty file is made

        return EventLog(run_dir / "tensorboard", history, start, note)
    except ModuleNotFoundError as error:
        note(f"TensorBoard's files are not written ({first_line(error)}); metrics.jsonl is complete.")
        return Tracker()
    except OSError as error:
        note(f"TensorBoard's files cannot be written ({error.strerror}); metrics.jsonl is complete.")
        return Tracker()


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0  # the file may have other authors


def _record(data: bytes) -> Iterable[bytes]:
    """Yields a record of the TFRecord format: length and data, each followed by its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    for part in (length, data):
        yield part
        yield struct.pack("<I", masked_crc32c(part))
