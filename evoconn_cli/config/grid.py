"""Reads and checks grid files."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evoconn_cli.config.launch import LaunchConfig, is_launch_text, read_launch, read_section
from evoconn_cli.config.reading import read_yaml
from evoconn_cli.config.registry import BRAX_V1_TASKS, TASKS, find_named, grid_dir, is_path
from evoconn_cli.config.schema import ALGOS, NETWORKS, is_text, option
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


KEYS = ("base", "sets", "tasks", "axes", "search", "seeds", "launch", "published")


@dataclass(frozen=True)
class Search:
    """Random samples of keys."""

    samples: int = option(10, "samples", low=1, high=100_000)
    seed: int = option(0, "the samples follow from it", low=0)
    draw: dict[str, Any] = option(dict, "for each key a list of values, or a range")


@dataclass(frozen=True)
class Published:
    """Final returns that others have published."""

    source: str
    returns: Mapping[str, Mapping[str, float]]  # set -> task -> return

    def find(self, set_name: str, task: str) -> float | None:
        """Returns what is published for a set and task, None where nothing is."""
        return self.returns.get(set_name, {}).get(task)


@dataclass(frozen=True)
class GridFile:
    """What a grid file says."""

    name: str
    base: str  # a preset or the path of a file
    sets: Mapping[str, Mapping[str, Any]]  # set -> key -> value
    tasks: tuple[str, ...]  # none: that of the base
    axes: Mapping[str, list[Any]]  # key -> values
    search: Search | None
    seeds: tuple[int, ...]
    launch: LaunchConfig
    published: Published | None


def read_grid(source: str, overrides: Sequence[str] = ()) -> GridFile:
    """Returns the checked content of a grid file.

    Args:
        source: name of a shipped grid, or path of a YAML file.
        overrides: `launch.KEY=VALUE` entries.

    Raises:
        ConfigError: an unknown grid, an unreadable file, an unknown key, a wrong type or value.
    """
    path = find_named(source, "grid", grid_dir())
    given = read_yaml(path, _is_grid_text)
    plain = OmegaConf.to_container(given, resolve=False)
    assert isinstance(plain, dict)
    for key in plain:
        if key not in KEYS:
            raise unknown_name(f"key of {path.name}:", str(key), KEYS)
    missing = [key for key in ("base", "seeds") if key not in plain]
    if missing:
        raise ConfigError(f"{path}: {', '.join(missing)} is missing. A grid has {', '.join(KEYS)}.")
    sets = section_of(plain["sets"], "sets") if "sets" in plain else {_only_set(path): None}
    return GridFile(
        name=path.stem,
        base=_find_base(plain["base"], path),
        sets={check_name(name, "sets"): values_of(keys, f"sets.{name}") for name, keys in sets.items()},
        tasks=tuple(list_of(plain["tasks"], "tasks")) if "tasks" in plain else (),
        axes={key: list_of(values, f"axes.{key}") for key, values in flat_keys(plain.get("axes"), "axes").items()},
        search=_read_search(given.get("search")),
        seeds=tuple(whole_numbers_of(plain["seeds"], "seeds")),
        launch=read_launch(given.get("launch"), overrides),
        published=_read_published(plain.get("published"), sets),
    )


def _is_grid_text(key: str) -> bool:
    """Returns whether the values of a key of a grid file are text: where they are in a run, or in `launch`."""
    if is_launch_text(key) or key in ("base", "tasks"):
        return True
    section, *names = key.split(".")
    # Names of sets and `search.draw` stand before the key of a run, and names may hold dots.
    places = {"axes": [0], "search": [1], "sets": range(1, len(names))}
    return any(is_text(".".join(names[place:])) for place in places.get(section, ()))


def _find_base(base: Any, grid: Path) -> str:
    """Returns the name of a preset as it is, and the path of a file as seen from the grid file."""
    if not isinstance(base, str):
        raise ConfigError(f"base: expected the name of a preset or the path of a file, got {base!r}.")
    return str(grid.parent / os.path.expanduser(base)) if is_path(base) else base


def _only_set(path: Path) -> str:
    """Returns the name of the one set of a grid without `sets`: that of its file."""
    return check_name(path.stem.replace("-", "_"), str(path))


def _read_search(given: Any) -> Search | None:
    if given is None:
        return None
    search = read_section(given, Search(), "search")
    draw = {key: choice_of(key, x, f"search.draw.{key}") for key, x in flat_keys(search.draw, "search.draw").items()}
    if not draw:
        raise ConfigError("search: `draw` is missing: for each key a list, or a range such as {low: 0.1, high: 1.0}.")
    return Search(search.samples, search.seed, draw)


def _read_published(given: Any, sets: Mapping[str, Any]) -> Published | None:
    if given is None:
        return None
    returns = section_of(given, "published")
    source = returns.pop("source", None)
    if not isinstance(source, str):
        raise ConfigError("published: `source` is missing: where the numbers are from.")
    for name, tasks in returns.items():
        if name not in sets:
            raise unknown_name("set in published:", name, sets)
        for task, value in section_of(tasks, f"published.{name}").items():
            if task not in TASKS:
                raise unknown_name(f"task in published.{name}:", task, TASKS, listed=BRAX_V1_TASKS)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigError(f"published.{name}.{task}: expected a number, got {value!r}.")
    return Published(source, returns)
