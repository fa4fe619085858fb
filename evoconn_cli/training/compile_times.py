"""Remembers how long generations take to compile, beside the compiled programs that JAX keeps."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from evoconn_cli.config.schema import RunConfig, what_seeds_share
from evoconn_cli.engine.devices import describe_devices
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.output import replace_text
from evoconn_cli.progress.history import Compiled
from evoconn_cli.runs.directory import read_object

_FILE = "evoconn-compile-times.json"
_MOST_KINDS = 200
"""Kinds of runs that are remembered, those compiled last."""

_HIT, _MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


@functools.cache
def _events() -> Counter[str]:
    """Returns what JAX counts from the first call on."""
    counter: Counter[str] = Counter()
    jax.monitoring.register_event_listener(lambda event, **_: counter.update([event]))
    return counter


class CompileTimes:
    """Measures a compilation, and remembers it per kind of run: what is computed, on which devices.

    Without a compilation cache, nothing is remembered.

    Args:
        config: Configuration of the run.
        workers: Devices of the run.
        kernel: Name of the kernel of its sub-steps.
    """

    def __init__(self, config: RunConfig, workers: WorkerMesh, kernel: str) -> None:
        cache = jax.config.values["jax_compilation_cache_dir"]
        self._file = Path(cache) / _FILE if cache else None
        kind = [config.task.name, what_seeds_share(config), config.engine.block, kernel, describe_devices(workers)]
        self._kind = hashlib.sha256(json.dumps([*kind, jax.__version__]).encode()).hexdigest()[:16]
        self._before, self._events = time.perf_counter(), Counter[str]()

    def start(self) -> Compiled | None:
        """Returns how long the compilation took last time, and measures the one that begins; None if unknown."""
        self._before, self._events = time.perf_counter(), _events().copy()
        match self._read().get(self._kind):
            case [int(seconds) | float(seconds), bool(from_cache)]:
                return Compiled(float(seconds), from_cache)
        return None

    def stop(self) -> Compiled:
        """Returns how long the compilation took, and remembers it."""
        events = _events() - self._events
        took = Compiled(time.perf_counter() - self._before, events[_HIT] > 0 == events[_MISS])
        if self._file is not None and self._file.parent.is_dir():
            known = self._read()
            known.pop(self._kind, None)  # the newest comes last
            known[self._kind] = [round(took.seconds, 2), took.from_cache]
            with suppress(OSError):
                replace_text(self._file, json.dumps(dict(list(known.items())[-_MOST_KINDS:])))
        return took

    def _read(self) -> dict[str, Any]:
        """Returns `[seconds, from cache]` by kind of run; nothing if the file cannot be read."""
        with suppress(RunDirectoryError):
            return read_object(self._file) if self._file is not None else {}
        return {}
