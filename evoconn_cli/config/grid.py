"""Grid files: many runs in one file, read and checked. `grid/cells.py` expands them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evoconn_cli.config.grid_values import (
    check_name,
    choice_of,
    flat_keys,
    list_of,
    section_of,
    values_of,
    whole_numbers_of,
)
from evoconn_cli.config.launch import LaunchConfig, is_launch_text, read_launch, read_section
from evoconn_cli.config.names import BRAX_V1_TASKS, TASKS
from evoconn_cli.config.reading import read_yaml
from evoconn_cli.config.schema import is_text, option
from evoconn_cli.config.shipped import find_named, grid_dir, is_path
from evoconn_cli.errors import ConfigError, unknown_name

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
