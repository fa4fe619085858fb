"""Limits what a library can do to the process: hang, print, or replace its hooks."""

from __future__ import annotations

import concurrent.futures
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from evoconn_cli.errors import first_line
from evoconn_cli.runs.provenance import without_secrets

T = TypeVar("T")


@contextmanager
def process_hooks_kept() -> Iterator[None]:
    """Restores `sys.exit` and `sys.excepthook` at the end, which wandb replaces."""
    exit_function, excepthook = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = exit_function, excepthook


@contextmanager
def output_discarded(descriptor: int) -> Iterator[None]:
    """Discards what this process, its libraries and its children write to file descriptor 1 or 2."""
    try:
        kept = os.dup(descriptor)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(nowhere)


def within(seconds: float, call: Callable[[], T]) -> T:
    """Returns what `call` returns.

    Raises:
        TimeoutError: it takes more than `seconds`; its daemon thread keeps running.
        Exception: whatever it raises.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:
            outcome.set_exception(error)
        except BaseException as error:  # SystemExit must not end this process
            outcome.set_exception(RuntimeError(repr(error)))

    threading.Thread(target=work, name="guarded", daemon=True).start()
    return outcome.result(timeout=seconds)


def reason_of(error: Exception, *secrets: str) -> str:
    """Returns one line about `error`, without `secrets` and other credentials."""
    text = first_line(error)
    errors = getattr(error, "errors", None)
    refusals: Any = errors() if callable(errors) else None
    if refusals:  # from pydantic, whose first line only counts them
        refused = refusals[0]
        text = f"the setting {'.'.join(map(str, refused['loc']))}: {refused['msg']}"
    text = without_secrets(text, *secrets)
    return text if len(text) <= 160 else f"{text[:157]}..."
