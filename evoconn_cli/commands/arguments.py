"""How all commands read their arguments: `~/` is the home directory, and numbers are those of the configuration."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from itertools import pairwise

import typer
from typer.core import TyperCommand

from evoconn_cli.config.text_values import read_number
from evoconn_cli.errors import ConfigError

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
