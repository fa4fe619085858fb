"""Trains a run in its directory: what happens before its first generation, and after its last one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple

import jax

from evoconn_cli.config.schema import RunConfig, most_steps
from evoconn_cli.engine.build import Engine, build_engine
from evoconn_cli.engine.devices import arithmetic_variables, describe_devices
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import EvoconnError, first_line
from evoconn_cli.progress.display import Progress, RunHeader
from evoconn_cli.progress.estimate import expected, remember
from evoconn_cli.runs.ending import Best, Ending
from evoconn_cli.runs.lock import run_lock
from evoconn_cli.runs.metrics import MetricsFile, MetricsLine
from evoconn_cli.runs.provenance import start_facts
from evoconn_cli.runs.signals import Deadline, Interrupts
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts
from evoconn_cli.training.compile_times import CompileTimes
from evoconn_cli.training.loop import OnGeneration, Recorder, RunRecorder, TrainingLoop
from evoconn_cli.training.opening import TrainingRun, join_run, start_from_connectome, starting_state
from evoconn_cli.training.processes import Processes, share_state
from evoconn_cli.training.tensorboard import open_event_log
from evoconn_cli.training.tracking import track_run
from evoconn_cli.training.videos import VideoMaker


class Outcome(NamedTuple):
    """How a training ended."""

    history: list[MetricsLine]
    ending: Ending
    best: Best | None  # network that was evaluated

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train; otherwise the run is saved, to be resumed."""
        return self.ending.is_of_run


def train(
    run: TrainingRun,
    progress: Progress,
    *,
    interrupts: Interrupts | None = None,
    deadline: Deadline | None = None,
    on_generation: OnGeneration | None = None,
    make_engine: Callable[[RunConfig, WorkerMesh], Engine] | None = None,
) -> Outcome:
    """Returns how the training of a run ended; it resumes from the latest checkpoint, if there is one.

    Args:
        run: Run opened for training; the other ones of its processes `follow`.
        progress: Display of the run.
        interrupts: Ends the training early; by default on the signals that reach this process from now on.
        deadline: Ends the training early; no time limit by default.
        on_generation: Called after each generation with its metrics and the state.
        make_engine: Makes the engine; `build_engine` by default.

    Raises:
        CheckpointError: a checkpoint could not be read or written.
        DeviceMemoryError: a device has too little memory.
        ProcessLostError: another process is gone.
        RunDirectoryError: another process trains this run or has taken it over, or its directory cannot be written.
        TrainingError: the training cannot go on.
        KeyboardInterrupt: the user quit.
    """
    directory, config, workers, processes = run.directory, run.config, run.workers, run.processes
    engine, note = (make_engine or build_engine)(config, workers), progress.note
    directory.check_stays_inside()
    with (
        interrupts or Interrupts() as interrupts,
        run_lock(directory.lock_file, note) as lock,
        closing(CheckpointStore(directory.checkpoints, config)) as store,
    ):
        interrupts.notify = note
        initial = jax.device_put(engine.initial_state(), workers.first_device)
        state, host = starting_state(run, store, initial, note)
        state, started = start_from_connectome(run, engine, state)
        if config != directory.read_config():
            directory.write_config(config)
        facts = start_facts(describe_devices(workers), arithmetic_variables())
        if processes.count > 1:
            facts["processes"] = processes.count
        facts |= {"kernel": engine.kernel.name, "kernel_check": engine.kernel.found}
        changed = directory.record_start(facts, config)
        status, trackers, metrics, ending, videos = "failed", [], None, None, None
        try:
            processes.check_same(engine.kernel.name, "the kernel of engine.kernel=auto")
            state = share_state(state, processes, workers)
            start = int(state.generation)
            metrics = MetricsFile(directory.metrics_file, start)
            known = len(metrics.history)
            progress.start(_header(run, engine, start), metrics.history)
            for warning in (started, engine.kernel.found, changed, _gap(metrics, start)):
                if warning is not None:
                    note(warning)
            if config.tracking.tensorboard:
                trackers.append(open_event_log(directory.path, metrics.history, start, config=config, note=note))
            trackers.append(track_run(directory, config, note, facts))
            videos = _video_maker(run, engine, start, note)
            recorder = RunRecorder(
                store,
                metrics,
                progress=progress,
                trackers=trackers,
                lock=lock,
                compile_times=CompileTimes(config, workers, engine.kernel.name),
                on_generation=on_generation,
                videos=videos,
            )
            deadline = deadline or Deadline()
            loop = TrainingLoop(
                config, workers, processes, engine, recorder=recorder, interrupts=interrupts, deadline=deadline
            )
            host, ending = loop.train(state, host, metrics.history)
            if processes.count == 1:
                remember(config, workers.num_workers, metrics.history[max(0, known - 1) :], gpus=_gpus(run))
            if ending.is_of_run and videos is not None:
                videos.wait(lambda: interrupts.requested or deadline.is_near())
                recorder.track_video()
            status = "finished" if ending.is_of_run else "interrupted"
            return Outcome(metrics.history, ending, host.best)
        except KeyboardInterrupt:
            status, ending = "quit", Ending("quit", "quit by hand")
            raise
        except Exception as error:
            ending = Ending("error", first_line(error).replace(str(directory.path), directory.path.name))
            raise
        finally:
            exit_code = int(status not in ("finished", "interrupted"))
            _close(
                progress.stop,
                lambda: videos and videos.close(),
                lambda: metrics and metrics.close(),
                lambda: (lock.check(), directory.update_facts(status=status, ended=_facts_of(ending, store))),
                *(partial(tracker.finish, exit_code=exit_code) for tracker in trackers),
            )


def _video_maker(run: TrainingRun, engine: Engine, start: int, note: Callable[[str], None]) -> VideoMaker | None:
    """Returns what renders videos of the run; None if none are asked for, or its task has no body to draw."""
    every = run.config.tracking.video_every
    if every is None:
        return None
    if engine.task.poses is None:
        note(f"tracking.video_every={every}: the task {run.config.task.name} has no body that could be drawn.")
        return None
    suffix = ".gif" if run.config.tracking.tensorboard else ".mp4"  # TensorBoard shows nothing else
    return VideoMaker(run.directory, every, start, suffix=suffix, note=note)


def _header(run: TrainingRun, engine: Engine, start: int) -> RunHeader:
    config, processes = run.config, run.processes
    kernel = ", pallas kernel" if engine.kernel.name == "pallas" else ""
    at_most = expected(config, run.workers.num_workers, start, gpus=_gpus(run))
    return RunHeader(
        task=config.task.name,
        network=f"{config.network.name}, {config.network.num_neurons} neurons{kernel}",
        strategy=config.algo.name,
        num_parameters=engine.network.num_parameters,
        population=config.algo.population,
        evaluation_copies=config.algo.num_evaluation_copies,
        devices=describe_devices(run.workers) + (f" in {processes.count} processes" if processes.count > 1 else ""),
        run_dir=run.directory.short_path(),
        generations=config.algo.generations,
        start_generation=start,
        most_steps=most_steps(config),
        max_env_steps=config.algo.max_env_steps,
        may_end_early=config.algo.target_fitness is not None or config.algo.patience is not None,
        on_gpus=not run.workers.on_cpu,
        expected=at_most.text() if at_most and at_most.seconds >= 1 else None,
    )


def _gpus(run: TrainingRun) -> str | None:
    return None if run.workers.on_cpu else describe_devices(run.workers)


def _gap(metrics: MetricsFile, start: int) -> str | None:
    missing = start - len(metrics.history)
    return f"metrics.jsonl lacks {missing} of the {start} generations done: lines were lost." if missing > 0 else None


def _facts_of(ending: Ending | None, store: CheckpointStore) -> dict[str, Any] | None:
    return None if ending is None else {**ending._asdict(), "generation": store.latest() or 0}


def _close(*steps: Callable[[], object]) -> None:
    """Calls every step; a failure on a full disk must not hide why the training ended, nor that it is saved."""
    for step in steps:
        with suppress(OSError, EvoconnError):
            step()


def follow(processes: Processes, *, interrupts: Interrupts, deadline: Deadline) -> bool:
    """Returns whether the run is finished, after this process has computed its share of it.

    Configuration and state come from the writer; nothing is read from a disk.

    Args:
        processes: Processes that train the run, of which this is not the writer.
        interrupts: Ends the training early, in all processes.
        deadline: Ends the training early, in all processes.

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
    recorder = Recorder()  # the writer records the run
    loop = TrainingLoop(config, workers, processes, engine, recorder=recorder, interrupts=interrupts, deadline=deadline)
    return loop.train(state, HostFacts())[1].is_of_run
