"""From a path that a user names to the run directory that it belongs to."""

from __future__ import annotations

from pathlib import Path

from evoconn_cli.errors import NoRunError, RunDirectoryError
from evoconn_cli.export.bundle.reading import is_bundle
from evoconn_cli.runs.directory import readable, where_runs_are


def locate(path: Path) -> tuple[Path, int | None]:
    """Returns the run directory that `path` belongs to, and the generation where it names one.

    Raises:
        NoRunError: it exists and is not part of a run.
        RunDirectoryError: it does not exist, or may not be looked at.
    """
    with readable(path):
        whole = path.absolute()
        step = int(whole.name) if whole.name.isdecimal() and whole.parent.name == "checkpoints" else None
        checkpoints = whole if step is None else whole.parent
        if checkpoints.name == "checkpoints" and (checkpoints.parent / "config.yaml").is_file():
            return checkpoints.parent, step
        if not whole.exists():
            raise RunDirectoryError(f"no run at {path}: there is no such file or directory. {where_runs_are(path)}")
        if is_bundle(whole):
            raise NoRunError(f"{path} is an exported bundle, which has no training. Name the run that it comes from.")
        if not (whole / "config.yaml").is_file():
            if runs := _runs_below(whole):
                raise NoRunError(f"{path} is not a run, but holds runs. Name those: {path / runs}")
            owner = next((parent for parent in whole.parents if (parent / "config.yaml").is_file()), None)
            hint = (
                f"It is inside the run {owner}: name that, its checkpoints directory, or one step in there."
                if owner and (owner / "checkpoints").is_dir()
                else "Name a directory that `evoconn train` made, its checkpoints directory, or one step in there; "
                "the run's config.yaml says how to read its checkpoints, so keep them together."
            )
            raise NoRunError(f"{path} is not a run or a checkpoint of evoconn. {hint}")
        return whole, None


def _runs_below(folder: Path) -> str:
    """Returns the pattern of the runs in a folder, such as that of a grid; empty if it holds none."""
    return next((below for below in ("*", "*/*") if any(folder.glob(f"{below}/run.json"))), "")
