"""What the shell offers when TAB is pressed: names, and the directories of runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from evoconn_cli.config.names import PAIRS


def one_of(*names: str) -> Callable[[str], list[str]]:
    """Returns what offers those of `names` that start with what is typed; without any the shell offers files."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def list_of(meanings: Mapping[str, str]) -> Callable[[str], list[tuple[str, str]]]:
    """Returns what offers names for each part of a list with commas, each with what it means."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, start = incomplete.rpartition(",")
        return [(f"{before}{comma}{name}", what) for name, what in meanings.items() if name.startswith(start)]

    return complete


def complete_network(incomplete: str) -> list[tuple[str, str]]:
    """Returns the networks that start with `incomplete`, each with the strategy that searches it."""
    pairs = [(network, f"for {algo}") for algo, networks in PAIRS.items() for network in networks]
    return [pair for pair in pairs if pair[0].startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Returns the run directories whose path starts with `incomplete`, or that are in a directory that does.

    Where there are none the shell offers files.
    """
    folder, slash, start = incomplete.rpartition("/")
    return sorted(f"{folder}{slash}{path}" for path in _runs(Path(folder + slash), start))


def _runs(folder: Path, start: str) -> Iterator[str]:
    for path in _directories(folder):
        if path.name.startswith(start) and (start or not path.name.startswith(".")):
            if _is_run(path):
                yield path.name
            else:
                yield from (f"{path.name}/{run.name}" for run in _directories(path) if _is_run(run))


def _directories(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.expanduser().iterdir() if os.path.isdir(path)]
    except (OSError, RuntimeError):  # the latter for ~/ without a home directory
        return []


def _is_run(path: Path) -> bool:
    return os.path.isfile(path / "run.json")  # not so where it may not be looked at
