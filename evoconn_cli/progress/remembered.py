"""Remembers measurements by kind of run, beside the programs that JAX has compiled."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from evoconn_cli.output import replace_text

_MOST_KINDS = 200


def kind_of(*facts: Any) -> str:
    """Returns a name for all runs with the same facts, which are as JSON can hold them."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Remembered:
    """A JSON file of measurements by kind, those of the kinds that were measured last.

    Args:
        folder: Folder of the compiled programs; nothing is remembered if it is None or does not exist.
        name: Name of the file.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._file = folder / name if folder is not None and folder.is_dir() else None

    def get(self, kind: str) -> Any:
        """Returns the measurement of a kind; None if there is none, or the file cannot be read."""
        return self._read().get(kind)

    def put(self, kind: str, measured: Any) -> None:
        """Remembers the measurement of a kind, if the file can be written."""
        if self._file is None:
            return
        known = self._read()
        known.pop(kind, None)  # the newest comes last
        known[kind] = measured
        with suppress(OSError):
            replace_text(self._file, json.dumps(dict(list(known.items())[-_MOST_KINDS:])))

    def _read(self) -> dict[str, Any]:
        if self._file is not None:
            with suppress(OSError, ValueError, RecursionError):
                known = json.loads(self._file.read_text(encoding="utf-8"))
                if isinstance(known, dict):
                    return known
        return {}
