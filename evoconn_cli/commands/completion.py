"""What the shell offers when TAB is pressed: names of tasks, strategies, networks, presets, and runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evoconn_cli.config.names import BRAX_V1_TASKS, PAIRS


def complete_task(incomplete: str) -> list[str]:
    """Returns the tasks that start with `incomplete`."""
    return [name for name in BRAX_V1_TASKS if name.startswith(incomplete)]


def complete_algo(incomplete: str) -> list[str]:
    """Returns the strategies that start with `incomplete`."""
    return [name for name in PAIRS if name.startswith(incomplete)]


def complete_network(incomplete: str) -> list[tuple[str, str]]:
    """Returns the networks that start with `incomplete`, each with the strategy that searches it."""
    pairs = [(network, f"for {algo}") for algo, networks in PAIRS.items() for network in networks]
    return [pair for pair in pairs if pair[0].startswith(incomplete)]


def complete_preset(incomplete: str) -> list[str]:
    """Returns the presets that start with `incomplete`; where there are none the shell offers files."""
    from evoconn_cli.config.loading import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def complete_format(incomplete: str) -> list[tuple[str, str]]:
    """Returns the export formats that start with what follows the last comma, each with what it is."""
    from evoconn_cli.export.formats import FORMATS

    before, comma, start = incomplete.rpartition(",")
    return [(f"{before}{comma}{name}", one.summary) for name, one in FORMATS.items() if name.startswith(start)]


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
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file()
