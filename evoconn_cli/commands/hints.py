"""The commands' parsers: they load plug-ins, read arguments, and suggest what a misspelt word was meant to be."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from evoconn_cli.commands.options import launch_keys, run_keys
from evoconn_cli.config.installed_plugins import installed_plugins, package_of
from evoconn_cli.config.numbers import read_number
from evoconn_cli.config.perturbations import KINDS
from evoconn_cli.config.registry import PLUGINS_VARIABLE, Entry, Kind, entries, find, names, preset_names
from evoconn_cli.errors import ConfigError, near_names, program

_CHOOSING: dict[str, Kind] = {"--task": "task", "--algo": "strategy", "--network": "network"}
"""Options that choose by name."""

_TAKES_KEYS = ("train", "resume")
"""Commands whose arguments are keys of the configuration."""


class Command(TyperCommand):
    """A command that expands `--run-dir=~/x`, reads numbers as YAML does, and answers unknown options with a hint.

    The plug-ins that it is given are loaded before its arguments are read, but not while the shell completes a word.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Returns the remaining arguments, with the known ones in `ctx.params`.

        Raises:
            ConfigError: `~/` without a home directory, or a plug-in that cannot be read.
            PluginError: A plug-in that cannot be loaded.
            BadParameter: A number in a form that only Python reads, such as `1_000`.
        """
        if ctx.resilient_parsing:  # while the shell completes a word
            return super().parse_args(ctx, args)
        given = [expand_home(argument) for argument in args]
        if self._plugin_option() is not None:
            _load_plugins(_values_of(["--plugin"], itertools.takewhile(lambda word: word != "--", given)))
        try:
            left = super().parse_args(ctx, list(given))
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # of pydantic
            error.message += _whole_number(getattr(error.param, "opts", []), given) or _similar_choice(error.message)
            raise
        except Exception as error:
            name = getattr(error, "option_name", None)
            if name is None or not hasattr(error, "possibilities"):  # another error than an unknown option
                raise
            values = (value for value in _values_of([name], given) if not value.startswith("--"))
            hint = self._hint(ctx, name, next(values, "VALUE"))
            error.message = f"No such option: {name}. {hint}"  # pyright: ignore[reportAttributeAccessIssue]
            error.possibilities = None  # pyright: ignore[reportAttributeAccessIssue]
            raise
        for param in self.params:
            is_number = type(ctx.params.get(param.name or "")) in (int, float)
            for text in _values_of(param.opts, given) if is_number else ():
                if read_number(text) is None:
                    raise typer.BadParameter(f"{text!r} is not a number.", ctx=ctx, param_hint=f"'{param.opts[0]}'")
        return left

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Shows the help, with the names and keys of plug-ins in a panel of their own."""
        option = self._plugin_option()
        if option is None:
            return super().format_help(ctx, formatter)
        for flag, kind in _CHOOSING.items():  # an installed plug-in shows its keys if it is chosen
            for name in _values_of([flag], sys.argv[1:]):
                if name in names(kind):
                    find(kind, name)
        shown = copy.copy(self)
        shown.params = [*self.params, *_describe_plugins(option, with_keys=self.name in _TAKES_KEYS)]
        TyperCommand.format_help(shown, ctx, formatter)

    def _plugin_option(self) -> Any:
        return next((param for param in self.params if param.name == "plugin"), None)

    def _hint(self, ctx: Any, name: str, value: str) -> str:
        """Returns the option or the key of the configuration that an unknown option may stand for."""
        options = [option for parameter in self.get_params(ctx) for option in getattr(parameter, "opts", ())]
        names = {option[2:]: option for option in options if option.startswith("--")}
        names = {last: f"{key}={value}" for last, key in _keys_of(self.name).items()} | names
        near = [meant] if self.name == "train" and (meant := _option_for(value)) else near_names(name[2:], names)
        if near:
            return f"Did you mean {' or '.join(near)}?"
        also = ", and any key of the configuration is given as KEY=VALUE" if self.name in _TAKES_KEYS else ""
        return f"{program()} {self.name} --help lists the options{also}."


def _describe_plugins(like: Any, *, with_keys: bool) -> Iterator[Any]:
    """Yields rows of the help about the plug-ins of this process, and the installed ones.

    Args:
        like: Any option; the rows are copies of it.
        with_keys: Whether the command takes keys.
    """
    from rich.markup import escape

    def row(name: str, text: str) -> Any:
        made = copy.copy(like)
        made.opts, made.help, made.metavar, made.show_default = [name], escape(text), "", False
        made.rich_help_panel = "Plug-ins"
        return made

    for option, kind in _CHOOSING.items():
        own = entries(kind)
        for entry, plugin in ((entry, entry.plugin) for entry in own if entry.plugin is not None):
            summary = entry.summary and f"{entry.summary.rstrip('.')}. "
            yield row(f"{option} {entry.name}", f"{summary}From {plugin.package or plugin.label}.")
            yield from itertools.starmap(row, _describe_keys(entry) if with_keys else ())
        for name in (name for name in names(kind) if name not in {entry.name for entry in own}):
            package = package_of(installed_plugins()[f"{kind}.{name}"][0])
            keys = f" Its keys: {program()} train {option} {name} --help." if with_keys else ""
            yield row(f"{option} {name}", f"From the installed package {package}.{keys}")


def _describe_keys(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yields the keys that a plug-in adds or whose defaults it changes, each with its meaning."""
    from evoconn_cli.config.fields import walk
    from evoconn_cli.config.plugins import BASES
    from evoconn_cli.config.schema import CHOSEN_BY_NAME

    section = next(section for section, kind in CHOSEN_BY_NAME.items() if kind == entry.kind)
    config = entry.default_config()
    known = {f.name: f.default for f in dataclasses.fields(BASES[entry.kind])}
    for key, value, f in walk(config, f"{section}."):
        if f.name != "name" and (f.name not in known or known[f.name] != value):
            unit = f" [{f.metadata['unit']}]" if f.metadata["unit"] else ""
            yield key, f"{f.metadata['doc']}{unit} [default: {'null' if value is None else value}]"


class Group(TyperGroup):
    """A group that answers an unknown command with similar ones, or with all of them."""

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


_IN_A_HOME = re.compile(r"(--[a-z-]+=)?(~[^/=]*/.*)", re.DOTALL)


def expand_home(argument: str) -> str:
    """Returns an argument with `~/` or `~USER/` at the start of its path replaced by the home directory.

    Raises:
        ConfigError: The home directory is not known.
    """
    found = _IN_A_HOME.fullmatch(argument)
    if found is None:
        return argument
    path = os.path.expanduser(found[2])
    if path.startswith("~/"):
        raise ConfigError(f"{argument}: the home directory is not known. Set HOME, or write the whole path.")
    return f"{found[1] or ''}{path}"


def _whole_number(names: list[str], args: list[str]) -> str:
    """Returns a hint for `1e4` or `0x10` given to an option that takes whole numbers in digits."""
    numbers = [read_number(text) for text in _values_of(names, args) if not re.fullmatch(r"[-+]?[0-9]+", text)]
    whole = [number for number in numbers if number is not None and math.isfinite(number) and number == int(number)]
    return f": write {int(whole[0])}." if whole else ""


def _similar_choice(message: str) -> str:
    """Returns a hint if a message lists the choices of an option and one of them resembles the value given."""
    value, _, listed = message.partition(" is not one of ")
    near = near_names(value.strip("'"), {choice: choice for choice in re.findall(r"'([^']+)'", listed)})
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _values_of(names: list[str], args: Iterable[str]) -> Iterator[str]:
    """Yields the values given for an option."""
    for argument, following in pairwise([*args, ""]):
        name, equals, value = argument.partition("=")
        if name in names and (equals or following):
            yield value if equals else following


def _load_plugins(options: Iterable[str]) -> None:
    """Loads the plug-ins of EVOCONN_PLUGINS, and then those of --plugin."""
    if given := [*filter(None, os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep)), *options]:
        from evoconn_cli.config.plugins import load_plugins

        load_plugins(given)


def check_entries(entries: Iterable[str]) -> None:
    """Checks that all arguments of `train` are `KEY=VALUE`.

    Raises:
        ConfigError: One is a single word; the message names the option that it may be meant for.
    """
    for word in entries:
        if "=" not in word and (option := _option_for(word)):
            raise ConfigError(f"{word!r} is not KEY=VALUE. Did you mean {option}?")


def _option_for(word: str) -> str | None:
    """Returns the option of `train` that a single word may be meant for; None if none is likely."""
    options = {option: names(kind) for option, kind in _CHOOSING.items()}
    for option, known in {**options, "--config": preset_names()}.items():
        if (name := word.lower()) in known:
            return f"{option} {name}"
    path = Path(word)
    if path.suffix in (".yaml", ".yml"):
        return f"--config {word}"
    return f"{program()} resume {word}" if (path / "config.yaml").is_file() else None


def _keys_of(command: str | None) -> dict[str, str]:
    """Returns the keys that a command takes as `KEY=VALUE`, by their last parts."""
    if command == "evaluate":
        return {kind: f"--perturb {kind}" for kind in KINDS}
    keys = launch_keys() if command == "launch-grid" else run_keys() if command in _TAKES_KEYS else ()
    return {key.rpartition(".")[2]: key for key in reversed(list(keys))}
