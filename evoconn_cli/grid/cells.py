"""The cells of a grid: every set on every task, with every combination of axes and samples, with every seed."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from omegaconf import OmegaConf

from evoconn_cli.config.grid import GridFile, Range, Search, read_grid
from evoconn_cli.config.loading import check_values, load_config
from evoconn_cli.config.reading import read_yaml
from evoconn_cli.config.registry import config_dir, find_named
from evoconn_cli.config.schema import RunConfig, walk
from evoconn_cli.errors import ConfigError, RunDirectoryError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.ending import ENDING_KEYS

Settings: TypeAlias = tuple[tuple[str, Any], ...]
"""Keys and values of one point of the axes and samples."""

_NO_PART = ("seed", "engine.devices", "engine.kernel", "checkpoint.", "tracking.")
"""Keys, or prefixes of keys, that are not part of a cell's id: they do not shape what the run computes."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        set_name: Name of its set of overrides.
        task: Name of the task.
        settings: Values chosen by axes and samples.
        id: Hash of the configuration without the seed.
        seed: Random seed of the run.
        config: Resolved configuration of the run.
        path: Run directory.
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
        """Name that all seeds of this cell share; their directory in the grid."""
        return f"{self.set_name}-{self.task}-{self.id}"

    @property
    def name(self) -> str:
        """Name of this cell; its directory in the grid."""
        return f"{self.group}/seed{self.seed}"


class Grid(NamedTuple):
    """A grid file, the directory of its cells, and the cells."""

    file: GridFile
    directory: Path
    cells: list[Cell]

    @property
    def title(self) -> str:
        """The heading of its tables."""
        return f"{self.file.name} in {self.directory}"


def open_grid(source: str, directory: Path | None, overrides: Sequence[str] = ()) -> Grid:
    """Returns a grid; nothing is written.

    Args:
        source: Name of a shipped grid, or path of a YAML file.
        directory: Directory of the grid; runs/NAME by default.
        overrides: Entries `launch.KEY=VALUE`.

    Raises:
        ConfigError: The file or one of its cells is invalid.
    """
    file = read_grid(source, overrides)
    directory = directory or Path("runs") / file.name
    return Grid(file, directory, expand(file, directory))


def expand(grid: GridFile, directory: Path) -> list[Cell]:
    """Returns the cells of a grid, each once.

    Args:
        grid: The grid file.
        directory: Directory of the grid.

    Raises:
        ConfigError: Two parts of the grid set the same key, a key does not distinguish cells, or the configuration of
            a cell is wrong.
    """
    _check_keys(grid)
    cells: dict[Path, Cell] = {}
    for (set_name, overrides), task in itertools.product(grid.sets.items(), grid.tasks or (_task_of_base(grid),)):
        for settings in _points(grid):
            chosen = {**overrides, **dict(settings), "task.name": task}
            config = _load(grid, set_name, chosen)
            for cell in _seeds(config, grid.seeds, set_name=set_name, settings=settings, directory=directory):
                if cells.setdefault(cell.path, cell).config != cell.config:
                    raise ConfigError(
                        f"two different cells have the id {cell.id}: move one of their settings into its own set."
                    )
    return list(cells.values())


def cell_id(config: RunConfig) -> str:
    """Returns the hash of a configuration without its seed and the keys that do not shape a run.

    Default values are left out, so options that later versions add do not change it.
    """
    chosen = {
        key: value
        for key, value, f in walk(config)
        if not key.startswith(_NO_PART) and (value != f.default or key.endswith(".name"))
    }
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]


def prepare(cell: Cell, grid_name: str) -> None:
    """Makes the run directory of a cell unless it exists.

    Raises:
        RunDirectoryError: The directory cannot be written, or holds another run.
    """
    run = RunDirectory(cell.path)
    if not run.config_file.exists():
        origin = {"name": grid_name, "cell": cell.name, "settings": dict(cell.settings)}
        facts = {"status": "created", "wandb_id": None, "resumed": [], "grid": origin}
        RunDirectory.create(cell.path, cell.config, facts)
    elif differ := _differing_keys(cell, run.read_config()):
        raise RunDirectoryError(
            f"{cell.path} holds another run than the grid asks for: {', '.join(differ[:3])} differ. Its config.yaml "
            "was changed, or a version with other defaults made it. Move it away, or name another --grid-dir."
        )


def _differing_keys(cell: Cell, config: RunConfig) -> list[str]:
    """Returns the keys in which a run differs from what the cell asks for.

    The block counts only if the cell sets it. More generations than the cell asks for do not differ, nor do the keys
    with which a run ends by itself: a cell may have been resumed with others.
    """
    has = {key: value for key, value, _ in walk(config)}
    return [
        key
        for key, value, _ in walk(cell.config)
        if (key == "seed" or not key.startswith((*_NO_PART, *ENDING_KEYS)))
        and has.get(key) != value
        and not (key == "engine.block" and value is None)
        and not (key == "algo.generations" and config.algo.generations > value)
    ]


def _check_keys(grid: GridFile) -> None:
    """Refuses keys that belong in `seeds` or `tasks`, that two parts set, or that do not distinguish cells."""
    parts = {f"sets.{name}": keys for name, keys in grid.sets.items()}
    parts |= {"axes": grid.axes, "search.draw": grid.search.draw if grid.search else {}}
    for part, keys in parts.items():
        for key, place in {"seed": "seeds", "task.name": "tasks"}.items():
            if key in keys:
                raise ConfigError(f"{part}: list the values of {key} in `{place}`.")
        for other in ("axes", "search.draw"):
            if part != other and (both := sorted(keys.keys() & parts[other].keys())):
                raise ConfigError(f"{part} and {other} both set {both[0]}. Set it in one of them.")
    several = {f"axes.{key}": key for key, values in grid.axes.items() if len(values) > 1}
    several |= {f"search.draw.{key}": key for key in parts["search.draw"]}
    for name, key in several.items():
        if key.startswith(_NO_PART):
            raise ConfigError(
                f"{name}: this key is not part of a cell's id, so several values would share a directory. Set one "
                "value, and use another grid file or --grid-dir for another one."
            )


def _points(grid: GridFile) -> Iterator[Settings]:
    samples = list(_samples(grid.search)) if grid.search else [()]
    for values in itertools.product(*grid.axes.values()):
        for sample in samples:
            yield (*zip(grid.axes, values, strict=True), *sample)


def _samples(search: Search) -> Iterator[Settings]:
    """Yields the samples; each depends on its number and the random seed only, so more samples keep the first ones."""
    for number in range(search.samples):
        yield tuple((key, _draw(choice, f"{search.seed} {number} {key}")) for key, choice in search.draw.items())


def _draw(choice: list[Any] | Range, seed: str) -> Any:
    rng = random.Random(seed)
    return choice.draw(rng) if isinstance(choice, Range) else rng.choice(choice)


def _task_of_base(grid: GridFile) -> str:
    task = OmegaConf.select(read_yaml(find_named(grid.base, "preset", config_dir())), "task.name")
    if not isinstance(task, str):
        raise ConfigError(f"the base {grid.base} has no task: list some in `tasks`, such as tasks: [hopper].")
    return task


def _load(grid: GridFile, set_name: str, chosen: dict[str, Any]) -> RunConfig:
    task = chosen["task.name"]
    given = {"tracking.tags": f"{grid.name},{set_name},{task}", **chosen}
    try:
        return load_config(
            grid.base, [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()]
        )
    except ConfigError as error:
        raise ConfigError(f"set {set_name}, task {task}: {error}") from None


def _seeds(
    config: RunConfig, seeds: Sequence[int], *, set_name: str, settings: Settings, directory: Path
) -> Iterator[Cell]:
    """Yields one cell per seed."""
    id, task, given = cell_id(config), config.task.name, config.tracking
    group = f"{set_name}-{task}-{id}"
    for seed in seeds:
        tracking = dataclasses.replace(given, group=given.group or group, name=given.name or f"seed{seed}")
        seeded = dataclasses.replace(config, seed=seed, tracking=tracking)
        check_values(seeded)
        yield Cell(set_name, task, settings, id, seed, seeded, directory / group / f"seed{seed}")
