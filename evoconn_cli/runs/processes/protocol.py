"""The processes that train one run together, as a training sees them; most often there is only one.

All compute the same, so they hold the same state. Process 0 is the writer: it alone has the run directory.
"""

from __future__ import annotations

from typing import Protocol

from evoconn_cli.errors import EvoconnError


class Processes(Protocol):
    """What a training asks of the processes. All of them make the same calls in the same order."""

    @property
    def index(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the files of the run and shows it."""
        ...

    def agree_on(self, *flags: bool) -> tuple[bool, ...]:
        """Returns for each flag whether it is set in any process.

        Raises:
            ProcessLostError: a process does not answer.
        """
        ...

    def broadcast(self, data: bytes) -> bytes:
        """Returns the `data` of the writer; that of the others is not looked at.

        Raises:
            ProcessLostError: the writer does not answer.
        """
        ...

    def check_same(self, digest: str, what: str) -> None:
        """Checks that all processes have the same `digest` of `what`.

        Raises:
            TrainingError: they differ, which every process is told.
            ProcessLostError: a process does not answer.
        """
        ...

    def lost(self, error: Exception) -> EvoconnError | None:
        """Returns what to raise for an `error` of a computation; None where it is not about another process."""
        ...

    def close(self) -> None:
        """Ends what holds the processes together; all of them have come to the end of the training."""
        ...

    def abandon(self, message: str, exit_code: int) -> None:
        """Tells the others that this process fails, so that they end too."""
        ...


class OneProcess:
    """A process that trains alone."""

    index = 0
    count = 1
    is_writer = True

    def agree_on(self, *flags: bool) -> tuple[bool, ...]:
        """Returns `flags`."""
        return flags

    def broadcast(self, data: bytes) -> bytes:
        """Returns `data`."""
        return data

    def check_same(self, digest: str, what: str) -> None:
        """Does nothing."""

    def lost(self, error: Exception) -> EvoconnError | None:
        """Returns None."""

    def close(self) -> None:
        """Does nothing."""

    def abandon(self, message: str, exit_code: int) -> None:
        """Does nothing."""
