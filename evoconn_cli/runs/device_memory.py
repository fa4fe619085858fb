"""Devices and hosts whose memory is too small for what is computed at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from evoconn_cli.errors import DeviceMemoryError


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Turns the error of a device, or of this machine, that runs out of memory into a message.

    Args:
        what: is computed, such as `blocks of 64 members`.
        remedy: what the user can do about it, in sentences.

    Raises:
        DeviceMemoryError: the memory was not enough.
    """
    try:
        yield
    except MemoryError:
        raise DeviceMemoryError(f"the memory of this machine is not enough for {what}. {remedy}") from None
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if "RESOURCE_EXHAUSTED" not in text and "out of memory" not in text.lower():
            raise
        raise DeviceMemoryError(f"the device's memory is not enough for {what}. {remedy}") from None
