"""Where an export goes: looked at before the work starts, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.export.formats import Format
from evoconn_cli.export.source import ExportSource
from evoconn_cli.output import is_special, partial_path, place_problem, put_in_place


def check_target(target: Path, force: bool) -> None:
    """Checks that `target` can be written.

    Raises:
        ConfigError: it exists already, or its place cannot be written.
    """
    if os.path.exists(target) and not force and not is_special(target):
        raise ConfigError(f"{target} exists already. Name another --out, or replace it with --force.")
    if problem := place_problem(target):
        raise ConfigError(f"{target} cannot be written: {problem}. Name another --out.")


def write_whole(one: Format, source: ExportSource, target: Path, force: bool) -> list[Path]:
    """Writes a format to `target`, whole or not at all, and returns all files and directories that are there now.

    Args:
        one: the format.
        source: what is exported.
        target: a file, or a directory; with `force` the files in it that have the same names are replaced.
        force: whether what exists is replaced.

    Raises:
        MissingPackageError: a package that the format needs is missing.
        EvoconnError: it cannot be written, or exists.
    """
    writer = one.load_writer()
    target = target if target.name not in ("", "..") else target.resolve()
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial_path(folder / "export", directory=True) as partial:
            writer(source, partial / target.name)
            written = sorted(partial.iterdir())
            for entry in written:
                check_target(folder / entry.name, force)
            for entry in written:
                _move(entry, folder / entry.name)
    except OSError as error:
        raise EvoconnError(f"{target} cannot be written: {error.strerror or error}. Name another --out.") from None
    return [folder / entry.name for entry in written]


def _move(source: Path, target: Path) -> None:
    """Moves a file or directory; of a directory that exists, the files that have the same names are replaced."""
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _move(entry, target / entry.name)
    else:
        put_in_place(source, target)
