"""The cells of a grid: every set on every task, with every combination of axes and samples, with every seed."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from evoconn_cli.config.checking import check_values
from evoconn_cli.config.grid import GridFile, Search
from evoconn_cli.config.grid_values import Range
from evoconn_cli.config.loading import load_config
from evoconn_cli.config.schema import RunConfig, walk
from evoconn_cli.errors import ConfigError
from evoconn_cli.runs.training.deadline import parse_duration

Settings: TypeAlias = tuple[tuple[str, Any], ...]
"""Keys and values of one point of the axes and samples."""

_NO_PART = ("seed", "engine.devices", "engine.kernel", "checkpoint.", "tracking.")
"""Keys, or beginnings of keys, that are no part of a cell's id: they say how often, where and with which records."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        set_name: the set of overrides.
        task: name of the task.
        settings: what axes and samples have chosen.
        id: hash of the configuration without its seed.
        seed: of the run.
        config: of the run, resolved.
        path: its run directory.
    """

    set_name: str
    task: str
    settings: Settings
    id: str
    seed: int
    config: RunConfig
    path: Path

    @property
    def group(self) -> str:
        """The name that all seeds of this cell share, and their directory in the grid."""
        return f"{self.set_name}-{self.task}-{self.id}"

    @property
    def name(self) -> str:
        """The name of this cell, and its directory in the grid."""
        return f"{self.group}/seed{self.seed}"


def expand(grid: GridFile, directory: Path) -> list[Cell]:
    """Returns the cells of a grid, each once.

    Args:
        grid: the grid file.
        directory: of the grid.

    Raises:
        ConfigError: a key that two parts of the grid set, a time limit that cannot be read, or a cell whose
            configuration is wrong.
    """
    _check_keys(grid)
    if grid.launch.time_limit is not None:
        parse_duration(grid.launch.time_limit)
    tasks = grid.tasks or (load_config(grid.base).task.name,)
    cells: dict[Path, Cell] = {}
    for (set_name, overrides), task in itertools.product(grid.sets.items(), tasks):
        for settings in _points(grid):
            chosen = {**overrides, **dict(settings), "task.name": task}
            for cell in _seeds(grid, directory, set_name, settings, _load(grid, set_name, chosen)):
                cells.setdefault(cell.path, cell)
    return list(cells.values())


def cell_id(config: RunConfig) -> str:
    """Returns the hash of a configuration without its seed and without what does not shape a run.

    Values that are the default are left out, so an option that a later version adds leaves it as it is.
    """
    chosen = {
        key: value
        for key, value, f in walk(config)
        if not key.startswith(_NO_PART) and (value != f.default or key.endswith(".name"))
    }
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]


def differing_keys(cell: Cell, config: RunConfig) -> list[str]:
    """Returns the keys in which a run is not what the cell asks for; the block counts only where the cell sets it."""
    has = {key: value for key, value, _ in walk(config)}
    return [
        key
        for key, value, _ in walk(cell.config)
        if (key == "seed" or not key.startswith(_NO_PART))
        and has.get(key) != value
        and not (key == "engine.block" and value is None)
    ]


def _check_keys(grid: GridFile) -> None:
    """Refuses keys that have a place of their own in a grid, or that two of its parts set."""
    parts = {f"sets.{name}": keys for name, keys in grid.sets.items()}
    parts |= {"axes": grid.axes, "search.draw": grid.search.draw if grid.search else {}}
    for part, keys in parts.items():
        for key, place in {"seed": "seeds", "task.name": "tasks"}.items():
            if key in keys:
                raise ConfigError(f"{part}: list the values of {key} in `{place}`.")
        for other in ("axes", "search.draw"):
            if part != other and (both := sorted(keys.keys() & parts[other].keys())):
                raise ConfigError(f"{part} and {other} both set {both[0]}. Leave it to one of them.")


def _points(grid: GridFile) -> Iterator[Settings]:
    samples = list(_samples(grid.search)) if grid.search else [()]
    for values in itertools.product(*grid.axes.values()):
        for sample in samples:
            yield (*zip(grid.axes, values, strict=True), *sample)


def _samples(search: Search) -> Iterator[Settings]:
    """Yields the samples; each follows from its number, so that with more of them the first stay the same."""
    for number in range(search.samples):
        yield tuple((key, _draw(choice, f"{search.seed} {number} {key}")) for key, choice in search.draw.items())


def _draw(choice: list[Any] | Range, seed: str) -> Any:
    rng = random.Random(seed)
    return choice.draw(rng) if isinstance(choice, Range) else rng.choice(choice)


def _load(grid: GridFile, set_name: str, chosen: dict[str, Any]) -> RunConfig:
    task = chosen["task.name"]
    tracking = {"group": f"{set_name}-{task}", "tags": f"{grid.name},{set_name},{task}"}
    given = {**{f"tracking.{key}": value for key, value in tracking.items()}, **chosen}
    try:
        return load_config(grid.base, [f"{key}={json.dumps(value)}" for key, value in given.items()])
    except ConfigError as error:
        raise ConfigError(f"set {set_name}, task {task}: {error}") from None


def _seeds(grid: GridFile, directory: Path, set_name: str, settings: Settings, config: RunConfig) -> Iterator[Cell]:
    """Yields a cell for every seed."""
    id = cell_id(config)
    for seed in grid.seeds:
        tracking = dataclasses.replace(config.tracking, name=config.tracking.name or f"seed{seed}")
        seeded = dataclasses.replace(config, seed=seed, tracking=tracking)
        check_values(seeded)
        task = config.task.name
        path = directory / f"{set_name}-{task}-{id}" / f"seed{seed}"
        yield Cell(set_name, task, settings, id, seed, seeded, path)
