"""Remembers how long generations take to compile, beside the compiled programs that JAX keeps."""

from __future__ import annotations

import functools
import time
from collections import Counter
from pathlib import Path

import jax

from evoconn_cli.config.schema import RunConfig, what_seeds_share
from evoconn_cli.engine.devices import describe_devices
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.progress.history import Compiled
from evoconn_cli.progress.remembered import Remembered, kind_of

_FILE = "evoconn-compile-times.json"

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
        self._remembered = Remembered(Path(cache) if cache else None, _FILE)
        shared, devices = what_seeds_share(config), describe_devices(workers)
        self._kind = kind_of(config.task.name, shared, config.engine.block, kernel, devices, jax.__version__)
        self._before, self._events = time.perf_counter(), Counter[str]()

    def start(self) -> Compiled | None:
        """Returns how long the compilation took last time, and measures the one that begins; None if unknown."""
        self._before, self._events = time.perf_counter(), _events().copy()
        match self._remembered.get(self._kind):
            case [int(seconds) | float(seconds), bool(from_cache)]:
                return Compiled(float(seconds), from_cache)
        return None

    def stop(self) -> Compiled:
        """Returns how long the compilation took, and remembers it."""
        events = _events() - self._events
        took = Compiled(time.perf_counter() - self._before, events[_HIT] > 0 == events[_MISS])
        self._remembered.put(self._kind, [round(took.seconds, 2), took.from_cache])
        return took
