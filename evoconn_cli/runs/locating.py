"""From a path that a user names to the run directory that it belongs to."""

from __future__ import annotations

from pathlib import Path

from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ConfigError, RunDirectoryError
from evoconn_cli.export.bundle.reading import is_bundle
from evoconn_cli.runs.directory import RunDirectory


def locate(path: Path) -> tuple[Path, int | None]:
    """Returns the run directory that `path` belongs to, and the generation where it names one.

    Raises:
        RunDirectoryError: it is not part of a run.
    """
    whole = path.absolute()
    step = int(whole.name) if whole.name.isdecimal() and whole.parent.name == "checkpoints" else None
    checkpoints = whole if step is None else whole.parent
    if checkpoints.name == "checkpoints" and (checkpoints.parent / "config.yaml").is_file():
        return checkpoints.parent, step
    if not whole.exists():
        raise RunDirectoryError(f"no run at {path}: there is no such file or directory.")
    if is_bundle(whole):
        raise RunDirectoryError(
            f"{path} is an exported bundle, which has no training. Name the run that it comes from."
        )
    if not (whole / "config.yaml").is_file():
        owner = next((parent for parent in whole.parents if (parent / "config.yaml").is_file()), None)
        hint = (
            f"It is inside the run {owner}: name that, its checkpoints directory, or one step in there."
            if owner and (owner / "checkpoints").is_dir()
            else "Name a directory that `evoconn train` made, its checkpoints directory, or one step in there; "
            "the run's config.yaml says how to read its checkpoints, so keep them together."
        )
        raise RunDirectoryError(f"{path} is not a run or a checkpoint of evoconn. {hint}")
    return whole, None


def config_of(directory: RunDirectory) -> RunConfig:
    """Returns the configuration of a run.

    Raises:
        ConfigError: it was edited into nonsense, or is of something else; the message names the file.
    """
    try:
        return directory.read_config()
    except ConfigError as error:
        raise ConfigError(f"{directory.config_file} is not the configuration of a run: {error}") from None
