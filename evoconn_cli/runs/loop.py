"""The training loop: what happens between the first and the last generation of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any, NamedTuple

import jax

from evoconn_cli.config.schema import RunConfig, num_evaluation_copies, num_members
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import EvoconnError, TrainingError
from evoconn_cli.runs.advice import speed_advice
from evoconn_cli.runs.build import Engine, build_engine
from evoconn_cli.runs.deadline import Deadline
from evoconn_cli.runs.devices import describe_devices
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.interrupts import Interrupts
from evoconn_cli.runs.lock import run_lock
from evoconn_cli.runs.metrics import MetricsFile, MetricsLine
from evoconn_cli.runs.progress import Progress, RunHeader
from evoconn_cli.runs.provenance import start_facts
from evoconn_cli.runs.starting import starting_point
from evoconn_cli.runs.store import CheckpointStore, HostFacts
from evoconn_cli.runs.tracking import Tracker, open_tracker, valid_run_id


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

    Raises:
        CheckpointError: a checkpoint could not be read or written.
        RunDirectoryError: another process trains this run, or its directory cannot be written.
        TrainingError: the training cannot go on.
        KeyboardInterrupt: the user quit.
    """
    engine = build_engine(config, workers)
    directory.check_writable()
    with (
        interrupts or Interrupts() as interrupts,
        run_lock(directory.lock_file, progress.note),
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
        facts = start_facts(describe_devices(workers))
        changed = directory.record_start(facts | {"kernel": engine.kernel.name, "kernel_check": engine.kernel.found})
        status, tracker, metrics = "failed", None, None
        try:
            start = int(state.generation)
            metrics = MetricsFile(directory.metrics_file, start)
            progress.start(_header(directory, config, engine, workers, start), metrics.history)
            for warning in (engine.kernel.found, changed, _gap(metrics, start)):
                if warning is not None:
                    progress.note(warning)
            tracker = _open_tracker(directory, config, progress)
            session = _Session(config, store, metrics, progress, tracker, interrupts, deadline or Deadline())
            if start < config.algo.generations and not interrupts.requested:
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
                lambda: directory.update_facts(status=status),
                lambda: tracker and tracker.finish(exit_code=0 if status in ("finished", "interrupted") else 1),
            )


class _Session(NamedTuple):
    """What a training works with, from its first generation in this process to the last one."""

    config: RunConfig
    store: CheckpointStore
    metrics: MetricsFile
    progress: Progress
    tracker: Tracker
    interrupts: Interrupts
    deadline: Deadline

    def train(self, engine: Engine, workers: WorkerMesh, state: RunState, host: HostFacts) -> RunState:
        """Returns the last state, which is saved."""
        config, progress = self.config, self.progress
        progress.compiling()
        before = time.perf_counter()
        step = engine.compile(state)
        progress.compiled(time.perf_counter() - before)
        start = saved = int(state.generation)
        eval_fitness = 0.0
        self.interrupts.training = True
        for generation in range(start + 1, config.algo.generations + 1):
            if self.interrupts.requested or self._out_of_time(is_first=generation == start + 1):
                break
            before = time.perf_counter()
            state, measured = step(state)
            measured = jax.device_get(measured)
            seconds = time.perf_counter() - before
            self.deadline.generation_took(seconds)
            simulated = host.env_steps_simulated + int(measured.pop("steps_simulated"))
            host = HostFacts(elapsed=host.elapsed + seconds, env_steps_simulated=simulated)
            eval_fitness = float(measured["eval_fitness"])
            line = self._record(_line(state, measured, seconds, host))
            _check_alive(line, config)
            if generation == start + 1 and (advice := speed_advice(config, workers, seconds)):
                progress.note(advice)
            if generation % config.checkpoint.every == 0:
                self._save(state, host, eval_fitness)
                saved = generation
        if int(state.generation) > saved:
            self._save(state, host, eval_fitness)
        return state

    def _record(self, line: dict[str, Any]) -> MetricsLine:
        try:
            written = self.metrics.append(line)
        except OSError as error:
            raise self._cannot_write(error) from None
        self.progress.generation(written)
        self.tracker.log(written, int(line["generation"]))
        return written

    def _save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        before = time.perf_counter()
        try:
            self.metrics.flush()
        except OSError as error:
            raise self._cannot_write(error) from None
        self.store.save(state, host, eval_fitness)
        self.deadline.save_took(time.perf_counter() - before)

    def _out_of_time(self, *, is_first: bool) -> bool:
        if not self.deadline.is_near():
            return False
        if is_first:
            raise TrainingError(
                "the time of --max-time was over before the first generation could be trained: starting took too "
                "long for it. Allow more, or none of the next starts will come further."
            )
        self.progress.note("the time of --max-time is nearly over: the run is saved and ends here.")
        return True

    def _cannot_write(self, error: OSError) -> TrainingError:
        latest = self.store.latest()
        kept = f"the checkpoint of generation {latest} is kept" if latest else "nothing is saved yet"
        return TrainingError(f"metrics.jsonl cannot be written: {error.strerror}. The training ends here; {kept}.")


def _close(*steps: Callable[[], object]) -> None:
    """Calls every step; what fails on a full disk must not hide why the training ended, nor that it is saved."""
    for step in steps:
        with suppress(OSError, EvoconnError):
            step()


def _gap(metrics: MetricsFile, start: int) -> str | None:
    missing = start - len(metrics.history)
    return f"metrics.jsonl lacks {missing} of the {start} generations done: lines were lost." if missing > 0 else None


def _header(directory: RunDirectory, config: RunConfig, engine: Engine, workers: WorkerMesh, start: int) -> RunHeader:
    kernel = ", pallas kernel" if engine.kernel.name == "pallas" else ""
    return RunHeader(
        task=config.task.name,
        network=f"{config.network.name}, {config.network.num_neurons} neurons{kernel}",
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
    known = valid_run_id(directory.read_facts().get("wandb_id"))
    tracker = open_tracker(config, directory.path, known, progress.note, resume=known is not None)
    directory.update_facts(wandb_id=tracker.run_id)
    return tracker


def _line(state: RunState, measured: Mapping[str, Any], seconds: float, host: HostFacts) -> dict[str, Any]:
    """Returns one line of metrics.jsonl: its keys are relied on by other tools."""
    return {
        "generation": int(state.generation),
        **dict.fromkeys(_NOT_IN_EVERY_STRATEGY),
        **{name: value.item() for name, value in measured.items()},
        "env_steps": int(state.env_steps),
        "env_steps_simulated": host.env_steps_simulated,
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
