"""Grid files: their content, read and checked."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evoconn_cli.config.launch import LaunchConfig, is_launch_text, read_launch
from evoconn_cli.config.reading import read_yaml
from evoconn_cli.config.registry import find, find_named, grid_dir, is_path
from evoconn_cli.config.schema import is_text
from evoconn_cli.config.search import Search, check_plain, flat_keys, is_number, read_keys, read_list, read_search
from evoconn_cli.errors import ConfigError, unknown_name


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
        overrides: Entries `launch.KEY=VALUE` and `search.KEY=VALUE`.

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
    of_search = [entry for entry in overrides if entry.startswith("search.")]
    # A grid without `sets` has one, named after the file.
    sets = read_keys(plain["sets"], "sets") if "sets" in plain else {path.stem.replace("-", "_"): None}
    return GridFile(
        name=path.stem,
        base=_read_base(plain["base"], path),
        sets={name: _read_set(name, keys, "sets" if "sets" in plain else str(path)) for name, keys in sets.items()},
        tasks=tuple(read_list(plain["tasks"], "tasks")) if "tasks" in plain else (),
        axes={key: read_list(values, f"axes.{key}") for key, values in flat_keys(plain.get("axes"), "axes").items()},
        search=read_search(given.get("search"), of_search),
        seeds=tuple(_read_seeds(plain["seeds"])),
        launch=read_launch(given.get("launch"), [entry for entry in overrides if entry not in of_search]),
        published=_read_published(plain.get("published"), sets),
    )


def _is_grid_text(key: str) -> bool:
    """Returns whether the values of a key of a grid file are text, as they are in a run or in `launch`."""
    if is_launch_text(key) or key in ("base", "tasks"):
        return True
    section, *names = key.split(".")
    # Names of sets and `search.space` precede the key of a run, and names may contain dots.
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
    keys = flat_keys(given, f"sets.{name}")
    for key, value in keys.items():
        check_plain(value, f"sets.{name}.{key}")
    return keys


def _read_seeds(given: Any) -> list[int]:
    for value in read_list(given, "seeds"):
        if type(value) is not int:
            hint = f": write {int(value)}" if isinstance(value, float) and value.is_integer() else ""
            raise ConfigError(f"seeds: {value!r} is not a whole number{hint}.")
    return given


def _read_published(given: Any, sets: Mapping[str, Any]) -> Published | None:
    if given is None:
        return None
    returns = read_keys(given, "published")
    source = returns.pop("source", None)
    if not isinstance(source, str):
        raise ConfigError("published: `source` is missing: where the numbers are from.")
    for name, tasks in returns.items():
        if name not in sets:
            raise unknown_name("set in published:", name, sets)
        for task, value in read_keys(tasks, f"published.{name}").items():
            find("task", task, f"task in published.{name}:")
            if not is_number(value):
                raise ConfigError(f"published.{name}.{task}: expected a number, got {value!r}.")
    return Published(source, returns)
