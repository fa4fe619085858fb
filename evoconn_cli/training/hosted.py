"""Trains a run within a Python program: its callbacks, its signals and its settings of JAX."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TypeAlias

import jax
import numpy as np

from evoconn_cli.engine.devices import host_program
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import EvoconnError
from evoconn_cli.progress.display import Progress
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import MetricsLine
from evoconn_cli.runs.signals import Interrupts
from evoconn_cli.training.opening import TrainingRun
from evoconn_cli.training.train import train

Callback: TypeAlias = Callable[[MetricsLine, RunState], object]
"""Called after each generation with its line of metrics.jsonl and the state; True ends the training."""

_ONE_TRAINING = threading.Lock()


def train_hosted(
    open_run: Callable[[], TrainingRun], callbacks: Iterable[Callback], progress: Progress
) -> RunDirectory:
    """Returns the directory of the run that `open_run` opens, after its training.

    A signal that came meanwhile takes its usual effect once the run is saved.

    Raises:
        EvoconnError: Another training runs in this process, or the training fails.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if not _ONE_TRAINING.acquire(blocking=False):
        raise EvoconnError(
            "another training runs in this process, and two would wait for each other's devices. Train one after the "
            "other, or in processes of their own."
        )
    try:
        with host_program() as as_the_caller, Interrupts() as interrupts:
            called = _Callbacks(callbacks, interrupts, as_the_caller)
            run = open_run()
            train(run, progress, interrupts=interrupts, on_generation=called)
    finally:
        _ONE_TRAINING.release()
    if called.error is not None:
        raise called.error
    if interrupts.received is not None:
        _let_take_effect(interrupts.received, run.directory)
    return run.directory


def _let_take_effect(number: int, directory: RunDirectory) -> None:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        saved, where = directory.last_saved_generation(), directory.short_path()
        what = f"the run is saved at generation {saved}" if saved else "nothing is saved yet"
        raise KeyboardInterrupt(f"{what}; evoconn_cli.resume({where!r}) continues it") from None


class _Callbacks:
    """Calls functions of the program after each generation, with its own settings of JAX.

    Args:
        callbacks: The functions.
        interrupts: Ends the training when one of them asks for that or fails.
        as_the_caller: Context with the program's settings of JAX.

    Attributes:
        error: What one of them raised.
    """

    def __init__(
        self,
        callbacks: Iterable[Callback],
        interrupts: Interrupts,
        as_the_caller: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._callbacks, self._interrupts, self._as_the_caller = list(callbacks), interrupts, as_the_caller
        self.error: BaseException | None = None

    def __call__(self, metrics: MetricsLine, state: RunState) -> None:
        reason = "a callback ended the training"
        try:
            with self._as_the_caller():
                answers = [callback(dict(metrics), state) for callback in self._callbacks]
                asked = any(bool(answer) for answer in answers if isinstance(answer, bool | np.bool_ | jax.Array))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and self._interrupts.requested:
                raise  # a second Ctrl-C quits at once
            self.error, asked, reason = error, True, "a callback failed"
        if asked and not self._interrupts.requested:
            self._interrupts.by, self._interrupts.signal, self._interrupts.requested = "callback", reason, True
