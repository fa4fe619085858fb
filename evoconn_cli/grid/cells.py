"""The cells of a grid: every set on every task, with every combination of axes, and with every seed."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from omegaconf import OmegaConf

from evoconn_cli.config.fields import walk
from evoconn_cli.config.grid import GridFile, read_grid
from evoconn_cli.config.loading import check_values, load_config
from evoconn_cli.config.reading import read_base
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.config.search import Range
from evoconn_cli.errors import ConfigError, RunDirectoryError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.ending import ENDING_KEYS

if TYPE_CHECKING:
    from evoconn_cli.grid.search import GridSearch

Settings: TypeAlias = tuple[tuple[str, Any], ...]
"""Keys and values of one point of the axes, or of a trial of a search."""

_NO_PART = ("seed", "engine.devices", "engine.kernel", "checkpoint.", "tracking.")
"""Keys, or prefixes of keys, that are not part of a cell's id: they do not shape what the run computes."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        set_name: Name of its set of overrides.
        task: Name of the task.
        settings: Values chosen by the axes and by the search.
        id: Hash of the configuration without the seed.
        seed: Random seed of the run.
        config: Resolved configuration of the run.
        path: Run directory.
        trial: Number of the first trial of a search that has it; None without a search.
    """

    set_name: str
    task: str
    settings: Settings
    id: str
    seed: int
    config: RunConfig
    path: Path
    trial: int | None = None

    @property
    def group(self) -> str:
        """Name that all seeds of this cell share; their directory in the grid."""
        return f"{self.set_name}-{self.task}-{self.id}"

    @property
    def name(self) -> str:
        """Name of this cell; its directory in the grid."""
        return f"{self.group}/seed{self.seed}"


class Point(NamedTuple):
    """A set on a task, with one combination of the axes."""

    set_name: str
    task: str
    settings: Settings


class Grid(NamedTuple):
    """A grid file, the directory of its cells, and the cells; those of a search appear over time."""

    file: GridFile
    directory: Path
    cells: list[Cell]
    search: GridSearch | None = None

    @property
    def title(self) -> str:
        """The heading of its tables."""
        return f"{self.file.name} in {self.directory}{f': {self.search.summary}' if self.search else ''}"


def open_grid(source: str, directory: Path | None, overrides: Sequence[str] = ()) -> Grid:
    """Returns a grid; nothing is written.

    Args:
        source: Name of a shipped grid, or path of a YAML file.
        directory: Directory of the grid; runs/NAME by default.
        overrides: Entries `launch.KEY=VALUE` and `search.KEY=VALUE`.

    Raises:
        ConfigError: The file or one of its cells is invalid.
        GridError: The trials of its search cannot be read.
    """
    file = read_grid(source, overrides)
    directory = directory or Path("runs") / file.name
    cells = expand(file, directory)
    if file.search is None:
        return Grid(file, directory, cells)
    from evoconn_cli.grid.search import GridSearch

    search = GridSearch(file, file.search, directory)
    return Grid(file, directory, search.cells, search)


def expand(grid: GridFile, directory: Path) -> list[Cell]:
    """Returns the cells of a grid, each once; none of a search, whose space is only checked.

    Args:
        grid: The grid file.
        directory: Directory of the grid.

    Raises:
        ConfigError: Two parts of the grid set the same key, a key does not distinguish cells, or the configuration of
            a cell is wrong.
    """
    _check_keys(grid)
    cells: dict[Path, Cell] = {}
    for point in points(grid):
        if grid.search is not None:
            _check_space(grid, grid.search.space, point, directory)
            continue
        for cell in cells_at(grid, point, directory):
            if cells.setdefault(cell.path, cell).config != cell.config:
                raise ConfigError(
                    f"two different cells have the id {cell.id}: move one of their settings into its own set."
                )
    return list(cells.values())


def points(grid: GridFile) -> Iterator[Point]:
    """Yields every set, on its own task or on every task, with every combination of the axes."""
    for set_name, keys in grid.sets.items():
        tasks = (keys["task.name"],) if "task.name" in keys else grid.tasks or (_task_of_base(grid),)
        for task, *values in itertools.product(tasks, *grid.axes.values()):
            yield Point(set_name, task, tuple(zip(grid.axes, values, strict=True)))


def cells_at(
    grid: GridFile, point: Point, directory: Path, *, values: Settings = (), trial: int | None = None
) -> list[Cell]:
    """Returns the cells of all seeds at a point.

    Args:
        grid: The grid file.
        point: Set, task and combination of the axes.
        directory: Directory of the grid.
        values: Values that a search has chosen.
        trial: Number of its trial.

    Raises:
        ConfigError: The configuration is wrong.
    """
    config = load_point(grid, point, values)
    id, settings, cells = cell_id(config), (*point.settings, *values), []
    group = f"{point.set_name}-{point.task}-{id}"
    for seed in grid.seeds:
        given = config.tracking
        name = f"seed{seed}" if trial is None else f"trial{trial}-seed{seed}"
        own = group if trial is None else search_group(grid, point)
        tracking = dataclasses.replace(given, group=given.group or own, name=given.name or name)
        seeded = dataclasses.replace(config, seed=seed, tracking=tracking)
        check_values(seeded)
        path = directory / group / f"seed{seed}"
        cells.append(Cell(point.set_name, point.task, settings, id, seed, seeded, path, trial))
    return cells


def search_group(grid: GridFile, point: Point) -> str:
    """Returns the name that all trials of a search share in W&B."""
    axes = "".join(f"-{key.rpartition('.')[2]}={value}" for key, value in point.settings)
    return f"{grid.name}-{point.set_name}-{point.task}{axes}"


def load_point(grid: GridFile, point: Point, values: Settings = ()) -> RunConfig:
    """Returns the configuration at a point without its seed.

    Raises:
        ConfigError: It is wrong.
    """
    set_name, task = point.set_name, point.task
    varied = [f"{key.rpartition('.')[2]}={value}" for key, value in point.settings if len(grid.axes[key]) > 1]
    tags = [grid.name, set_name, task, *(tag for tag in varied if "," not in tag)]
    given = {"tracking.tags": ",".join(tags), **grid.sets[set_name]}
    given |= {**dict(point.settings), **dict(values), "task.name": task}
    try:
        return load_config(
            grid.base, [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()]
        )
    except ConfigError as error:
        raise ConfigError(f"set {set_name}, task {task}: {error}") from None


def _check_space(grid: GridFile, space: Mapping[str, list[Any] | Range], point: Point, directory: Path) -> None:
    """Checks every value of the lists of a space, and both ends of its ranges.

    Raises:
        ConfigError: A key is unknown, or a value is not allowed.
    """
    ends = {key: [x.low, x.high] if isinstance(x, Range) else x for key, x in space.items()}
    first = {key: values[0] for key, values in ends.items()}
    for key, values in ends.items():
        for value in values:
            cells_at(grid, point, directory, values=tuple({**first, key: value}.items()))


def shapes_a_run(key: str) -> bool:
    """Returns whether a key is part of a cell's id."""
    return not key.startswith(_NO_PART)


def cell_id(config: RunConfig, without: Container[str] = ()) -> str:
    """Returns the hash of a configuration without its seed and the keys that do not shape a run.

    Default values are left out, so options that later versions add do not change it.

    Args:
        config: Configuration of the cell.
        without: Other keys to leave out.
    """
    chosen = {
        key: value
        for key, value, f in walk(config)
        if shapes_a_run(key) and key not in without and (value != f.default or key.endswith(".name"))
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
        origin |= {} if cell.trial is None else {"trial": cell.trial}
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
    """Refuses keys that belong in `seeds` or `tasks`, that two parts set, or that do not distinguish cells.

    A set may have a task of its own.
    """
    if grid.tasks and all("task.name" in keys for keys in grid.sets.values()):
        raise ConfigError("tasks: no set uses them, because each has a task of its own. Leave one or the other out.")
    parts = {f"sets.{name}": keys for name, keys in grid.sets.items()}
    parts |= {"axes": grid.axes, "search.space": grid.search.space if grid.search else {}}
    for part, keys in parts.items():
        for key, place in {"seed": "seeds", "task.name": "tasks"}.items():
            if key in keys and not (key == "task.name" and part.startswith("sets.")):
                raise ConfigError(f"{part}: list the values of {key} in `{place}`.")
        for other in ("axes", "search.space"):
            if part != other and (both := sorted(keys.keys() & parts[other].keys())):
                raise ConfigError(f"{part} and {other} both set {both[0]}. Set it in one of them.")
    several = {f"axes.{key}": key for key, values in grid.axes.items() if len(values) > 1}
    several |= {f"search.space.{key}": key for key in parts["search.space"]}
    for name, key in several.items():
        if not shapes_a_run(key):
            raise ConfigError(
                f"{name}: this key is not part of a cell's id, so several values would share a directory. Set one "
                "value, and use another grid file or --grid-dir for another one."
            )


def _task_of_base(grid: GridFile) -> str:
    task = OmegaConf.select(read_base(grid.base), "task.name")
    if not isinstance(task, str):
        raise ConfigError(f"the base {grid.base} has no task: list some in `tasks`, such as tasks: [hopper].")
    return task
