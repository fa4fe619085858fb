"""What stands below the keys of a grid file: values of configuration keys, lists of them, and ranges to draw from."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evoconn_cli.config.schema import ALGOS, NETWORKS
from evoconn_cli.errors import ConfigError, unknown_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+]*")
_SCALES = ("linear", "log")
_DIGITS = 6
"""Drawn numbers are rounded to so many significant digits: they can be read, and typed again."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole ones where both are."""

    low: float
    high: float
    scale: str = "linear"

    def draw(self, rng: random.Random) -> float | int:
        """Returns a number between the two, each as likely as any other, or each magnitude where the scale is log."""
        if self.scale == "log":
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        elif isinstance(self.low, int) and isinstance(self.high, int):
            return rng.randint(self.low, self.high)
        else:
            drawn = rng.uniform(self.low, self.high)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return round(drawn)
        return float(f"{drawn:.{_DIGITS}g}")


def section_of(given: Any, where: str) -> dict[str, Any]:
    """Returns a mapping of a grid file.

    Raises:
        ConfigError: it is something else, or empty.
    """
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{where}: expected a section with `key: value` lines, got {given!r}.")
    return {str(key): value for key, value in given.items()}


def flat_keys(given: Any, where: str) -> dict[str, Any]:
    """Returns `{full key: value}` of a section in which keys are written `algo.eps: 1` or nested; ranges stay whole.

    Raises:
        ConfigError: it is not a section.
    """
    flat: dict[str, Any] = {}
    if given is None or given == {}:
        return flat
    for key, value in section_of(given, where).items():
        is_section = isinstance(value, dict) and not {"low", "high"} & value.keys()
        nested = flat_keys(value, f"{where}.{key}") if is_section else None
        for full_key, x in {key: value}.items() if nested is None else ((f"{key}.{k}", x) for k, x in nested.items()):
            if full_key in flat:
                raise ConfigError(f"{where}: {full_key} stands there twice.")
            flat[full_key] = x
    return flat


def values_of(given: Any, where: str) -> dict[str, Any]:
    """Returns `{full key: value}` of a section of plain values, as `flat_keys` does.

    Raises:
        ConfigError: it is not one.
    """
    flat = flat_keys(given, where)
    for key, value in flat.items():
        _check_plain(value, f"{where}.{key}")
    return flat


def check_name(name: Any, where: str) -> str:
    """Returns a name that directories can have.

    Raises:
        ConfigError: it has other characters.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} names directories: write letters, digits, '_', '.' and '+', without '-'.")
    return name


def list_of(given: Any, where: str) -> list[Any]:
    """Returns a list of plain values.

    Raises:
        ConfigError: it is something else, empty, or has a value twice.
    """
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: expected a list such as [a, b], got {given!r}.")
    for value in given:
        _check_plain(value, where)
        if given.count(value) > 1:
            raise ConfigError(f"{where}: {value!r} stands there twice.")
    return given


def whole_numbers_of(given: Any, where: str) -> list[int]:
    """Returns a list of whole numbers.

    Raises:
        ConfigError: it is something else, as for `list_of`.
    """
    for value in list_of(given, where):
        if type(value) is not int:
            hint = f": write {int(value)}" if isinstance(value, float) and value.is_integer() else ""
            raise ConfigError(f"{where}: {value!r} is not a whole number{hint}.")
    return given


def choice_of(key: str, given: Any, where: str) -> list[Any] | Range:
    """Returns what a key is drawn from: a list, or a range `{low: , high: , scale: log}`.

    Args:
        key: of the configuration; if it takes fractions, whole bounds do not make it whole.
        given: what stands in the file.
        where: it stands.

    Raises:
        ConfigError: it is neither, or a range without numbers in it.
    """
    if not isinstance(given, dict):
        return list_of(given, where)
    for name in given:
        if name not in ("low", "high", "scale"):
            raise unknown_name(f"key of {where}:", str(name), ("low", "high", "scale"))
    low, high, scale = given.get("low", math.nan), given.get("high", math.nan), given.get("scale", "linear")
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(f"{where}: a range needs the numbers `low` and `high`, got {given!r}.")
    if scale not in _SCALES:
        raise unknown_name(f"value of {where}.scale:", str(scale), _SCALES)
    if low >= high or (scale == "log" and low <= 0):
        raise ConfigError(f"{where}: low={low} must be less than high={high}{', and more than 0' * (scale == 'log')}.")
    return Range(float(low), float(high), scale) if _takes_fractions(key) else Range(low, high, scale)


def _check_plain(value: Any, where: str) -> None:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ConfigError(f"{where}: {value!r} is not a plain value.")


def _takes_fractions(key: str) -> bool:
    """Returns whether a key of the configuration is a number that need not be whole."""
    section, name = key.split(".")[0], key.rpartition(".")[2]
    families: dict[str, Iterable[type]] = {"algo": ALGOS.values(), "network": NETWORKS.values()}
    fields = (f for kind in families.get(section, ()) for f in dataclasses.fields(kind))
    return any(f.name == name and "float" in str(f.type) for f in fields)
