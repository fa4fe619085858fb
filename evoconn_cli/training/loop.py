"""The training loop, and what is recorded of each generation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import jax

from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import Engine
from evoconn_cli.engine.devices import in_our_arithmetic, memory_for
from evoconn_cli.engine.generation import MEMBER_METRICS
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState, not_finite
from evoconn_cli.engine.strategies import Metrics
from evoconn_cli.errors import ProcessLostError, TrainingError
from evoconn_cli.progress.display import Progress
from evoconn_cli.progress.formatting import count, duration
from evoconn_cli.runs.ending import Ending, ends_by_itself
from evoconn_cli.runs.lock import RunLock
from evoconn_cli.runs.metrics import MetricsFile, MetricsLine
from evoconn_cli.runs.signals import Deadline, Interrupts
from evoconn_cli.training.best import Snapshot, share_best
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts
from evoconn_cli.training.compile_times import CompileTimes
from evoconn_cli.training.histograms import histograms_of
from evoconn_cli.training.processes import Processes, digest
from evoconn_cli.training.tracking import Tracker
from evoconn_cli.training.videos import VideoMaker

OnGeneration: TypeAlias = Callable[[MetricsLine, RunState], None]
"""Called after each generation with its metrics and the state, which the next generation consumes."""

_LONG_RUN = 3600.0
"""Runs on a CPU that are expected to take longer than this get advice [s]."""

_NOT_IN_EVERY_STRATEGY = ("spikes_per_ms", "density", "entropy", "saturated")
"""Keys of every line of metrics that are null for strategies and networks without them."""


class Recorder:
    """Receives what the training loop reports, in the order of the generations; this class discards it."""

    def compiling(self) -> None:
        """Receives that the generation is being compiled."""

    def compiled(self) -> None:
        """Receives that it is compiled."""

    def note(self, message: str) -> None:
        """Receives advice or a warning."""

    def record(self, line: dict[str, Any], members: Mapping[str, Any]) -> None:
        """Receives the metrics of a generation, and those of its members, `[M]`.

        Raises:
            RunBusyError: another process has taken over the run.
            TrainingError: they could not be written.
        """

    def trained(self, state: RunState) -> None:
        """Receives the state after the generation whose metrics came last; the next generation consumes it."""

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Receives a state to be saved.

        Raises:
            CheckpointError: it could not be written.
            RunBusyError: another process has taken over the run.
            TrainingError: the metrics before it could not be written.
        """


class RunRecorder(Recorder):
    """Records a run in its directory, in the terminal and with the trackers."""

    def __init__(
        self,
        store: CheckpointStore,
        metrics: MetricsFile,
        *,
        progress: Progress,
        trackers: Sequence[Tracker],
        lock: RunLock,
        compile_times: CompileTimes,
        on_generation: OnGeneration | None = None,
        videos: VideoMaker | None = None,
    ) -> None:
        self._store, self._metrics, self._trackers, self._lock = store, metrics, trackers, lock
        self._on_generation = on_generation
        self._progress, self._videos = progress, videos
        self._last: tuple[int, Mapping[str, Any]] = 0, {}
        self._compile_times = compile_times
        self.note = progress.note

    def compiling(self) -> None:
        """Shows it, and how long it took last time."""
        self._progress.compiling(self._compile_times.start())

    def compiled(self) -> None:
        """Shows and remembers how long it took."""
        self._progress.compiled(self._compile_times.stop())

    def record(self, line: dict[str, Any], members: Mapping[str, Any]) -> None:
        """Writes, shows and tracks the metrics of a generation, and tracks the video that is finished by now."""
        self._lock.check()
        try:
            written = self._metrics.append(line)
        except OSError as error:
            raise self._cannot_write(error) from None
        self._progress.generation(written)
        for tracker in self._trackers:
            tracker.log(written, int(line["generation"]))
        self._last = int(line["generation"]), members
        self.track_video()

    def track_video(self) -> None:
        """Hands the trackers the video that has been finished since the last call, if there is one."""
        if self._videos is not None and (video := self._videos.finished()) is not None:
            for tracker in self._trackers:
                tracker.log_video(video.path, video.generation)

    def trained(self, state: RunState) -> None:
        """Calls `on_generation`."""
        if self._on_generation is not None:
            self._on_generation(self._metrics.history[-1], state)

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Saves a checkpoint, after flushing the metrics before it, and tracks histograms of it."""
        self._lock.check()
        try:
            self._metrics.flush()
        except OSError as error:
            raise self._cannot_write(error) from None
        before = time.perf_counter()
        self._store.save(state, host, eval_fitness)
        self._progress.saved(time.perf_counter() - before)
        generation, (last, members) = int(state.generation), self._last
        if generation != last:  # the best network, of an earlier generation
            return
        if any(tracker.is_recording for tracker in self._trackers):
            histograms = histograms_of(state, members)
            for tracker in self._trackers if histograms else ():
                tracker.log_histograms(histograms, generation)
        if self._videos is not None:
            self._videos.saved(generation)

    def _cannot_write(self, error: OSError) -> TrainingError:
        kept = _what_is_kept(self._store.latest())
        return TrainingError(f"metrics.jsonl cannot be written: {error.strerror}. The training ends here; {kept}.")


def _what_is_kept(latest: int | None) -> str:
    """Returns in words what is left of a training that fails, whose newest checkpoint is `latest`."""
    return f"the checkpoint of generation {latest} is kept" if latest else "nothing is saved yet"


@dataclasses.dataclass(frozen=True)
class TrainingLoop:
    """Trains generation after generation until the run is finished or has to end early."""

    config: RunConfig
    workers: WorkerMesh
    processes: Processes
    engine: Engine
    _: dataclasses.KW_ONLY
    recorder: Recorder
    interrupts: Interrupts
    deadline: Deadline

    def train(self, state: RunState, host: HostFacts, history: Sequence[MetricsLine] = ()) -> tuple[HostFacts, Ending]:
        """Returns what the run remembers, and why its training ended. The last state is saved.

        Args:
            state: State to start from.
            host: What the run remembers besides.
            history: Metrics of the generations before.

        Raises:
            CheckpointError: a checkpoint could not be written.
            DeviceMemoryError: a device has too little memory.
            ProcessLostError: another process is gone; what was trained is saved.
            TrainingError: the training cannot go on.
        """
        config, recorder = self.config, self.recorder
        start = saved = int(state.generation)
        best = share_best(self.processes, host.best, history)
        host = host._replace(best=best.best)
        if (ending := self._ending(state, host)) is not None:
            return host, ending
        recorder.compiling()
        with self._memory():
            step = self._compile(state)
        if step is None:
            return host, Ending("signal", self.interrupts.signal)
        recorder.compiled()
        eval_fitness = 0.0
        saved_at = time.perf_counter()
        self.interrupts.training = True
        try:
            generation = start
            while (ending := self._ending_while_training(state, host, is_first=generation == start)) is None:
                generation += 1
                best.begin(Snapshot(state, host, eval_fitness))
                before = time.perf_counter()
                state, measured = self._compute(step, state)
                seconds = time.perf_counter() - before
                self.deadline.generation_took(seconds)
                simulated = host.env_steps_simulated + int(measured.pop("steps_simulated"))
                host = host._replace(elapsed=host.elapsed + seconds, env_steps_simulated=simulated)
                eval_fitness = float(measured["eval_fitness"])
                members = {
                    name: measured.pop(name)[: config.algo.num_members] for name in MEMBER_METRICS if name in measured
                }
                line = _line(state, measured, seconds, host)
                recorder.record(line, members)
                best.evaluate(line)
                host = host._replace(best=best.best)
                _check_alive(line, config, saved)
                _check_finite(state, saved)
                recorder.trained(state)
                if generation == start + 1 and (advice := speed_advice(config, self.workers, start, seconds)):
                    recorder.note(advice)
                if generation % config.checkpoint.every == 0 or self._is_overdue(saved_at):
                    self._save(*best.take_unsaved(saved), Snapshot(state, host, eval_fitness))
                    saved, saved_at = generation, time.perf_counter()
        except ProcessLostError:
            if not state.key.is_deleted() and int(state.generation) > saved:
                for reached in (*best.take_unsaved(saved), Snapshot(state, host, eval_fitness)):
                    recorder.save(*reached)
            raise
        if int(state.generation) > saved:
            self._save(*best.take_unsaved(saved), Snapshot(state, host, eval_fitness))
        return host, ending

    def _compile(self, state: RunState) -> Callable | None:
        """Returns the compiled generation; None if a signal came. Several processes agree on that only afterwards."""
        if self.processes.count > 1:
            return self.engine.compile(state)
        compile_here = in_our_arithmetic(self.engine.compile)  # the switches of JAX are set per thread
        return self.interrupts.unless_interrupted(lambda: compile_here(state))

    def _compute(self, step: Callable, state: RunState) -> tuple[RunState, Metrics]:
        """Returns the state after a generation, and its metrics in the memory of the host."""
        try:
            with self._memory():
                state, measured = step(state)
                return state, jax.device_get(measured)
        except (RuntimeError, ValueError) as error:  # JAX raises either when a connection is cut
            lost = self.processes.lost(error)
            if lost is None:
                raise
            raise lost from None

    def _memory(self) -> AbstractContextManager[None]:
        block = self.config.engine.block or 1
        smaller = f"Start a new run with engine.block={block // 2}, or resume this one" if block > 1 else "Run it"
        return memory_for(f"blocks of {block} members", f"{smaller} on a device with more memory.")

    def _save(self, *several: Snapshot) -> None:
        before = time.perf_counter()
        if self.processes.count > 1:
            last = int(several[-1].state.generation)
            digests = " ".join(digest(reached.state) for reached in several)
            self.processes.check_same(digests, f"the state after generation {last}")
        for reached in several:
            self.recorder.save(*reached)
        self.deadline.save_took(time.perf_counter() - before)

    def _is_overdue(self, saved_at: float) -> bool:
        """Returns whether the last checkpoint is too long ago, which all processes agree on."""
        (overdue,) = self.processes.agree_on(time.perf_counter() - saved_at >= 60 * self.config.checkpoint.minutes)
        return overdue

    def _ending(self, state: RunState, host: HostFacts, *, is_late: bool = False) -> Ending | None:
        """Returns why no other generation may begin, which all processes agree on."""
        ending = ends_by_itself(self.config.algo, int(state.generation), int(state.env_steps), host.best)
        flags = self.interrupts.requested, is_late, ending is not None
        is_asked, is_late, is_done = self.processes.agree_on(*flags)
        if ending is not None:
            return ending
        if is_asked or is_done:  # by itself only in all processes, or their states differ
            return Ending(self.interrupts.by, self.interrupts.signal or "another process was asked to end")
        return Ending("--max-time", "the time of --max-time is nearly over") if is_late else None

    def _ending_while_training(self, state: RunState, host: HostFacts, *, is_first: bool) -> Ending | None:
        """Returns `_ending`, and says why if the user does not know."""
        ending = self._ending(state, host, is_late=self.deadline.is_near())
        if ending is None or ending.is_of_run:
            return ending
        if ending.by == "--max-time" and is_first:
            raise TrainingError(
                "the time of --max-time was over before the first generation could be trained, because starting took "
                "too long. Allow more time, or every restart will stop here too."
            )
        if not self.interrupts.requested:
            self.recorder.note(f"{ending.reason}: the run is saved and ends here.")
        return ending


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


def _check_alive(line: dict[str, Any], config: RunConfig, saved: int) -> None:
    if line["failed_members"] == config.algo.num_members:
        raise TrainingError(
            f"the fitness of all members was NaN or infinite in generation {line['generation']}: there is nothing to "
            f"learn from, and {_what_is_kept(saved)}. Look at {find('task', config.task.name).described()} and at the "
            f"constants of {find('network', config.network.name).described()}."
        )


def _check_finite(state: RunState, saved: int) -> None:
    if arrays := not_finite(state):
        raise TrainingError(
            f"the run has diverged: after generation {int(state.generation)}, {', '.join(arrays[:3])} "
            f"{'hold' if len(arrays) > 1 else 'holds'} numbers that are not finite, and {_what_is_kept(saved)}. Start "
            "a new run with a smaller algo.learning_rate or a larger algo.adam_eps."
        )


def speed_advice(config: RunConfig, workers: WorkerMesh, start: int, seconds: float) -> str | None:
    """Returns advice after a first generation of `seconds` beyond `start`; None if the run is short or not on a CPU."""
    if workers.first_device.platform != "cpu":
        return None
    left = config.algo.generations - start
    expected = seconds * left
    if expected < _LONG_RUN:
        return None
    return (
        f"{count(left)} generations like the first take {duration(expected)} on this CPU, and they "
        "get slower as episodes get longer. Use a GPU, or --config laptop for a run of minutes."
    )
