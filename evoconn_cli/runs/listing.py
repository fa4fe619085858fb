"""Finds the runs below a directory, sums up what each of them is and how far, and knows which is the latest."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Container, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from evoconn_cli.config.numbers import read_number
from evoconn_cli.config.reading import peek
from evoconn_cli.config.registry import zoo_dir, zoo_names
from evoconn_cli.errors import ConfigError, EvoconnError, NoRunError, unknown_name
from evoconn_cli.runs.directory import RunDirectory, readable
from evoconn_cli.runs.ending import read_ending
from evoconn_cli.runs.lock import living_owner
from evoconn_cli.runs.metrics import Reached, read_reached

LATEST = "latest"
ZOO = "zoo:"
RUNS = Path("runs")

_DEPTH = 4
"""Levels below a directory at which runs are looked for; the cells of a grid in runs/ are at the third."""


class RunStatus(StrEnum):
    """What a run is doing, in the order of importance to the user."""

    RUNNING = "running"  # a process holds its lock
    DAMAGED = "damaged"  # its files cannot be read
    FAILED = "failed"  # its last process ended with an error
    STALE = "stale"  # its last process ended without a word: it was killed, or the machine stopped
    SAVED = "saved"  # it ended early and resumes from its latest checkpoint
    WAITING = "waiting"  # nothing is saved yet
    PRUNED = "pruned"  # a search has ended it
    FINISHED = "finished"


class RunSummary(NamedTuple):
    """What a run is, and how far."""

    path: Path
    status: RunStatus
    active: float  # when it was last written to, or started [s] since the epoch
    task: str = ""
    network: str = ""
    strategy: str = ""
    seed: int | None = None
    generations: int | None = None  # at which it ends
    reached: Reached = Reached()
    grid: Path | None = None  # directory of the grid that it is a cell of
    problem: str = ""  # why it is damaged


def find_runs(folder: Path) -> list[Path]:
    """Returns the run directories in and below `folder`, each once, or `folder` if it is one itself.

    Raises:
        RunDirectoryError: `folder` cannot be read.
    """
    with readable(folder):
        os.scandir(folder).close()
    return list(_runs_below(folder, _DEPTH, set()))


def _runs_below(folder: Path, depth: int, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yields the runs at most `depth` levels below `folder`, by name; what cannot be read is left out."""
    try:
        found = folder.stat()
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return
    place = found.st_dev, found.st_ino  # a directory may be linked to, even in a circle
    if place in seen:
        return
    seen.add(place)
    if is_run(folder, names):
        yield folder
    elif depth:
        for name in names:
            if not name.startswith(".") and os.path.isdir(folder / name):  # False for a link to itself
                yield from _runs_below(folder / name, depth - 1, seen)


def is_run(path: Path, names: Container[str]) -> bool:
    """Returns whether the directory `path`, which holds `names`, is a run, damaged or not."""
    if "run.json" in names or ("config.yaml" in names and "checkpoints" in names):
        return True
    if "config.yaml" not in names:
        return False
    try:
        return {"task.name", "algo.name", "network.name"} <= peek(path / "config.yaml").keys()
    except ConfigError:
        return False  # a file of another program


def summarize(path: Path) -> RunSummary:
    """Returns what the run at `path` is and how far; a run that cannot be read is damaged."""
    run = RunDirectory(path)
    active = last_active(path)
    try:
        config, facts = peek(run.config_file), run.read_facts()
        missing = [key for key in ("task.name", "algo.generations") if key not in config]
        if missing:
            raise ConfigError(f"{run.config_file} has no {' and no '.join(missing)}.")
        about = RunSummary(
            path,
            RunStatus.WAITING,
            active,
            config["task.name"],
            config.get("network.name", ""),
            config.get("algo.name", ""),
            _whole(config.get("seed")),
            _whole(config["algo.generations"]),
            read_reached(run.metrics_file),
            _grid_of(path, facts),
        )
        return about._replace(status=_status(run, about, facts))
    except EvoconnError as error:
        return RunSummary(path, RunStatus.DAMAGED, active, problem=str(error))


def last_active(path: Path) -> float:
    """Returns when a run was last written to by a training, or created [s] since the epoch."""
    return max(_changed(path / name) for name in ("metrics.jsonl", "run.json", "lock")) or _changed(path)


def _changed(path: Path) -> float:
    """Returns when a file was last changed [s] since the epoch; 0 if it is missing."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _whole(text: str | None) -> int | None:
    number = None if text is None else read_number(text)
    return number if isinstance(number, int) and abs(number) < 2**63 else None


def _grid_of(path: Path, facts: dict[str, Any]) -> Path | None:
    """Returns the directory of the grid that made a run; None if none did, or the run has been moved out of it."""
    origin = facts.get("grid")
    cell = origin.get("cell") if isinstance(origin, dict) else None
    parts = Path(cell).parts if isinstance(cell, str) else ()
    whole = path.absolute()
    is_in_it = 0 < len(parts) < len(whole.parts) and whole.parts[-len(parts) :] == parts
    return whole.parents[len(parts) - 1] if is_in_it else None


def _status(run: RunDirectory, about: RunSummary, facts: dict[str, Any]) -> RunStatus:
    if living_owner(run.lock_file) is not None:
        return RunStatus.RUNNING
    saved, told = run.last_saved_generation(), facts.get("status")
    is_done = about.generations is not None and saved >= about.generations
    if is_done or read_ending(facts, saved) is not None:
        return RunStatus.FINISHED
    if told == "running" or run.lock_file.exists():
        return RunStatus.STALE
    if told == "failed":
        return RunStatus.FAILED
    return RunStatus.SAVED if saved else RunStatus.WAITING


def named_run(path: Path) -> Path:
    """Returns `path`, or what it means: `latest` is the run under runs/ that was last trained or created.

    A file or directory called `latest` in the current directory comes first. `latest/checkpoints/40` is a part of the
    run, as of any other. `zoo:NAME` is a trained network that evoconn comes with, a bundle.

    Raises:
        ConfigError: The zoo has no network of that name.
        NoRunError: There is no run.
    """
    if str(path).startswith(ZOO) and not os.path.lexists(path):
        name = str(path).removeprefix(ZOO)
        if name not in zoo_names():
            raise unknown_name("network of the zoo", name, zoo_names())
        return zoo_dir() / name
    if path.parts[:1] != (LATEST,) or os.path.lexists(LATEST):
        return path
    return Path(_latest_run(), *path.parts[1:])


def _latest_run() -> Path:
    """Returns the run that was last active; cells of grids that no process has started yet do not count."""
    found = [] if not RUNS.is_dir() else find_runs(RUNS)
    for path in sorted(found, key=last_active, reverse=True):
        facts = {}
        with contextlib.suppress(EvoconnError):
            facts = RunDirectory(path).read_facts()
        if os.path.isfile(path / "config.yaml") and not ("grid" in facts and facts.get("status") == "created"):
            return path
    raise NoRunError(
        f"{LATEST} is the run under runs/ that was trained last, and there is none in {Path.cwd() / RUNS}. Start one "
        "with `evoconn train`, or name the directory of a run."
    )


def runs_named(path: Path) -> list[Path]:
    """Returns the runs that `path` names: those below a directory that is no run, such as a grid, otherwise itself.

    Raises:
        NoRunError: It is `latest`, and there is no run.
    """
    path = named_run(path)
    if not path.is_dir() or (path / "config.yaml").is_file():
        return [path]
    return find_runs(path) or [path]


def disk_use(path: Path, until: float | None = None) -> int | None:
    """Returns the disk space of all files in a directory [bytes]; None if it takes longer.

    Args:
        path: Directory of a run.
        until: Time of `time.monotonic` at which to give up; None to take any time.
    """
    size = 0
    for folder, folders, files in os.walk(path):
        if until is not None and time.monotonic() > until:
            return None
        for name in (*folders, *files):
            with contextlib.suppress(OSError):  # a checkpoint may be deleted meanwhile
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return size
