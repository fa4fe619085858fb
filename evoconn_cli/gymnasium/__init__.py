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

from evoconn_cli.config.registry import Entry, on_register


def _register(entry: Entry) -> None:
    if entry.kind == "task":
        gymnasium.register(
            f"evoconn/{entry.name}-v1",
            entry_point="evoconn_cli.gymnasium.environments:TaskEnv",
            vector_entry_point="evoconn_cli.gymnasium.environments:TaskVectorEnv",
            kwargs={"name": entry.name},
        )


on_register(_register)
