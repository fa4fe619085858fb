"""Checking what stands in a YAML file against the dataclass it is for: names of keys, choices, ranges."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evoconn_cli.config.float32 import as_float32, float32_problem
from evoconn_cli.config.names import BRAX_V1_TASKS
from evoconn_cli.config.schema import walk
from evoconn_cli.config.text_values import read_number
from evoconn_cli.errors import ConfigError, first_line, near_names, unknown_name

Section = TypeVar("Section")

_MOST = 2**31 - 1
"""Largest whole number of a key that has no bound of its own: JAX counts in 32 bits."""


def check_keys(
    given: DictConfig,
    defaults: Any,
    prefix: str = "",
    every: Sequence[str] = (),
    others: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Checks that `defaults`, a dataclass, has every key that is given.

    Args:
        given: what stands in the file.
        defaults: an instance of the dataclass it is for.
        prefix: of the keys, such as `launch.`.
        every: keys elsewhere that may be meant.
        others: keys that only something else has, and what that is, in words.

    Raises:
        ConfigError: an unknown key, with the nearest one, or a value where a section is expected.
    """
    known = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    for key in given:
        full_key = f"{prefix}{key}"
        if key not in known:
            if full_key in others:
                raise ConfigError(f"unknown key {full_key!r}: {others[full_key]}.")
            if "." in str(key):
                section, *rest = str(key).split(".")
                raise ConfigError(
                    f"unknown key {full_key!r}: in a file a dot makes no section. Write {section}: "
                    f"{'{'}{': {'.join(rest)}: ...{'}' * len(rest)}."
                )
            names = [*(f"{prefix}{name}" for name in known), *every]
            near = near_names(str(key), {name.rpartition(".")[2]: name for name in reversed(names)})
            near = near or difflib.get_close_matches(full_key, names, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known here: {', '.join(known)}."
            raise ConfigError(f"unknown key {full_key!r}.{hint}")
        if dataclasses.is_dataclass(known[key]) or isinstance(known[key], dict):
            child = given._get_node(key)
            if not isinstance(child, DictConfig) or child._is_none():
                raise ConfigError(f"{full_key}: expected a section with keys, got {given.get(key)!r}.")
            if dataclasses.is_dataclass(known[key]):
                check_keys(child, known[key], f"{full_key}.", every, others)


def fill(defaults: Section, given: DictConfig, prefix: str = "") -> Section:
    """Returns the dataclass `defaults` with the values that are given in place of its own.

    Args:
        defaults: an instance.
        given: keys that `check_keys` has checked.
        prefix: of the keys, for messages.

    Raises:
        ConfigError: a value of another type.
    """
    _check_numbers(given, defaults, prefix)
    try:
        filled: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(defaults), given))
    except OmegaConfBaseException as error:
        problem = first_line(error)
        key = getattr(error, "full_key", None)
        if "is not Optional" in problem or "Incompatible value 'None'" in problem:
            problem = "must not be null"
        elif "is not a valid bool" in problem:
            raise ConfigError(f"{prefix}{key}={OmegaConf.select(given, key or '')}: must be true or false.") from None
        raise ConfigError(f"{prefix}{key or '?'}: {problem}.") from None
    return filled


def _check_numbers(given: DictConfig, defaults: Any, prefix: str) -> None:
    """Refuses what OmegaConf would take for a number, such as `1_000` or Arabic digits, and whole numbers as `1e4`."""
    for key, default, f in walk(defaults):
        kind = str(f.type).removesuffix(" | None")
        value = OmegaConf.select(given, key) if kind in ("int", "float") else None
        number = read_number(value) if isinstance(value, str) else value
        if isinstance(value, str) and number is None and value.lower() not in ("nan", "inf", "-inf"):
            form, example = ("a whole number", 1000) if kind == "int" else ("a number", "0.1 or 1e-3")
            raise ConfigError(
                f"{prefix}{key}={value}: must be {form}, such as {example if default is None else default}."
            )
        if kind == "int" and isinstance(number, float):
            hint = f": write {int(number)}" if number.is_integer() else ""
            raise ConfigError(f"{prefix}{key}={value}: must be a whole number{hint}.")
        if kind == "float" and isinstance(number, int) and abs(number) > sys.float_info.max:
            raise ConfigError(f"{prefix}{key}: must be a finite number.")


def check_values(config: Any, prefix: str = "") -> None:
    """Checks the choices and ranges that the fields of a dataclass carry.

    Args:
        config: an instance of it.
        prefix: of the keys, for messages.

    Raises:
        ConfigError: the first value that is not allowed.
    """
    for key, value, f in walk(config, prefix):
        allowed = f.metadata
        if value is None or not allowed:
            continue
        if allowed["choices"] and value not in allowed["choices"]:
            if key == "task.name":
                raise unknown_name("task", value, allowed["choices"], listed=BRAX_V1_TASKS)
            raise unknown_name(f"value of {key}:", value, allowed["choices"])
        if isinstance(value, float) and (problem := float32_problem(value)):
            raise ConfigError(f"{key}={value}: {problem}.")
        if isinstance(value, (int, float)):
            _check_range(key, value, allowed)
        if isinstance(value, int) and value > _MOST and allowed["high"] == math.inf:
            raise ConfigError(f"{key}={value}: must be at most {_MOST}.")


def _check_range(key: str, value: float, allowed: Any) -> None:
    """Checks a number, and a float as well as what is computed with."""
    held = as_float32(value) if isinstance(value, float) else value
    bounds = (
        (lambda x: x >= allowed["low"], f"at least {allowed['low']}"),
        (lambda x: x <= allowed["high"], f"at most {allowed['high']}"),
        (lambda x: x > allowed["above"], f"more than {allowed['above']}"),
        (lambda x: x < allowed["below"], f"less than {allowed['below']}"),
    )
    for holds, text in bounds:
        if not holds(value):
            raise ConfigError(f"{key}={value}: must be {text}.")
        if not holds(held):
            raise ConfigError(f"{key}={value}: must be {text}, and is {held} in float32, which is computed with.")
