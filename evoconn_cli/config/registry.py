"""Names of tasks, networks, strategies, presets and grids."""

from __future__ import annotations

from pathlib import Path

from evoconn_cli.errors import ConfigError, unknown_name

BRAX_V1_TASKS = (
    "acrobot",
    "ant",
    "fetch",
    "grasp",
    "halfcheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "swimmer",
    "ur5e",
    "walker2d",
)
PROBE_TASKS = ("probe_bias", "probe_memory", "probe_nan", "probe_sign", "probe_steps")
TASKS = BRAX_V1_TASKS + PROBE_TASKS

PAIRS: dict[str, tuple[str, ...]] = {"ec": ("conn_snn",), "es": ("lstm", "gru", "mlp", "dense_snn")}
"""The networks that a strategy can search; the first one is its default, as in the published code."""

WANDB_MODES = ("auto", "online", "offline", "disabled")


def config_dir() -> Path:
    """Returns the folder of the presets: inside an installed package, or of a checkout."""
    installed = Path(__file__).parents[1] / "presets"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def grid_dir() -> Path:
    """Returns the folder of the grids."""
    return config_dir() / "grids"


def preset_names() -> list[str]:
    """Returns the names that `--config` knows, sorted."""
    return _names(config_dir())


def grid_names() -> list[str]:
    """Returns the grids that `launch-grid` knows, sorted."""
    return _names(grid_dir())


def find_named(source: str, kind: str, folder: Path) -> Path:
    """Returns the file of a name, or of a path.

    Args:
        source: a name of a file in `folder`, or a path.
        kind: what it is, for messages.
        folder: of the files that are shipped.

    Raises:
        ConfigError: it is a name, and none of them.
    """
    if is_path(source):
        return Path(source)
    names = _names(folder)
    if source not in names:
        error = unknown_name(kind, source, names)
        file = source if Path(source).suffix else f"{source}.yaml"
        raise ConfigError(f"{error} A file of your own is named by its path, such as ./{file}.")
    return folder / f"{source}.yaml"


def is_path(source: str) -> bool:
    """Returns whether `source` is the path of a file, not the name of one that is shipped."""
    return Path(source).suffix in (".yaml", ".yml") or "/" in source


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))
