"""Which generations are saved, by the names of the checkpoints alone."""

from __future__ import annotations

from pathlib import Path


def saved_generations(checkpoints: Path) -> list[int]:
    """Returns the generations that the directory `checkpoints` holds, in order; none where there is no directory."""
    return sorted(int(path.name) for path in checkpoints.glob("*") if path.name.isdecimal())
