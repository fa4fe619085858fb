"""Grid files: their content, read and checked."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evoconn_cli.config.launch import LaunchConfig, is_launch_text, read_launch, read_section
from evoconn_cli.config.reading import read_yaml
from evoconn_cli.config.registry import find, find_named, grid_dir, is_path
from evoconn_cli.config.schema import fields_of, is_text, option
from evoconn_cli.errors import ConfigError, unknown_name

_DIGITS = 6
"""Significant digits of drawn numbers, so that they can be read and typed again."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole ones if both are."""

    low: float
    high: float
    scale: str = "linear"

    def draw(self, rng: random.Random) -> float | int:
        """Returns a number from the range, uniform in the number, or in its logarithm if the scale is log."""
        is_whole = isinstance(self.low, int) and isinstance(self.high, int)
        if self.scale == "log":
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        elif is_whole:
            return rng.randint(int(self.low), int(self.high))
        else:
            drawn = rng.uniform(self.low, self.high)
        return round(drawn) if is_whole else float(f"{drawn:.{_DIGITS}g}")


@dataclass(frozen=True)
class Search:
    """Random samples of keys."""

    samples: int = option(10, "samples", low=1, high=100_000)
    seed: int = option(0, "random seed of the samples", low=0)
    draw: dict[str, Any] = option(dict, "for each key a list of values, or a range")


@dataclass(frozen=True)
class Published:
    """Final returns that others have published."""

    source: str
    returns: Mapping[str, Mapping[str, float]]  # set -> task -> return

    def find(self, set_name: str, task: str) -> float | None:
        """Returns the published return for a set and task; None if there is none."""
        return self.returns.get(set_name, {}).get(task)


@dataclass(frozen=True)
class GridFile:
    """The content of a grid file."""

    name: str
    base: str  # a preset, or the path of a file
    sets: Mapping[str, Mapping[str, Any]]  # set -> key -> value
    tasks: tuple[str, ...]  # empty for the task of the base
    axes: Mapping[str, list[Any]]  # key -> values
    search: Search | None
    seeds: tuple[int, ...]
    launch: LaunchConfig
    published: Published | None


_KEYS = tuple(f.name for f in dataclasses.fields(GridFile) if f.name != "name")


def read_grid(source: str, overrides: Sequence[str] = ()) -> GridFile:
    """Returns the checked content of a grid file.

    Args:
        source: Name of a shipped grid, or path of a YAML file.
        overrides: Entries `launch.KEY=VALUE`.

    Raises:
        ConfigError: The grid or a key is unknown, the file cannot be read, or a value is wrong.
    """
    path = find_named(source, "grid", grid_dir())
    given = read_yaml(path, _is_grid_text)
    plain = OmegaConf.to_container(given, resolve=False)
    assert isinstance(plain, dict)
    for key in plain:
        if key not in _KEYS:
            raise unknown_name(f"key of {path.name}:", str(key), _KEYS)
    missing = [key for key in ("base", "seeds") if key not in plain]
    if missing:
        raise ConfigError(f"{path}: {', '.join(missing)} is missing. A grid has {', '.join(_KEYS)}.")
    # A grid without `sets` has one, named after the file.
    sets = _read_section(plain["sets"], "sets") if "sets" in plain else {path.stem.replace("-", "_"): None}
    return GridFile(
        name=path.stem,
        base=_read_base(plain["base"], path),
        sets={name: _read_set(name, keys, "sets" if "sets" in plain else str(path)) for name, keys in sets.items()},
        tasks=tuple(_read_list(plain["tasks"], "tasks")) if "tasks" in plain else (),
        axes={key: _read_list(values, f"axes.{key}") for key, values in _flat_keys(plain.get("axes"), "axes").items()},
        search=_read_search(given.get("search")),
        seeds=tuple(_read_seeds(plain["seeds"])),
        launch=read_launch(given.get("launch"), overrides),
        published=_read_published(plain.get("published"), sets),
    )


def _is_grid_text(key: str) -> bool:
    """Returns whether the values of a key of a grid file are text, as they are in a run or in `launch`."""
    if is_launch_text(key) or key in ("base", "tasks"):
        return True
    section, *names = key.split(".")
    # Names of sets and `search.draw` precede the key of a run, and names may contain dots.
    places = {"axes": [0], "search": [1], "sets": range(1, len(names))}
    return any(is_text(".".join(names[place:])) for place in places.get(section, ()))


def _read_base(base: Any, grid: Path) -> str:
    """Returns the name of a preset, or the path of a file, which is relative to the grid file."""
    if not isinstance(base, str):
        raise ConfigError(f"base: expected the name of a preset or the path of a file, got {base!r}.")
    return str(grid.parent / os.path.expanduser(base)) if is_path(base) else base


_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+]*")


def _read_set(name: str, given: Any, where: str) -> dict[str, Any]:
    """Returns `{full key: value}` of a set."""
    if not _SET_NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} names directories: use letters, digits, '_', '.' and '+', without '-'.")
    keys = _flat_keys(given, f"sets.{name}")
    for key, value in keys.items():
        _check_plain(value, f"sets.{name}.{key}")
    return keys


def _read_seeds(given: Any) -> list[int]:
    for value in _read_list(given, "seeds"):
        if type(value) is not int:
            hint = f": write {int(value)}" if isinstance(value, float) and value.is_integer() else ""
            raise ConfigError(f"seeds: {value!r} is not a whole number{hint}.")
    return given


def _read_search(given: Any) -> Search | None:
    if given is None:
        return None
    search = read_section(given, Search(), "search")
    draw = {key: _read_choice(key, x) for key, x in _flat_keys(search.draw, "search.draw").items()}
    if not draw:
        raise ConfigError("search: `draw` is missing: for each key a list, or a range such as {low: 0.1, high: 1.0}.")
    return Search(search.samples, search.seed, draw)


_SCALES = ("linear", "log")


def _read_choice(key: str, given: Any) -> list[Any] | Range:
    """Returns the values that a key is drawn from: a list, or a range such as `{low: 1e-4, high: 0.1, scale: log}`."""
    where = f"search.draw.{key}"
    if not isinstance(given, dict):
        return _read_list(given, where)
    for name in given:
        if name not in ("low", "high", "scale"):
            raise unknown_name(f"key of {where}:", str(name), ("low", "high", "scale"))
    low, high, scale = given.get("low", math.nan), given.get("high", math.nan), given.get("scale", "linear")
    if not _is_number(low) or not _is_number(high):
        raise ConfigError(f"{where}: a range needs the numbers `low` and `high`, got {given!r}.")
    if scale not in _SCALES:
        raise unknown_name(f"value of {where}.scale:", str(scale), _SCALES)
    if low >= high or (scale == "log" and low <= 0):
        raise ConfigError(f"{where}: low={low} must be less than high={high}{', and more than 0' * (scale == 'log')}.")
    return Range(float(low), float(high), scale) if _takes_fractions(key) else Range(low, high, scale)


def _takes_fractions(key: str) -> bool:
    """Returns whether a key of a run is a number that need not be whole, even if both bounds are."""
    return any("float" in str(f.type) for f in fields_of(key))


def _read_published(given: Any, sets: Mapping[str, Any]) -> Published | None:
    if given is None:
        return None
    returns = _read_section(given, "published")
    source = returns.pop("source", None)
    if not isinstance(source, str):
        raise ConfigError("published: `source` is missing: where the numbers are from.")
    for name, tasks in returns.items():
        if name not in sets:
            raise unknown_name("set in published:", name, sets)
        for task, value in _read_section(tasks, f"published.{name}").items():
            find("task", task, f"task in published.{name}:")
            if not _is_number(value):
                raise ConfigError(f"published.{name}.{task}: expected a number, got {value!r}.")
    return Published(source, returns)


def _read_section(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{where}: expected a section with `key: value` lines, got {given!r}.")
    return {str(key): value for key, value in given.items()}


def _read_list(given: Any, where: str) -> list[Any]:
    """Returns a list of distinct plain values."""
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: expected a list such as [a, b], got {given!r}.")
    for value in given:
        _check_plain(value, where)
        if given.count(value) > 1:
            raise ConfigError(f"{where}: {value!r} is given twice.")
    return given


def _flat_keys(given: Any, where: str) -> dict[str, Any]:
    """Returns `{full key: value}` of a section with keys such as `algo.eps: 1` or nested ones; ranges stay whole."""
    flat: dict[str, Any] = {}
    for key, value in ({} if given in (None, {}) else _read_section(given, where)).items():
        is_section = isinstance(value, dict) and not {"low", "high"} & value.keys()
        nested = _flat_keys(value, f"{where}.{key}") if is_section else {}
        for full_key, x in {f"{key}.{k}": x for k, x in nested.items()}.items() if is_section else [(key, value)]:
            if full_key in flat:
                raise ConfigError(f"{where}: {full_key} is given twice.")
            flat[full_key] = x
    return flat


def _check_plain(value: Any, where: str) -> None:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ConfigError(f"{where}: {value!r} is not a plain value.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
