"""What a word that is not known may have been meant for: the message names what to type instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from evoconn_cli.commands.arguments import Command
from evoconn_cli.commands.completion import launch_keys, run_keys
from evoconn_cli.config.names import PAIRS, TASKS
from evoconn_cli.config.perturbations import KINDS
from evoconn_cli.config.shipped import preset_names
from evoconn_cli.errors import ConfigError, near_names, program

_TAKES_KEYS = ("train", "resume")
"""Commands whose arguments are keys of the configuration."""


def check_entries(entries: Iterable[str]) -> None:
    """Checks that all arguments of `train` are `KEY=VALUE`.

    Raises:
        ConfigError: one is a word; the message names the option that it may be meant for.
    """
    for word in entries:
        if "=" not in word and (option := _option_for(word)):
            raise ConfigError(f"{word!r} is not KEY=VALUE. Did you mean {option}?")


def _option_for(word: str) -> str | None:
    """Returns what may have been meant by a word beside the options of `train`; None if nothing is likely."""
    options = {"--task": TASKS, "--algo": PAIRS, "--network": [n for several in PAIRS.values() for n in several]}
    for option, names in {**options, "--config": preset_names()}.items():
        if (name := word.lower()) in names:
            return f"{option} {name}"
    path = Path(word)
    if path.suffix in (".yaml", ".yml"):
        return f"--config {word}"
    return f"{program()} resume {word}" if (path / "config.yaml").is_file() else None


class HintingCommand(Command):
    """A command that answers an unknown option with the option or the key of the configuration that may be meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Returns the arguments that are left, as Typer does."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(error, "option_name", None)
            if name is None or not hasattr(error, "possibilities"):  # not the error of an unknown option
                raise
            hint = self._hint(ctx, name, _value_of(name, given))
            error.message = f"No such option: {name}. {hint}"  # pyright: ignore[reportAttributeAccessIssue]
            error.possibilities = None  # pyright: ignore[reportAttributeAccessIssue]
            raise

    def _hint(self, ctx: Any, name: str, value: str) -> str:
        options = [option for parameter in self.get_params(ctx) for option in getattr(parameter, "opts", ())]
        names = {option[2:]: option for option in options if option.startswith("--")}
        names = {last: f"{key}={value}" for last, key in _keys_of(self.name).items()} | names
        near = [meant] if self.name == "train" and (meant := _option_for(value)) else near_names(name[2:], names)
        if near:
            return f"Did you mean {' or '.join(near)}?"
        also = ", and any key of the configuration is given as KEY=VALUE" if self.name in _TAKES_KEYS else ""
        return f"{program()} {self.name} --help lists the options{also}."


def _keys_of(command: str | None) -> dict[str, str]:
    """Returns what a command takes as `KEY=VALUE`, by the last parts of the keys."""
    if command == "evaluate":
        return {kind: f"--perturb {kind}" for kind in KINDS}
    keys = launch_keys() if command == "launch-grid" else run_keys() if command in _TAKES_KEYS else ()
    return {key.rpartition(".")[2]: key for key in reversed(list(keys))}


def _value_of(name: str, args: list[str]) -> str:
    """Returns what is given for an option, `VALUE` if nothing is."""
    for index, word in enumerate(args):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and index + 1 < len(args) and not args[index + 1].startswith("--"):
            return args[index + 1]
    return "VALUE"


class HintingGroup(TyperGroup):
    """A group that answers an unknown command with those that may be meant, or with all of them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the command, as Typer does."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            message = getattr(error, "message", "")
            if "No such command" not in message or "Did you mean" in message:
                raise
            shown = {name: name for name, command in self.commands.items() if not command.hidden}
            near = near_names(args[0], shown)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(shown)}."
            error.message = f"{message} {hint}"  # pyright: ignore[reportAttributeAccessIssue]
            raise
