"""evoconn: recurrent spiking neural networks trained by evolving their connectivity.

`load_run(path)` opens a saved run in Python, `load_bundle(path)` an exported network, and `act(policy, env)` runs a
policy on a Gymnasium environment; they are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evoconn_cli.api import load_bundle as load_bundle
    from evoconn_cli.api import load_run as load_run
    from evoconn_cli.gymnasium.acting import act as act

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in ("load_run", "load_bundle"):
        from evoconn_cli import api

        return getattr(api, name)
    if name == "act":
        from evoconn_cli.gymnasium import acting

        return acting.act
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
