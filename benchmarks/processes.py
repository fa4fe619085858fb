"""Measures peak memory, compilation and start-up, each in a separate process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_SHORT_EPISODE = 20
_KIBIBYTE_MB = 1024 / 1e6


def peak_memory(task: str, population: int) -> float:
    """Returns by how much the peak memory of a training exceeds that of a process that only started JAX [MB].

    The cache is empty: compiling takes memory, more than the training of a small population.
    """
    with tempfile.TemporaryDirectory() as cache:
        return _measured("memory", task, population, cache)["megabytes"]


def compile_seconds(task: str, population: int) -> tuple[float, float]:
    """Returns the time to compile a generation, with an empty cache and with a filled one [s]."""
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (_measured("compile", task, population, cache)["seconds"] for _ in range(2))
    return cold, warm


def help_seconds() -> float:
    """Returns the time that `evoconn --help` takes [s]."""
    before = time.perf_counter()
    subprocess.run([sys.executable, "-m", "evoconn_cli", "--help"], check=True, capture_output=True)
    return time.perf_counter() - before


def first_generation_seconds(task: str, population: int) -> float:
    """Returns the time from the start of a second `evoconn train` until it begins its first generation [s]."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        overrides = [f"task.episode_length={_SHORT_EPISODE}", "tracking.wandb=disabled"]
        command = ["train", "--task", task, "--population", str(population), "--generations", "1", *overrides]
        for number in range(2):
            before = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, "-m", "evoconn_cli", *command, "--run-dir", f"{folder}/{number}"],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            ) as process:
                (seconds,) = (
                    time.perf_counter() - before for line in process.stdout or () if line.startswith("compiled in")
                )
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, process.args)
    return seconds


def run_module(name: str, *arguments: str, **environment: str) -> dict[str, float]:
    """Returns the figures that a module of the benchmarks prints as its last line, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measured(what: str, task: str, population: int, cache: str) -> dict[str, float]:
    return run_module("processes", what, task, str(population), JAX_COMPILATION_CACHE_DIR=cache)


def _peak_megabytes() -> float:
    """Returns the peak memory of this process; on Linux `getrusage` also counts that of the process it came from."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * _KIBIBYTE_MB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * _KIBIBYTE_MB


def _main(what: str, task: str, population: str) -> None:
    from evoconn_cli.config.loading import load_config, override_config
    from evoconn_cli.engine.build import build_engine, choose_block
    from evoconn_cli.engine.devices import start_jax

    workers = start_jax(None)
    import jax

    jax.block_until_ready(jax.numpy.zeros(1) + 1)
    bare = _peak_megabytes()
    config = load_config(
        None, [f"task.name={task}", f"algo.population={population}", f"task.episode_length={_SHORT_EPISODE}"]
    )
    config = override_config(config, [f"engine.block={choose_block(config, workers)}"])
    engine = build_engine(config, workers)
    state = engine.initial_state()
    before = time.perf_counter()
    step = engine.compile(state)
    seconds = time.perf_counter() - before
    if what == "memory":
        for _ in range(2):
            state, measured = step(state)
        jax.block_until_ready(measured)
    print(json.dumps({"seconds": seconds, "megabytes": _peak_megabytes() - bare}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
