"""What the processes that train one run tell each other besides arrays, and one process that trains alone.

Messages go through the key-value store of JAX's coordination service, which process 0 holds, and not through the
devices. So every wait has a time limit, and a process can say why it fails while the others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import EvoconnError, ExitCode, ProcessLostError, TrainingError, first_line

PATIENCE = 600.0  # [s] for the other processes to reach the same call; a dead one is noticed earlier
_SLICE_MS = 1000  # [ms] of waiting before looking whether a process has failed
_CHUNK = 1 << 20  # [bytes] per value in the store, whose messages are limited to 4 MiB
SILENCE = 20.0  # [s] without a heartbeat; after a longer time JAX aborts without saving
_FAILED, _GONE, _AT, _BEAT = "evoconn/failed", "evoconn/gone", "evoconn/at", "evoconn/beat"  # keys in the store
_SAME_HOSTS = "All hosts need the same versions of JAX and the same kind of processor."
_TO_LEAVE = 5.0  # [s] for a process to end by itself after another one has failed
_TO_SAVE = 30.0  # [s] for the writer instead, which saves first
_TO_SAY_WHY_MS = 2000  # [ms] for a process that fails to leave its message
_FAREWELL = 10.0  # [s] the writer keeps the store open for the others to read why it fails
_TO_END = 0.5  # [s] for the last of them to exit before the store closes


class Processes:
    """The processes of a run as one of them sees them; this class is a process that trains alone.

    All processes make the same calls in the same order.

    Attributes:
        index: Number of this process, from 0.
        count: Number of processes.
        is_writer: Whether this process writes and shows the run, as process 0 does.
    """

    index: int = 0
    count: int = 1
    is_writer: bool = True

    def agree_on(self, *flags: bool) -> tuple[bool, ...]:
        """Returns for each flag whether it is set in any process.

        Raises:
            ProcessLostError: a process does not answer.
        """
        return flags

    def broadcast(self, data: bytes) -> bytes:
        """Returns the `data` of the writer; the argument of the others is ignored.

        Raises:
            ProcessLostError: the writer does not answer.
        """
        return data

    def check_same(self, digest: str, what: str, remedy: str = _SAME_HOSTS) -> None:
        """Checks that all processes have the same `digest` of `what`.

        Args:
            digest: Hash in this process.
            what: Name of the hashed content, for messages.
            remedy: What to do if they differ, as a sentence.

        Raises:
            TrainingError: they differ; raised in every process.
            ProcessLostError: a process does not answer.
        """

    def lost(self, error: Exception) -> EvoconnError | None:
        """Returns what to raise for an `error` of a computation; None if it does not come from another process."""

    def close(self) -> None:
        """Leaves the other processes once all have come to the end of the training."""

    def abandon(self, message: str, exit_code: int) -> None:
        """Tells the others that this process fails, and ends it without waiting for what it computes."""


class JoinedProcesses(Processes):
    """Several processes, as one of them sees them.

    Args:
        client: Client of the key-value store.
        index: Number of this process.
        count: Number of processes.
        clock: Monotonic clock [s].
    """

    def __init__(self, client: Any, index: int, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.index, self.count, self.is_writer = index, count, index == 0
        self._client = client
        self._clock = clock
        self._round = 0
        self._leaving = threading.Event()

    def watch(self) -> None:
        """Starts to send heartbeats, and to end this process if another one has failed while it hangs."""
        threading.Thread(target=self._watch, name="processes", daemon=True).start()

    def agree_on(self, *flags: bool) -> tuple[bool, ...]:
        """Returns for each flag whether it is set in any process."""

        def any_of(values: list[str]) -> str:
            return "".join("1" if "1" in column else "0" for column in zip(*values, strict=True))

        agreed = self._exchange("".join("01"[flag] for flag in flags), any_of)
        return tuple(flag == "1" for flag in agreed)

    def broadcast(self, data: bytes) -> bytes:
        """Returns the `data` of process 0."""
        self._round += 1
        key = f"{_AT}/{self._round}"
        if self.is_writer:
            chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
            for number, chunk in enumerate(chunks):
                self._client.key_value_set_bytes(f"{key}/{number}", chunk)
            self._client.key_value_set_bytes(key, str(len(chunks)).encode())
        else:
            num_chunks = int(self._get(key))
            data = b"".join(self._get(f"{key}/{number}") for number in range(num_chunks))
        self.agree_on()  # all have read it, so the store may forget it
        return data

    def check_same(self, digest: str, what: str, remedy: str = _SAME_HOSTS) -> None:
        """Checks that all processes have the same `digest` of `what`."""

        def odd_ones(values: list[str]) -> str:
            return ", ".join(str(i) for i, value in enumerate(values) if value != values[0])

        odd = self._exchange(digest, odd_ones)
        if odd:
            raise TrainingError(
                f"{what} is not the same in all processes: it differs from that of process 0 in process {odd}. {remedy}"
            )

    def lost(self, error: Exception) -> EvoconnError:
        """Returns what to raise for an `error` of a computation."""
        self._leaving.set()
        with suppress(Exception):  # the process that failed may be about to say why
            return _failed_elsewhere(json.loads(self._client.blocking_key_value_get(_FAILED, _TO_SAY_WHY_MS)))
        return ProcessLostError(f"{self.describe_loss()} ({first_line(error)})")

    def describe_loss(self) -> str:
        """Returns a message that another process is lost."""
        return (
            f"process {self.index} of {self.count} ends because another one died or cannot be reached. The latest "
            "checkpoint is kept: start all processes again with evoconn resume."
        )

    def close(self) -> None:
        """Leaves the cluster together with the others."""
        self._leaving.set()
        with suppress(Exception):  # all is done and saved
            jax.distributed.shutdown()

    def abandon(self, message: str, exit_code: int) -> None:
        """Tells the others that this process fails, and ends it."""
        self._leaving.set()
        if exit_code != ExitCode.PROCESS_LOST:  # the others notice a lost process by themselves
            told = {"process": self.index, "host": os.uname().nodename, "message": message, "exit_code": exit_code}
            with suppress(Exception):  # the first failure is the one to report, and the store may be gone
                self._client.key_value_set(_FAILED, json.dumps(told))
        self._go(exit_code)

    def _exchange(self, value: str, combine: Callable[[list[str]], str]) -> str:
        """Returns in every process what process 0 makes with `combine` of the values of all, in order of processes."""
        self._round += 1
        key = f"{_AT}/{self._round}"
        if not self.is_writer:
            self._set(f"{key}/{self.index}", value)
            return self._get(f"{key}/all").decode()
        values = [value, *(self._get(f"{key}/{i}", sender=i).decode() for i in range(1, self.count))]
        combined = combine(values)
        self._set(f"{key}/all", combined)
        self._client.key_value_delete(f"{_AT}/{self._round - 1}")  # all have read it
        return combined

    def _set(self, key: str, value: str) -> None:
        try:
            self._client.key_value_set(key, value)
        except Exception as error:
            raise ProcessLostError(f"{self.describe_loss()} ({error})") from None

    def _get(self, key: str, sender: int = 0) -> bytes:
        """Returns the value of `key`, waiting as long as its `sender` sends heartbeats."""
        heard = self._clock()
        end, beat = heard + PATIENCE, None
        while True:
            try:
                return self._client.blocking_key_value_get_bytes(key, _SLICE_MS)
            except Exception as error:
                failure = self._failure()
                if failure is not None:
                    self._leaving.set()
                    raise _failed_elsewhere(failure) from None
                now, last_beat = self._clock(), self._read(f"{_BEAT}/{sender}")
                if last_beat != beat:
                    heard, beat = now, last_beat
                if "DEADLINE_EXCEEDED" not in str(error) or now > min(end, heard + SILENCE):
                    raise ProcessLostError(f"{self.describe_loss()} ({error})") from None

    def _read(self, key: str) -> str | None:
        try:
            return self._client.key_value_try_get(key)
        except Exception:  # it is not set, or the store is gone
            return None

    def _failure(self) -> dict[str, Any] | None:
        told = self._read(_FAILED)
        return None if told is None else json.loads(told)

    def _watch(self) -> None:
        while not self._leaving.wait(1.0):
            with suppress(Exception):  # the store is gone
                self._client.key_value_set(f"{_BEAT}/{self.index}", str(self._clock()), allow_overwrite=True)
            failure = self._failure()
            if failure is None:
                continue
            if not self._leaving.wait(_TO_SAVE if self.is_writer else _TO_LEAVE):
                error = _failed_elsewhere(failure)
                print(f"Error: {error}", file=sys.stderr, flush=True)
                self._go(error.exit_code)

    def _go(self, exit_code: int) -> None:
        """Ends the process; the writer waits for the others, which abort as soon as the store is gone."""
        with suppress(Exception):
            if self.is_writer:
                end = time.monotonic() + _FAREWELL
                while len(self._client.key_value_dir_get(_GONE)) < self.count - 1 and time.monotonic() < end:
                    time.sleep(0.1)
                time.sleep(_TO_END)
            else:
                self._client.key_value_set(f"{_GONE}/{self.index}", "")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def _failed_elsewhere(failure: dict[str, Any]) -> EvoconnError:
    """Returns an error with the exit code of the process that failed."""
    error = ProcessLostError(
        f"process {failure['process']} on {failure['host']} has failed, so all processes end. It said: "
        f"{failure['message']}"
    )
    error.exit_code = ExitCode(failure["exit_code"])
    return error


def share_state(state: RunState, processes: Processes, workers: WorkerMesh) -> RunState:
    """Returns the state of the writer, on the first device of this process.

    Args:
        state: State of the writer; in the other processes, one of the same shapes.
        processes: Processes of the run.
        workers: Devices.
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
    """Returns a hash of every bit of the state."""
    found = hashlib.blake2b(digest_size=16)
    for x in jax.tree.leaves(jax.device_get(state)):
        found.update(x.tobytes())
    return found.hexdigest()
