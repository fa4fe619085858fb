"""What becomes of each generation: its line of metrics, what is shown and tracked, and its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import TrainingError
from evoconn_cli.runs.checkpoints.store import CheckpointStore, HostFacts
from evoconn_cli.runs.metrics import MetricsFile
from evoconn_cli.runs.progress.protocol import Progress
from evoconn_cli.runs.tracking.tracker import Tracker
from evoconn_cli.runs.training.lock import RunLock


class Recorder(Protocol):
    """What a session of training tells; all of it happens at once, in the order of the generations."""

    def compiling(self) -> None:
        """Takes in that the generation is being compiled."""
        ...

    def compiled(self, seconds: float) -> None:
        """Takes in how long that took [s]."""
        ...

    def note(self, message: str) -> None:
        """Takes in an advice or a warning."""
        ...

    def record(self, line: dict[str, Any]) -> None:
        """Takes in the metrics of a generation."""
        ...

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Takes in a state that is to be kept."""
        ...


class RunRecorder(NamedTuple):
    """Records a run in its directory, in the terminal and with the trackers."""

    store: CheckpointStore
    metrics: MetricsFile
    progress: Progress
    trackers: Sequence[Tracker]
    lock: RunLock

    def compiling(self) -> None:
        """Shows that the generation is being compiled."""
        self.progress.compiling()

    def compiled(self, seconds: float) -> None:
        """Shows how long that took [s]."""
        self.progress.compiled(seconds)

    def note(self, message: str) -> None:
        """Shows an advice or a warning."""
        self.progress.note(message)

    def record(self, line: dict[str, Any]) -> None:
        """Writes, shows and tracks the metrics of a generation.

        Raises:
            RunBusyError: another process has taken over the run.
            TrainingError: they could not be written.
        """
        self.lock.check()
        try:
            written = self.metrics.append(line)
        except OSError as error:
            raise self._cannot_write(error) from None
        self.progress.generation(written)
        for tracker in self.trackers:
            tracker.log(written, int(line["generation"]))

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Saves a checkpoint, and before it the metrics up to there.

        Raises:
            CheckpointError: it could not be written.
            RunBusyError: another process has taken over the run.
            TrainingError: the metrics could not be written.
        """
        self.lock.check()
        try:
            self.metrics.flush()
        except OSError as error:
            raise self._cannot_write(error) from None
        self.store.save(state, host, eval_fitness)

    def _cannot_write(self, error: OSError) -> TrainingError:
        kept = what_is_kept(self.store.latest())
        return TrainingError(f"metrics.jsonl cannot be written: {error.strerror}. The training ends here; {kept}.")


def what_is_kept(latest: int | None) -> str:
    """Returns in words what is left of a training that fails, whose newest checkpoint is `latest`."""
    return f"the checkpoint of generation {latest} is kept" if latest else "nothing is saved yet"


class NoRecorder:
    """Records nothing: another process does."""

    def compiling(self) -> None:
        """Does nothing."""

    def compiled(self, seconds: float) -> None:
        """Does nothing."""

    def note(self, message: str) -> None:
        """Does nothing."""

    def record(self, line: dict[str, Any]) -> None:
        """Does nothing."""

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Does nothing."""
