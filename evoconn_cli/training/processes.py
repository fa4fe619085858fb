"""The processes that train one run together."""

from __future__ import annotations

import hashlib
import resource
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.runs.guarded import output_discarded


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


_OTHER_FILES = 256  # of JAX, checkpoints, metrics, tracking


def connect_devices(processes: Processes, workers: WorkerMesh) -> None:
    """Lets the devices of all processes meet for the first time, while all processes are at the same place.

    Raises:
        ConfigError: the system does not allow so many connections.
        ProcessLostError: they cannot reach each other.
    """
    if processes.count == 1:
        return
    if workers.on_cpu:
        _allow_connections(len(workers.mesh.local_devices) * workers.mesh.size)
    total = jax.jit(jnp.sum, out_shardings=workers.whole)
    try:
        with output_discarded(1):  # Gloo prints there, into what is shown of the run
            jax.block_until_ready(total(workers.put_sharded(np.ones(workers.mesh.size, np.int32))))
    except (RuntimeError, ValueError) as error:
        raise processes.lost(error) or error from None


def _allow_connections(number: int) -> None:
    """Raises the limit of open files for so many connections: of a CPU, Gloo connects each device with every other.

    Raises:
        ConfigError: the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"so many devices need {wanted:,} open files a process, and the system allows {hard:,}: "
            "raise the hard limit (ulimit -Hn), or take fewer devices of each process (--devices)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def share_state(state: RunState, processes: Processes, workers: WorkerMesh) -> RunState:
    """Returns the state of the writer, on the first device of this process.

    Args:
        state: to hand out; in the other processes, one of the same shapes.
        processes: that train the run.
        workers: the devices.
    """
    if processes.count == 1:
        return state
    leaves, structure = jax.tree.flatten(jax.device_get(state))
    data = processes.broadcast(b"".join(x.tobytes() for x in leaves))
    if processes.is_writer:
        return state
    shared, start = [], 0
    for x in leaves:
        shared.append(np.frombuffer(data, x.dtype, x.size, start).reshape(x.shape))
        start += x.nbytes
    return jax.device_put(jax.tree.unflatten(structure, shared), workers.first_device)


def digest(state: RunState) -> str:
    """Returns a text that differs where a bit of the state does."""
    found = hashlib.blake2b(digest_size=16)
    for x in jax.tree.leaves(jax.device_get(state)):
        found.update(x.tobytes())
    return found.hexdigest()
