"""The report of a search: its trials by rank, importance of keys, figures, and the winner as a preset."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from omegaconf import OmegaConf

from evoconn_cli import __version__
from evoconn_cli.config.fields import walk
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.grid.cells import load_point
from evoconn_cli.grid.search import GridSearch, PointSearch
from evoconn_cli.grid.states import State
from evoconn_cli.progress.formatting import count, duration, fitness

if TYPE_CHECKING:
    from evoconn_cli.grid.report import GroupResult
    from evoconn_cli.search.study import Trial

TextTable: TypeAlias = tuple[list[str], list[list[str]]]
"""Head and rows of a table."""

_BEST = " (best)"
"""Mark of the winner in the column `rank`."""


def rankings(search: GridSearch, groups: Sequence[GroupResult]) -> dict[str, TextTable]:
    """Returns head and rows of the table of the trials of each search by its name, the best trial first.

    Args:
        search: Searches of a grid.
        groups: Results of its cells.
    """
    by_name = {group.cell.group: group for group in groups}
    return {name_of(one): _ranking(one, by_name) for one in search.searches}


def _ranking(search: PointSearch, groups: Mapping[str, GroupResult]) -> TextTable:
    """Returns the table of a search; trials that repeat earlier ones are left out."""
    keys = list(dict.fromkeys(key for trial in search.trials for key in trial.values))
    head = ["rank", "trial", *(key.rpartition(".")[2] for key in keys), "state", "evaluation"]
    head += ["steps per run", "time per run"]
    rows: list[list[str]] = []
    seen: set[str | None] = set()
    ordered = sorted(search.trials, key=lambda trial: (not trial.is_complete, not trial.is_pruned, -_value(trial)))
    for trial in ordered:
        cells = search.cells[trial.number]
        group = cells[0].group if cells else None
        if group is not None and group in seen:
            continue
        seen.add(group)
        result = groups.get(group or "")
        rank = f"{len(rows) + 1}{_BEST if trial == search.best else ''}" if trial.is_complete else ""
        values = [_text(trial.values.get(key)) for key in keys]
        cost = [count(result.env_steps), duration(3600 * result.hours)] if result else ["", ""]
        rows.append([rank, str(trial.number), *values, _state(trial, result), fitness(trial.fitness), *cost])
    return head, rows


def search_lines(search: GridSearch, tables: Mapping[str, TextTable], figures: Mapping[str, Path]) -> list[str]:
    """Returns the lines of REPORT.md about the searches of a grid.

    Args:
        search: Searches of the grid.
        tables: Table of the trials of each search, as `rankings` returns them.
        figures: Figure of each search, by name of the search.
    """
    keys = search.keys
    lines = [
        f"Searched with {keys.sampler}, seed {keys.seed}, pruner {keys.pruner}, {keys.parallel} at a time: "
        f"{search.summary}. A trial counts with the mean over its seeds; a pruned one with the fitness that was "
        "compared last."
    ]
    for one in search.searches:
        name = name_of(one)
        lines += ["", f"## {name}", ""]
        if one.best is not None:
            lines += [f"The best is trial {one.best.number}, {fitness(one.best.fitness)}; its configuration:", ""]
            lines += ["```", f"evoconn train --config {winner_file(one)}", "```", ""]
        lines += markdown_table(*tables[name])
        repeated = len(one.trials) - len(tables[name][1])
        if repeated:
            lines += ["", f"{count(repeated)} trials had the values of earlier ones, and their result."]
        if importance := one.importance():
            lines += ["", *markdown_table(["key", "importance"], [[key, f"{x:.0%}"] for key, x in importance.items()])]
            lines += ["", "Importance: share in being among the best tenth of the complete trials (PED-ANOVA)."]
        if name in figures:
            lines += ["", f"![Trials and importance]({figures[name].name})"]
    return lines


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table."""
    first, *others = (f"| {' | '.join(row)} |" for row in (head, *rows))
    return [first, f"|{'---|' * len(head)}", *others]


def name_of(search: PointSearch) -> str:
    """Returns the name of a search: set, task and values of the axes."""
    values = "".join(f"-{key.rpartition('.')[2]}={_text(value)}" for key, value in search.point.settings)
    return f"{search.point.set_name}-{search.point.task}{values}"


def draw_searches(search: GridSearch) -> dict[str, Path]:
    """Writes the figure of each search that has a result as PNG and SVG; returns the PNG files by name of the search.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
    """
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.search.figure import search_figure

    files = {}
    for one in search.searches:
        name = name_of(one)
        if any(trial.fitness is not None for trial in one.trials):
            figure = search_figure(name, one.trials, one.importance())
            for suffix in (".svg", ".png"):
                files[name] = one.directory / f"search-{name}{suffix}"
                save_figure(figure, files[name])
    return files


def winner_file(search: PointSearch) -> Path:
    """Returns the file of the winner of a search."""
    return search.directory / f"best-{name_of(search)}.yaml"


def winner_presets(search: GridSearch) -> dict[str, str]:
    """Returns the text of a preset by name of its file, for each search with a complete trial."""
    known = [(one, one.best) for one in search.searches]
    return {winner_file(one).name: _preset(one, best) for one, best in known if best is not None}


def _preset(search: PointSearch, best: Trial) -> str:
    """Returns the configuration of the winner as a preset: the keys whose values are not the defaults."""
    config = load_point(search.file, search.point, tuple(best.values.items()))
    tracking = dataclasses.replace(config.tracking, tags="", group=None, name=None)
    seeds = ", ".join(map(str, search.file.seeds))
    return "\n".join(
        [
            f"# evoconn train --config {winner_file(search)}",
            "#",
            f"# Result: trial {best.number} of {len(search.trials)} of the search {search.file.name}, "
            f"{name_of(search)}:",
            f"# evaluation fitness {fitness(best.fitness)}, mean over seeds {seeds}. evoconn {__version__}, "
            f"{time.strftime('%Y-%m-%d')}.",
            f"# Searched: {', '.join(f'{key}={_text(value)}' for key, value in best.values.items())}.",
            OmegaConf.to_yaml(OmegaConf.create(_chosen(dataclasses.replace(config, tracking=tracking)))),
        ]
    )


def _chosen(config: RunConfig) -> dict[str, Any]:
    """Returns the keys of a configuration that are not the defaults, nested."""
    nested: dict[str, Any] = {}
    for key, value, f in walk(config):
        if value != f.default or key in ("task.name", "algo.name", "network.name"):
            section, _, name = key.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested


def search_document(search: PointSearch) -> dict[str, Any]:
    """Returns a search with its trials for results.json."""
    return {
        "set": search.point.set_name,
        "task": search.point.task,
        "settings": dict(search.point.settings),
        "best": search.best.number if search.best else None,
        "importance": search.importance(),
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "fitness": trial.fitness,
                "values": dict(trial.values),
                "reports": dict(trial.reports),
            }
            for trial in search.trials
        ],
    }


def _value(trial: Trial) -> float:
    return float("-inf") if trial.fitness is None else trial.fitness


def _state(trial: Trial, result: GroupResult | None) -> str:
    if not trial.is_open:
        return "finished" if trial.is_complete else "pruned" if trial.is_pruned else "failed"
    states = [one.state for one in result.results] if result else []
    return next((state.value for state in (State.FAILED, State.RUNNING, State.SAVED) if state in states), "waiting")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
