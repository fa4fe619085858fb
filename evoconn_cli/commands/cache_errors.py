"""What becomes of JAX's warnings about compiled programs that cannot be read or kept."""

from __future__ import annotations

import glob
import re
import warnings
from pathlib import Path
from typing import Any

from evoconn_cli.commands.ending import show_notice

_CACHE_ERROR = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)")


def mend_compilation_cache() -> None:
    """From now on a program that cannot be read from the cache is replaced; if that cannot be, one notice says so.

    JAX writes into the file that it later reads. What a full disk or a killed process left of one would be refused at
    every start and never be written again.
    """
    show_warning = warnings.showwarning
    noticed = False

    def show(message: Warning | str, *where: Any, **other: Any) -> None:
        nonlocal noticed
        error = _CACHE_ERROR.match(str(message))
        if error is None:
            show_warning(message, *where, **other)
        elif (error[1] == "writing" or not _delete(error[2])) and not noticed:
            noticed = True
            show_notice(f"compiled programs cannot be kept in {_directory()} ({error[3]}): each start compiles anew.")

    warnings.showwarning = show


def _delete(program: str) -> bool:
    """Deletes what is kept of the program for any shapes, as JAX does not say which; returns whether that helps.

    There may be nothing: another process has deleted it, or was just writing it.
    """
    try:
        for entry in _directory().glob(f"{glob.escape(program)}-*"):
            entry.unlink(missing_ok=True)
    except OSError:
        return False
    return _directory().is_dir()


def _directory() -> Path:
    import jax

    return Path(jax.config.values["jax_compilation_cache_dir"])
