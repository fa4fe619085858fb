"""Grids: many runs, on the devices of this machine, on SLURM or on Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Note: TypeAlias = Callable[[str], None]
"""Shows the user a sentence."""
