"""Reads arguments, and suggests what a misspelt word was meant to be."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from evoconn_cli.commands.options import launch_keys, run_keys
from evoconn_cli.config.numbers import read_number
from evoconn_cli.config.perturbations import KINDS
from evoconn_cli.config.registry import names, preset_names
from evoconn_cli.errors import ConfigError, near_names, program

_IN_A_HOME = re.compile(r"(--[a-z-]+=)?(~[^/=]*/.*)", re.DOTALL)


class Command(TyperCommand):
    """A command that takes `--run-dir=~/x`, which a shell leaves as it is, and no number that a file could not hold."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Returns the arguments that are left, with those that are known in `ctx.params`.

        Raises:
            ConfigError: `~/` without a home directory.
            BadParameter: a number in a form that Python alone reads, such as `1_000`.
        """
        if ctx.resilient_parsing:  # as it is while the shell completes a word
            return super().parse_args(ctx, args)
        given = [expand_home(argument) for argument in args]
        try:
            left = super().parse_args(ctx, list(given))
        except typer.BadParameter as error:
            error.message += _hint(getattr(error.param, "opts", []), given)
            raise
        for param in self.params:
            is_number = type(ctx.params.get(param.name or "")) in (int, float)
            for text in _values_of(param.opts, given) if is_number else ():
                if read_number(text) is None:
                    raise typer.BadParameter(f"{text!r} is not a number.", ctx=ctx, param_hint=f"'{param.opts[0]}'")
        return left


def expand_home(argument: str) -> str:
    """Returns an argument with the path of the home directory in place of `~/` or `~USER/` where its path begins.

    Raises:
        ConfigError: there is no home directory.
    """
    found = _IN_A_HOME.fullmatch(argument)
    if found is None:
        return argument
    path = os.path.expanduser(found[2])
    if path.startswith("~/"):
        raise ConfigError(f"{argument}: the home directory is not known. Set HOME, or write the whole path.")
    return f"{found[1] or ''}{path}"


def _hint(names: list[str], args: list[str]) -> str:
    """Returns what to write in place of `1e4` or `0x10`, which an option for whole numbers does not take."""
    numbers = [read_number(text) for text in _values_of(names, args) if not re.fullmatch(r"[-+]?[0-9]+", text)]
    whole = [number for number in numbers if number is not None and math.isfinite(number) and number == int(number)]
    return f": write {int(whole[0])}." if whole else ""


def _values_of(names: list[str], args: list[str]) -> Iterator[str]:
    """Yields the values that an option is given."""
    for argument, following in pairwise([*args, ""]):
        name, equals, value = argument.partition("=")
        if name in names and (equals or following):
            yield value if equals else following


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
    options = {"--task": names("task"), "--algo": names("strategy"), "--network": names("network")}
    for option, known in {**options, "--config": preset_names()}.items():
        if (name := word.lower()) in known:
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
