"""evoconn: recurrent spiking neural networks trained by evolving their connectivity.

`load_run(path)` opens a saved run in Python; it is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evoconn_cli.runs.loaded import load_run as load_run

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "load_run":
        from evoconn_cli.runs.loaded import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
