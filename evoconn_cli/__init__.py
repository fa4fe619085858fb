"""evoconn: recurrent spiking neural networks trained by evolving their connectivity.

`train`, `resume` and `evaluate` do in Python what the commands do; `load_run(path)` opens a saved run,
`load_bundle(path)` an exported network, and `act(policy, env)` runs a policy on a Gymnasium environment;
`register_task`, `register_network` and `register_strategy` add your own. Everything is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evoconn_cli.api import Run as Run
    from evoconn_cli.api import evaluate as evaluate
    from evoconn_cli.api import load_bundle as load_bundle
    from evoconn_cli.api import load_run as load_run
    from evoconn_cli.api import resume as resume
    from evoconn_cli.api import train as train
    from evoconn_cli.config.fields import option as option
    from evoconn_cli.config.plugins import register_network as register_network
    from evoconn_cli.config.plugins import register_strategy as register_strategy
    from evoconn_cli.config.plugins import register_task as register_task
    from evoconn_cli.config.schema import AlgoConfig as AlgoConfig
    from evoconn_cli.config.schema import NetworkConfig as NetworkConfig
    from evoconn_cli.config.schema import SpikingConfig as SpikingConfig
    from evoconn_cli.config.schema import TaskConfig as TaskConfig
    from evoconn_cli.engine.strategies import Strategy as Strategy
    from evoconn_cli.errors import ConfigError as ConfigError
    from evoconn_cli.gymnasium.acting import act as act
    from evoconn_cli.networks import Layer as Layer
    from evoconn_cli.networks import Network as Network
    from evoconn_cli.tasks import Shape as Shape
    from evoconn_cli.tasks import Task as Task
    from evoconn_cli.tasks import TaskState as TaskState

__version__ = "0.1.0"

_PLACES = {
    "api": ("Run", "evaluate", "load_bundle", "load_run", "resume", "train"),
    "config.plugins": ("register_network", "register_strategy", "register_task"),
    "config.fields": ("option",),
    "config.schema": ("AlgoConfig", "NetworkConfig", "SpikingConfig", "TaskConfig"),
    "engine.strategies": ("Strategy",),
    "errors": ("ConfigError",),
    "gymnasium.acting": ("act",),
    "networks": ("Layer", "Network"),
    "tasks": ("Shape", "Task", "TaskState"),
}


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _PLACES.values() for name in names)])


def __getattr__(name: str) -> object:
    for place, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
