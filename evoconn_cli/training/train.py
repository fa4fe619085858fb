"""Trains a run in its directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple

import jax

from evoconn_cli.config.schema import RunConfig, most_steps, num_evaluation_copies
from evoconn_cli.engine.build import Engine, build_engine
from evoconn_cli.engine.devices import arithmetic_variables, describe_devices
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import EvoconnError
from evoconn_cli.progress.display import Progress, RunHeader
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.lock import RunLock, run_lock
from evoconn_cli.runs.metrics import MetricsFile, MetricsLine
from evoconn_cli.runs.provenance import start_facts
from evoconn_cli.runs.signals import Deadline, Interrupts
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts
from evoconn_cli.training.loop import NoRecorder, RunRecorder, Session
from evoconn_cli.training.opening import join_run, starting_point
from evoconn_cli.training.processes import OneProcess, Processes, share_state
from evoconn_cli.training.tensorboard import open_event_log
from evoconn_cli.training.tracking import Tracker, is_copy, open_tracker, place_of


class Outcome(NamedTuple):
    """How a training ended."""

    finished: bool  # False: saved early, to be resumed
    history: list[MetricsLine]


def train(
    directory: RunDirectory,
    config: RunConfig,
    workers: WorkerMesh,
    progress: Progress,
    *,
    interrupts: Interrupts | None = None,
    deadline: Deadline | None = None,
    from_step: int | None = None,
    discard_later: bool = False,
    processes: Processes | None = None,
) -> Outcome:
    """Returns how the training of a run ended; it goes on from the latest checkpoint, if there is one.

    Args:
        directory: of the run.
        config: resolved.
        workers: the devices.
        progress: is told what happens.
        interrupts: ends the training early; by default the signals of this process do, from now on.
        deadline: ends it early too; none by default.
        from_step: generation to go on from, 0 for the beginning, instead of the latest checkpoint.
        discard_later: delete what came after `from_step` instead of setting it aside.
        processes: that train the run, of which this is the writer; the others `follow`.

    Raises:
        CheckpointError: a checkpoint could not be read or written.
        DeviceMemoryError: a device has too little memory.
        ProcessLostError: another process is gone.
        RunDirectoryError: another process trains this run or has taken it over, or its directory cannot be written.
        TrainingError: the training cannot go on.
        KeyboardInterrupt: the user quit.
    """
    processes = processes or OneProcess()
    engine = build_engine(config, workers)
    directory.check_stays_inside()
    with (
        interrupts or Interrupts() as interrupts,
        run_lock(directory.lock_file, progress.note) as lock,
        closing(CheckpointStore(directory.checkpoints, config)) as store,
    ):
        interrupts.notify = progress.note
        state, host = starting_point(
            directory,
            store,
            config,
            jax.device_put(engine.initial_state(), workers.first_device),
            workers.first_device,
            progress.note,
            from_step=from_step,
            discard_later=discard_later,
        )
        if config != directory.read_config():
            directory.write_config(config)
        several = {"processes": processes.count} if processes.count > 1 else {}
        facts = start_facts(describe_devices(workers), arithmetic_variables()) | several
        changed = directory.record_start(facts | {"kernel": engine.kernel.name, "kernel_check": engine.kernel.found})
        status, trackers, metrics = "failed", [], None
        try:
            processes.check_same(engine.kernel.name, "the kernel of engine.kernel=auto")
            state = share_state(state, processes, workers)
            start = int(state.generation)
            metrics = MetricsFile(directory.metrics_file, start)
            progress.start(_header(directory, config, engine, workers, processes, start), metrics.history)
            for warning in (engine.kernel.found, changed, _gap(metrics, start)):
                if warning is not None:
                    progress.note(warning)
            log = open_event_log(config.tracking.tensorboard, directory.path, metrics.history, start, progress.note)
            trackers = [log, _open_tracker(directory, config, progress, facts)]
            recorder = RunRecorder(store, metrics, progress, trackers, lock)
            session = Session(config, recorder, interrupts, deadline or Deadline(), processes)
            state = session.train(engine, workers, state, host)
            finished = int(state.generation) >= config.algo.generations
            status = "finished" if finished else "interrupted"
            return Outcome(finished, metrics.history)
        except KeyboardInterrupt:
            status = "quit"
            raise
        finally:
            _close(
                progress.stop,
                lambda: metrics and metrics.close(),
                lambda: _record_end(directory, lock, status),
                *(
                    partial(tracker.finish, exit_code=int(status not in ("finished", "interrupted")))
                    for tracker in trackers
                ),
            )


def _close(*steps: Callable[[], object]) -> None:
    """Calls every step; what fails on a full disk must not hide why the training ended, nor that it is saved."""
    for step in steps:
        with suppress(OSError, EvoconnError):
            step()


def _record_end(directory: RunDirectory, lock: RunLock, status: str) -> None:
    lock.check()
    directory.update_facts(status=status)


def _gap(metrics: MetricsFile, start: int) -> str | None:
    missing = start - len(metrics.history)
    return f"metrics.jsonl lacks {missing} of the {start} generations done: lines were lost." if missing > 0 else None


def _header(
    directory: RunDirectory,
    config: RunConfig,
    engine: Engine,
    workers: WorkerMesh,
    processes: Processes,
    start: int,
) -> RunHeader:
    kernel = ", pallas kernel" if engine.kernel.name == "pallas" else ""
    return RunHeader(
        task=config.task.name,
        network=f"{config.network.name}, {config.network.num_neurons} neurons{kernel}",
        strategy=config.algo.name,
        num_parameters=engine.network.num_parameters,
        population=config.algo.population,
        evaluation_copies=num_evaluation_copies(config),
        devices=describe_devices(workers) + (f" in {processes.count} processes" if processes.count > 1 else ""),
        run_dir=directory.short_path(),
        generations=config.algo.generations,
        start_generation=start,
        most_steps=most_steps(config),
    )


def _open_tracker(directory: RunDirectory, config: RunConfig, progress: Progress, start: Mapping[str, Any]) -> Tracker:
    facts = directory.read_facts()
    run_id = facts.get("wandb_id")
    if is_copy(facts, directory.path):
        run_id = None
        progress.note("this run directory is a copy, so it does not go on in the W&B run of the original.")
    tracker = open_tracker(config, directory.path, run_id, progress.note, start)
    place = place_of(tracker.run_id, directory.path) if tracker.run_id else None
    directory.update_facts(wandb_id=tracker.run_id, wandb_place=place)
    return tracker


def follow(processes: Processes, *, interrupts: Interrupts, deadline: Deadline) -> bool:
    """Returns whether the run is finished, after this process has computed its share of it.

    The configuration and the state come from the writer: nothing is read from a disk here.

    Args:
        processes: that train the run; this is not their writer.
        interrupts: ends the training early, in all processes.
        deadline: does so too.

    Raises:
        ProcessLostError: another process is gone or has failed.
        TrainingError: the training cannot go on.
        KeyboardInterrupt: the user quit.
    """
    config, workers = join_run(processes)
    engine = build_engine(config, workers)
    processes.check_same(engine.kernel.name, "the kernel of engine.kernel=auto")
    initial = jax.device_put(engine.initial_state(), workers.first_device)
    state = share_state(initial, processes, workers)
    session = Session(config, NoRecorder(), interrupts, deadline, processes)
    state = session.train(engine, workers, state, HostFacts())
    return int(state.generation) >= config.algo.generations
