"""Checks the dataclass of a plug-in's keys."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from evoconn_cli.errors import ConfigError

_TYPES = {bool: "bool", int: "int", float: "float", str: "str"}


def check_keys_of_plugin(config: Any, base: type, what: str) -> None:
    """Checks a dataclass of keys, and writes the types of its fields as those of `config/schema.py` are written.

    Args:
        config: The dataclass.
        base: Dataclass that it has to extend.
        what: What it belongs to, for messages.

    Raises:
        ConfigError: It is wrong.
    """
    where = f"{what}, config={getattr(config, '__name__', config)}"
    if config is base:
        return
    if not isinstance(config, type) or not issubclass(config, base):
        raise ConfigError(f"{where}: it must extend evoconn_cli.{base.__name__}, whose keys every run has.")
    if "__dataclass_fields__" not in vars(config):
        raise ConfigError(f"{where}: put @dataclasses.dataclass(frozen=True) above it.")
    try:
        hints = typing.get_type_hints(config)
    except (NameError, TypeError) as error:
        raise ConfigError(f"{where}: an annotation cannot be read: {error}.") from None
    known = {f.name: f for f in dataclasses.fields(base)}
    for f in dataclasses.fields(config):
        if f is not known.get(f.name):
            _check_field(f, hints[f.name], f"{where}, field {f.name}")
    _check_defaults(config, where)


def _check_field(field: dataclasses.Field, hint: Any, where: str) -> None:
    if field.name == "name":
        raise ConfigError(f"{where}: the name is given where it is registered. Leave the field out.")
    if "doc" not in field.metadata:
        raise ConfigError(
            f'{where}: write `{field.name}: float = evoconn_cli.option(1.0, "what it means", unit="kg")`, so that the '
            "key has a meaning and a range."
        )
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [part for part in parts if part is not types.NoneType]
    if len(kinds) != 1 or kinds[0] not in _TYPES:
        raise ConfigError(
            f"{where}: the type {field.type if isinstance(field.type, str) else hint!r} cannot be a key's. Use bool, "
            "int, float or str, or one of them with `| None`; choices=(...) lists the allowed names of a str."
        )
    kind, is_optional = kinds[0], len(parts) > 1
    default = field.default
    allowed = (int, float) if kind is float else (kind,)
    if not (default is None and is_optional) and type(default) not in allowed:
        raise ConfigError(f"{where}: the default {default!r} is no {_TYPES[kind]}.")
    field.type = _TYPES[kind] + " | None" * is_optional  # pyright: ignore[reportAttributeAccessIssue]


def _check_defaults(config: type, where: str) -> None:
    """Checks that the default values are allowed, as those of a run are."""
    from evoconn_cli.config.loading import check_values

    (name,) = (f for f in dataclasses.fields(config) if f.name == "name")
    try:
        check_values(config(name=name.metadata["choices"]()[0]))
    except ConfigError as error:
        raise ConfigError(f"{where}: the default {error}") from None
