"""The training loop: what happens between the first and the last generation of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from evoconn_cli.config.schema import RunConfig, num_evaluation_copies, num_members
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import TrainingError
from evoconn_cli.runs.advice import speed_advice
from evoconn_cli.runs.build import Engine, build_engine
from evoconn_cli.runs.devices import describe_devices
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.interrupts import Interrupts
from evoconn_cli.runs.metrics import MetricsFile, MetricsLine
from evoconn_cli.runs.progress import Progress, RunHeader
from evoconn_cli.runs.store import CheckpointStore, HostFacts
from evoconn_cli.runs.tracking import Tracker, open_tracker


class Outcome(NamedTuple):
    """How a training ended."""

    finished: bool  # False: saved early, to be resumed
    history: list[MetricsLine]


def train(directory: RunDirectory, config: RunConfig, workers: WorkerMesh, progress: Progress) -> Outcome:
    """Returns how the training of a run ended; it goes on from the latest checkpoint, if there is one.

    Args:
        directory: of the run.
        config: resolved.
        workers: the devices.
        progress: is told what happens.

    Raises:
        CheckpointError: a checkpoint could not be read or written.
        TrainingError: the training cannot go on.
        KeyboardInterrupt: the user interrupted it twice.
    """
    engine = build_engine(config, workers)
    store = CheckpointStore(directory.checkpoints, config)
    status, tracker, metrics = "failed", None, None
    try:
        state, host = _start(engine, store, workers)
        start = int(state.generation)
        metrics = MetricsFile(directory.metrics_file, start)
        progress.start(_header(directory, config, engine, workers, start), metrics.history)
        tracker = _open_tracker(directory, config, progress)
        with Interrupts(progress.note) as interrupts:
            progress.compiling()
            before = time.perf_counter()
            step = engine.compile(state)
            progress.compiled(time.perf_counter() - before)
            while (generation := int(state.generation)) < config.algo.generations and not interrupts.requested:
                before = time.perf_counter()
                state, measured = step(state)
                measured = jax.device_get(measured)
                seconds = time.perf_counter() - before
                host = HostFacts(elapsed=host.elapsed + seconds)
                line = metrics.append(_line(state, measured, seconds, host))
                progress.generation(line)
                tracker.log(line, generation + 1)
                _check_alive(line, config)
                if generation == start and (advice := speed_advice(config, workers, seconds)):
                    progress.note(advice)
                last = generation + 1 == config.algo.generations or interrupts.requested
                if last or (generation + 1) % config.checkpoint.every == 0:
                    store.save(state, host, float(measured["eval_fitness"]))
        finished = int(state.generation) >= config.algo.generations
        status = "finished" if finished else "interrupted"
        return Outcome(finished, metrics.history)
    except KeyboardInterrupt:
        status = "quit"
        raise
    finally:
        progress.stop()
        if tracker is not None:
            tracker.finish(exit_code=0 if status in ("finished", "interrupted") else 1)
        if metrics is not None:
            metrics.close()
        store.close()
        directory.update_facts(status=status)


def _start(engine: Engine, store: CheckpointStore, workers: WorkerMesh) -> tuple[RunState, HostFacts]:
    initial = jax.device_put(engine.initial_state(), workers.first_device)
    latest = store.latest()
    if latest is None:
        return initial, HostFacts(elapsed=0.0)
    return store.restore(latest, initial, workers.first_device)


def _header(directory: RunDirectory, config: RunConfig, engine: Engine, workers: WorkerMesh, start: int) -> RunHeader:
    return RunHeader(
        task=config.task.name,
        network=f"{config.network.name}, {config.network.num_neurons} neurons",
        strategy=config.algo.name,
        num_parameters=engine.network.num_parameters,
        population=config.algo.population,
        evaluation_copies=num_evaluation_copies(config),
        devices=describe_devices(workers),
        run_dir=directory.short_path(),
        generations=config.algo.generations,
        start_generation=start,
    )


def _open_tracker(directory: RunDirectory, config: RunConfig, progress: Progress) -> Tracker:
    known = directory.read_facts().get("wandb_id")
    tracker = open_tracker(config, directory.path, known, progress.note, resume=known is not None)
    directory.update_facts(wandb_id=tracker.run_id, status="running")
    return tracker


def _line(state: RunState, measured: Mapping[str, Any], seconds: float, host: HostFacts) -> dict[str, Any]:
    """Returns one line of metrics.jsonl: its keys are relied on by other tools."""
    return {
        "generation": int(state.generation),
        **dict.fromkeys(_NOT_IN_EVERY_STRATEGY),
        **{name: value.item() for name, value in measured.items()},
        "env_steps": int(state.env_steps),
        "env_steps_simulated": int(state.env_steps_simulated),
        "seconds": seconds,
        "elapsed": host.elapsed,
    }


_NOT_IN_EVERY_STRATEGY = ("spikes_per_ms", "density", "entropy", "saturated")
"""Keys of every line that are null where a strategy or a network has no such thing."""


def _check_alive(line: MetricsLine, config: RunConfig) -> None:
    if line["failed_members"] == num_members(config):
        raise TrainingError(
            f"the fitness of all members was NaN or infinite in generation {line['generation']}: nothing is left to "
            "learn from. The last checkpoint is kept; look at the task and the network's constants."
        )
