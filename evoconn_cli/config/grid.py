"""Grid files: many runs in one, expanded to the configuration of every cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evoconn_cli.config.loading import config_dir, load_config
from evoconn_cli.config.reading import read_yaml
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ConfigError, unknown_name

_KEYS = ("base", "sets", "tasks", "seeds")


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    set_name: str
    task: str
    seed: int
    config: RunConfig


def load_grid(name: str) -> list[Cell]:
    """Returns the cells of the shipped grid `name`: every set on every task with every seed.

    A grid file has `base` (a preset), `sets` (named overrides), `tasks` and `seeds`.

    Raises:
        ConfigError: an unknown grid, a file without one of its keys or with another one, or a cell that is wrong.
    """
    known = sorted(path.stem for path in (config_dir() / "grids").glob("*.yaml"))
    if name not in known:
        raise unknown_name("grid", name, known)
    path = config_dir() / "grids" / f"{name}.yaml"
    grid = _plain(read_yaml(path))
    for key in grid:
        if key not in _KEYS:
            raise unknown_name(f"key of {path.name}:", key, _KEYS)
    missing = [key for key in _KEYS if key not in grid]
    if missing:
        raise ConfigError(f"{path}: {', '.join(missing)} is missing. A grid has {', '.join(_KEYS)}.")
    return [
        Cell(
            set_name,
            task,
            seed,
            load_config(
                grid["base"],
                [*(f"{key}={value}" for key, value in overrides.items()), f"task.name={task}", f"seed={seed}"],
            ),
        )
        for set_name, overrides in grid["sets"].items()
        for task in grid["tasks"]
        for seed in grid["seeds"]
    ]


def _plain(grid: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(grid, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
