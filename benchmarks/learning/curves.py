"""Learning curves of runs: read from run and grid directories, thinned, and kept as small JSON files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from evoconn_cli.config.fields import walk
from evoconn_cli.config.schema import RunConfig, what_seeds_share
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.output import replace_text
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import MetricsLine, read_metrics

EVERY = 10
"""Generations between two points of a curve; a point has the means over as many generations."""

_AT_THE_END = ("generation", "env_steps", "elapsed")
_MEANS = ("eval_fitness", "fitness_mean", "entropy")
COLUMNS = (*_AT_THE_END, *_MEANS)
"""Columns of a curve, as in metrics.jsonl."""

_DIGITS = 6
"""Significant digits of kept means."""


class Curve(NamedTuple):
    """The learning curve of one run."""

    task: str
    method: str
    seed: int
    settings: dict[str, Any]  # keys that shape the run, other than task and seed, unless they have their defaults
    origin: dict[str, str | None]  # commit and devices of the run
    points: dict[str, list[Any]]  # `COLUMNS`, without generations that have no evaluation; all of the same length

    @property
    def env_steps(self) -> float:
        """Environment steps of the run so far."""
        return self.points["env_steps"][-1] if self.points["env_steps"] else 0


def thin(lines: Sequence[MetricsLine]) -> dict[str, list[Any]]:
    """Returns the points of a curve: one at every tenth generation, and one at the last.

    A point has the generation, environment steps and training time [s] at its end, and the means over the last ten
    generations up to it. Generations without an evaluation fitness do not count.

    Args:
        lines: Lines of metrics.jsonl in order.
    """
    known = [line for line in lines if all(line.get(key) is not None for key in (*_AT_THE_END, "eval_fitness"))]
    ends = {int(line["generation"] or 0) // EVERY * EVERY for line in known} - {0}
    ends |= {int(line["generation"] or 0) for line in known[-1:]}
    points: dict[str, list[Any]] = {key: [] for key in COLUMNS}
    for end in sorted(ends):
        window = [line for line in known if end - EVERY < (line["generation"] or 0) <= end]
        if not window:
            continue
        last = window[-1]
        points["generation"].append(last["generation"])
        points["env_steps"].append(last["env_steps"])
        points["elapsed"].append(round(float(last["elapsed"] or 0), 3))
        for key in _MEANS:
            values = [value for line in window if (value := line.get(key)) is not None]
            points[key].append(float(f"{fmean(values):.{_DIGITS}g}") if values else None)
    return points


def read_source(source: str) -> list[Curve]:
    """Returns the curves of a run directory, a grid directory or a file that `write_curves` wrote.

    Args:
        source: The path, or LABEL=PATH. The label is the method of a run, and precedes the methods of several.

    Raises:
        EvoconnError: There are no runs, or a file cannot be read.
    """
    label, path = ("", Path(source)) if Path(source).exists() else _split(source)
    if path.is_file():
        curves = _read_file(path)
    elif (path / "config.yaml").is_file():
        curve = read_run(path)
        return [curve._replace(method=label or curve.method)]
    else:
        curves = [read_run(file.parent) for file in sorted(path.glob("*/seed*/config.yaml"))]
    if not curves:
        raise ConfigError(f"{path} has no runs. Name a run directory, a grid directory, or a file of kept curves.")
    return [curve._replace(method=f"{label} {curve.method}".strip()) for curve in curves]


def _split(source: str) -> tuple[str, Path]:
    label, _, path = source.partition("=")
    if not path:
        raise ConfigError(f"there is no {source}. Name a run directory, a grid directory, or a file of kept curves.")
    return label, Path(path)


def read_run(path: Path) -> Curve:
    """Returns the curve of a run; it has no points if the run has no generation yet.

    The method of a cell is its set and settings; that of another run is the name of its directory.

    Raises:
        EvoconnError: Its configuration or metrics cannot be read.
    """
    run = RunDirectory(path)
    config, facts = run.read_config(), run.read_facts()
    grid = facts.get("grid")
    method = run.path.name
    if isinstance(grid, dict):
        values = [f"{key.rpartition('.')[2]}={value}" for key, value in grid.get("settings", {}).items()]
        method = " ".join([str(grid.get("cell")).partition("-")[0], *values])
    return Curve(
        task=config.task.name,
        method=method,
        seed=config.seed,
        settings=_settings(config),
        origin={"commit": facts.get("git_commit"), "devices": facts.get("devices")},
        points=thin(read_metrics(run.metrics_file)),
    )


def _settings(config: RunConfig) -> dict[str, Any]:
    """Returns the keys that seeds share and that do not have their defaults, and the names."""
    shared = what_seeds_share(config)
    return {
        key: value
        for key, value, field in walk(config)
        if key in shared and (value != field.default or key.endswith(".name"))
    }


def together(curves: Sequence[Curve]) -> list[Curve]:
    """Returns the curves, each run once.

    Raises:
        ConfigError: Two curves of a task and method have different settings, or the same seed but different points.
    """
    runs: dict[tuple[str, str, int], Curve] = {}
    settings: dict[tuple[str, str], dict[str, Any]] = {}
    remedy = "Tell them apart: LABEL=SOURCE puts a label before the methods of a source."
    for curve in curves:
        name, first = f"{curve.task}, {curve.method}", settings.setdefault((curve.task, curve.method), curve.settings)
        if differing := sorted(key for key in {*first, *curve.settings} if first.get(key) != curve.settings.get(key)):
            raise ConfigError(f"{name}: its runs differ in {', '.join(differing[:3])}. {remedy}")
        same = runs.setdefault((curve.task, curve.method, curve.seed), curve)
        if same.points != curve.points:
            raise ConfigError(f"{name}: there are two different runs with seed {curve.seed}. {remedy}")
    return list(runs.values())


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """Writes curves as JSON, one per line.

    Raises:
        EvoconnError: The file cannot be written.
    """
    lines = [json.dumps(curve._asdict(), allow_nan=False) for curve in curves]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, "[\n" + ",\n".join(lines) + "\n]\n")
    except OSError as error:
        raise EvoconnError(f"cannot write {path}: {error.strerror}.") from None


def _read_file(path: Path) -> list[Curve]:
    try:
        curves = [Curve(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
        complete = all(len({len(curve.points[key]) for key in COLUMNS}) == 1 for curve in curves)
        finite = all(math.isfinite(x) for curve in curves for x in curve.points["eval_fitness"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is not a file of kept curves: {error}.") from None
    if not complete or not finite:
        raise ConfigError(f"{path} is not a file of kept curves: a column is incomplete.")
    return curves
