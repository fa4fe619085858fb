"""Registers every task with Gymnasium as `evoconn/NAME-v1`; tasks that are registered later follow."""

from __future__ import annotations

try:
    import gymnasium
except ModuleNotFoundError as error:
    if error.name != "gymnasium":
        raise
    raise ModuleNotFoundError(
        "gymnasium is not installed here: pip install 'evoconn[gymnasium]', or in a checkout pip install "
        "'.[gymnasium]'.",
        name="gymnasium",
    ) from None

from evoconn_cli.config.registry import Entry, names, on_register


def _register(name: str) -> None:
    if (full_name := f"evoconn/{name}-v1") not in gymnasium.registry:
        gymnasium.register(
            full_name,
            entry_point="evoconn_cli.gymnasium.environments:TaskEnv",
            vector_entry_point="evoconn_cli.gymnasium.environments:TaskVectorEnv",
            kwargs={"name": name},
        )


def _follow(entry: Entry) -> None:
    if entry.kind == "task":
        _register(entry.name)


for _name in names("task"):
    _register(_name)
on_register(_follow)
