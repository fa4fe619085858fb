"""Trains a run within a Python program: its callbacks, its signals and its settings of JAX."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
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
    callbacks, errors = list(callbacks), list[BaseException]()
    if not _ONE_TRAINING.acquire(blocking=False):
        raise EvoconnError(
            "another training runs in this process, and two would wait for each other's devices. Train one after the "
            "other, or in processes of their own."
        )

    def call_back(metrics: MetricsLine, state: RunState) -> None:
        reason = "a callback ended the training"
        try:
            with as_the_caller():
                answers = [callback(dict(metrics), state) for callback in callbacks]
                asked = any(bool(answer) for answer in answers if isinstance(answer, bool | np.bool_ | jax.Array))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and interrupts.requested:
                raise  # a second Ctrl-C quits at once
            errors.append(error)
            asked, reason = True, "a callback failed"
        if asked and not interrupts.requested:
            interrupts.by, interrupts.signal, interrupts.requested = "callback", reason, True

    try:
        with host_program() as as_the_caller, Interrupts() as interrupts:
            run = open_run()
            train(run, progress, interrupts=interrupts, on_generation=call_back)
    finally:
        _ONE_TRAINING.release()
    if errors:
        raise errors[-1]
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
