"""Processes that have joined: what they tell each other beside the arrays that they compute.

It goes through the key-value store of JAX's coordination service, which process 0 holds, and not through the devices:
so every wait has a time limit, and a process can tell why it fails while the others wait for it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
from jax._src import distributed  # nothing public leads to the key-value store

from evoconn_cli.errors import EvoconnError, ExitCode, ProcessLostError, TrainingError, first_line

PATIENCE = 600.0  # [s] for the others to come to where this process is; a dead one is found earlier
_SLICE_MS = 1000  # a wait looks so often whether somebody has failed
_CHUNK = 1 << 20  # [bytes] of a value in the store, whose messages are limited to 4 MiB
_SILENCE = 20.0  # [s] without a beat of the process waited for; JAX, after its longer time, aborts with nothing saved
_FAILED, _GONE, _AT, _BEAT = "evoconn/failed", "evoconn/gone", "evoconn/at", "evoconn/beat"
_TO_LEAVE = 5.0  # [s] a process has to leave by itself when another one has failed
_TO_SAVE = 30.0  # [s] the writer has instead, which saves first
_FAREWELL = 10.0  # [s] the writer holds the store, for the others to read why it fails
_TO_END = 0.5  # [s] the last of them has, once it has said that it goes, before the store is gone


class JoinedProcesses:
    """The processes of a cluster, after `jax.distributed.initialize`.

    Attributes:
        index: of this process.
        count: of all.
        is_writer: whether this process is number 0.
    """

    def __init__(self) -> None:
        self.index: int = distributed.global_state.process_id
        self.count: int = distributed.global_state.num_processes
        self.is_writer = self.index == 0
        self._client: Any = distributed.global_state.client
        self._round = 0
        self._leaving = threading.Event()
        threading.Thread(target=self._watch, name="processes", daemon=True).start()

    def agree_on(self, *flags: bool) -> tuple[bool, ...]:
        """Returns for each flag whether it is set in any process."""

        def any_of(values: list[str]) -> str:
            return "".join("1" if "1" in column else "0" for column in zip(*values, strict=True))

        agreed = self._exchange("".join("01"[flag] for flag in flags), any_of)
        return tuple(flag == "1" for flag in agreed)

    def check_same(self, digest: str, what: str) -> None:
        """Checks that all processes have the same `digest` of `what`.

        Raises:
            TrainingError: they differ.
        """

        def odd_ones(values: list[str]) -> str:
            return ", ".join(str(i) for i, value in enumerate(values) if value != values[0])

        odd = self._exchange(digest, odd_ones)
        if odd:
            raise TrainingError(
                f"{what} is not the same in all processes: it differs from that of process 0 in process {odd}. All "
                "hosts need the same versions of JAX and the same kind of processor."
            )

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
        self.agree_on()  # the store forgets it when all have read it
        return data

    def lost(self, error: Exception) -> EvoconnError:
        """Returns what to raise for an `error` of a computation."""
        failure = self._wait_for_failure(seconds=2.0)  # the one who failed may be about to tell why
        if failure is not None:
            return _failed_elsewhere(failure)
        return ProcessLostError(f"{self.describe_loss()} ({first_line(error)})")

    def describe_loss(self) -> str:
        """Returns in words that the others are lost."""
        return (
            f"process {self.index} of {self.count} ends: it lost another one, which died or cannot be reached any "
            "more. The latest checkpoint is kept: start all processes again with evoconn resume."
        )

    def close(self) -> None:
        """Leaves the cluster together with the others."""
        self._leaving.set()
        with suppress(Exception):  # all is done and saved
            jax.distributed.shutdown()

    def abandon(self, message: str, exit_code: int) -> None:
        """Tells the others that this process fails, and ends it without waiting for what it computes."""
        self._leaving.set()
        if exit_code != ExitCode.PROCESS_LOST:  # which the others find out by themselves
            told = {"process": self.index, "host": os.uname().nodename, "message": message, "exit_code": exit_code}
            with suppress(Exception):  # the first one to fail is the one to blame, and the store may be gone
                self._client.key_value_set(_FAILED, json.dumps(told))
        self._go(exit_code)

    def _exchange(self, value: str, combine: Callable[[list[str]], str]) -> str:
        """Returns at every process what `combine` makes of the values of all, by process, at process 0."""
        self._round += 1
        key = f"{_AT}/{self._round}"
        if not self.is_writer:
            self._set(f"{key}/{self.index}", value)
            return self._get(f"{key}/all").decode()
        values = [value, *(self._get(f"{key}/{i}", sender=i).decode() for i in range(1, self.count))]
        combined = combine(values)
        self._set(f"{key}/all", combined)
        self._client.key_value_delete(f"{_AT}/{self._round - 1}")  # everybody has read that
        return combined

    def _set(self, key: str, value: str) -> None:
        try:
            self._client.key_value_set(key, value)
        except Exception as error:
            raise ProcessLostError(f"{self.describe_loss()} ({error})") from None

    def _get(self, key: str, sender: int = 0) -> bytes:
        """Returns the value of `key`, waiting for its `sender`."""
        heard = time.monotonic()
        end, beat = heard + PATIENCE, None
        while True:
            try:
                return self._client.blocking_key_value_get_bytes(key, _SLICE_MS)
            except Exception as error:
                failure = self._failure()
                if failure is not None:
                    self._leaving.set()
                    raise _failed_elsewhere(failure) from None
                now, last_beat = time.monotonic(), self._read(f"{_BEAT}/{sender}")
                if last_beat != beat:
                    heard, beat = now, last_beat
                if "DEADLINE_EXCEEDED" not in str(error) or now > min(end, heard + _SILENCE):
                    raise ProcessLostError(f"{self.describe_loss()} ({error})") from None

    def _read(self, key: str) -> str | None:
        try:
            return self._client.key_value_try_get(key)
        except Exception:  # it is not set, or the store is gone
            return None

    def _failure(self) -> dict[str, Any] | None:
        told = self._read(_FAILED)
        return None if told is None else json.loads(told)

    def _wait_for_failure(self, seconds: float) -> dict[str, Any] | None:
        self._leaving.set()
        with suppress(Exception):
            return json.loads(self._client.blocking_key_value_get(_FAILED, int(1000 * seconds)))
        return None

    def _watch(self) -> None:
        """Tells the others that this process lives; ends it when one has failed, should it hang in a computation."""
        while not self._leaving.wait(1.0):
            with suppress(Exception):  # the store is gone
                self._client.key_value_set(f"{_BEAT}/{self.index}", str(time.monotonic()), allow_overwrite=True)
            failure = self._failure()
            if failure is None:
                continue
            if not self._leaving.wait(_TO_SAVE if self.is_writer else _TO_LEAVE):
                error = _failed_elsewhere(failure)
                print(f"Error: {error}", file=sys.stderr, flush=True)
                self._go(error.exit_code)

    def _go(self, exit_code: int) -> None:
        """Ends the process; the writer stays a moment, since the others abort when the store is gone."""
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
        f"process {failure['process']} on {failure['host']} has ended, and so do the others. It said: "
        f"{failure['message']}"
    )
    error.exit_code = ExitCode(failure["exit_code"])
    return error
