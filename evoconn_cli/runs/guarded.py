"""Calling a library that may hang, or that takes over what belongs to the process."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from evoconn_cli.errors import first_line
from evoconn_cli.runs.secrets import without_secrets

T = TypeVar("T")


@contextmanager
def process_hooks_kept() -> Iterator[None]:
    """Puts back `sys.exit` and `sys.excepthook`, which wandb replaces for good."""
    exit_function, excepthook = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = exit_function, excepthook


def within(seconds: float, call: Callable[[], T]) -> T:
    """Returns what `call` returns.

    Raises:
        TimeoutError: it takes more than `seconds`; its daemon thread is left alone.
        Exception: what it raises.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:
            outcome.set_exception(error)
        except BaseException as error:  # SystemExit: it must not be raised again outside
            outcome.set_exception(RuntimeError(repr(error)))

    threading.Thread(target=work, name="guarded", daemon=True).start()
    return outcome.result(timeout=seconds)


def reason_of(error: Exception, *secrets: str) -> str:
    """Returns one line about `error` without anything secret, `secrets` included."""
    text = without_secrets(first_line(error), *secrets)
    return text if len(text) <= 160 else f"{text[:157]}..."
