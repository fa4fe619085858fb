"""The report of a grid: results over seeds as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from evoconn_cli import __version__
from evoconn_cli.config.grid import GridFile, Published
from evoconn_cli.errors import ConfigError, EvoconnError, RunDirectoryError, first_line
from evoconn_cli.grid import Note
from evoconn_cli.grid.cells import Cell, Grid
from evoconn_cli.grid.search_report import (
    draw_searches,
    markdown_table,
    rankings,
    search_document,
    search_lines,
    winner_presets,
)
from evoconn_cli.grid.states import State, read_lines, read_status
from evoconn_cli.grid.table import settings_text, varying_keys
from evoconn_cli.output import replace_text
from evoconn_cli.progress.formatting import MISSING_FIGURE, count, duration, fitness
from evoconn_cli.progress.history import FINAL_GENERATIONS, best_evaluation, final_fitness
from evoconn_cli.runs.directory import RunDirectory

if TYPE_CHECKING:
    from evoconn_cli.evaluation.statistics import Interval

_BOOTSTRAP_SEED = 0


class CellResult(NamedTuple):
    """The result of one cell so far."""

    cell: Cell
    state: State
    ended_by: str | None  # key with which it ended before its last generation
    failures: int
    generation: int
    final_fitness: float | None  # None if no generation has an evaluation fitness
    best_fitness: float | None
    env_steps: int
    hours: float

    def figures(self) -> dict[str, Any]:
        """Returns the result by the names of its columns in results.csv."""
        names = ("state", "ended_by", "generation", "final_fitness", "best_fitness", "env_steps", "hours")
        trial = {} if self.cell.trial is None else {"trial": self.cell.trial}
        return {**trial, **{name: getattr(self, name) for name in names}, "directory": self.cell.name}


class GroupResult(NamedTuple):
    """The results of all seeds of a set, task and setting so far."""

    results: list[CellResult]
    iqm: float | None
    interval: Interval | None  # None for fewer than two seeds
    published: float | None

    @property
    def cell(self) -> Cell:
        """The first cell of the group."""
        return self.results[0].cell

    @property
    def best(self) -> float | None:
        """The highest evaluation fitness of any seed in any generation."""
        return max((result.best_fitness for result in self.results if result.best_fitness is not None), default=None)

    @property
    def env_steps(self) -> float:
        """Mean environment steps per run that has begun."""
        return _mean([result.env_steps for result in self.results])

    @property
    def hours(self) -> float:
        """Mean training time per run that has begun [h]."""
        return _mean([result.hours for result in self.results])

    @property
    def num_finished(self) -> int:
        """Number of finished seeds."""
        return sum(result.state is State.FINISHED for result in self.results)


def read_results(cells: Sequence[Cell], published: Published | None) -> list[GroupResult]:
    """Returns the results of cells, one entry for every set, task and setting."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return [_group(group, published) for group in groups.values()]


def _group(cells: Sequence[Cell], published: Published | None) -> GroupResult:
    import numpy as np

    from evoconn_cli.evaluation.statistics import bootstrap_iqm, interquartile_mean

    results = [_result(cell) for cell in cells]
    finals = np.asarray([result.final_fitness for result in results if result.final_fitness is not None])
    known = len(finals) > 0
    return GroupResult(
        results,
        iqm=float(interquartile_mean(finals)) if known else None,
        interval=bootstrap_iqm([finals], _BOOTSTRAP_SEED) if known else None,
        published=published.find(cells[0].set_name, cells[0].task) if published else None,
    )


def _result(cell: Cell) -> CellResult:
    lines, status = read_lines(cell), read_status(cell)
    last = lines[-1] if lines else {}
    best = best_evaluation(lines)
    return CellResult(
        cell,
        status.state,
        status.ended_by,
        status.failures,
        generation=int(last.get("generation") or 0),
        final_fitness=final_fitness(lines),
        best_fitness=best[0] if best else None,
        env_steps=int(last.get("env_steps") or 0),
        hours=(last.get("elapsed") or 0.0) / 3600,
    )


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are not 0."""
    return fmean([value for value in values if value] or [0.0])


CURVES = "learning-curves"
"""Name of the files of the plot, without suffix."""

_MOST_GROUPS = 7
"""Settings per task that a plot can tell apart."""

_COST_COLUMNS = 2
"""Last columns of the table: steps and time per run."""


def write_report(grid: Grid, console: Console, notice: Note) -> list[Path]:
    """Prints the results of a grid, writes the report into its directory, and returns the files.

    Args:
        grid: Grid with some results.
        console: Console of the table.
        notice: Shows the user a non-fatal notice.

    Raises:
        EvoconnError: No cell has a generation yet, or a file cannot be written.
    """
    groups = read_results(grid.cells, grid.file.published)
    drawn = _best_of_each_task(groups)
    if not drawn:
        raise EvoconnError(
            f"there is nothing to report: no cell in {grid.directory} has an evaluation fitness yet. Run the grid "
            "first, or name its --grid-dir."
        )
    hidden = sum(group.iqm is not None for group in groups) - len(drawn)
    try:
        curves = _draw(grid, drawn, notice)
        figures = draw_searches(grid.search) if grid.search else {}
    except ModuleNotFoundError as error:
        notice(f"learning curves are not drawn: {first_line(error)}")
        curves, figures = [], {}
    note = f"Drawn are the {_MOST_GROUPS} best settings of each task, without {hidden} more." if hidden else ""
    tables = rankings(grid.search, groups) if grid.search else {grid.file.name: table_of(groups)}
    of_search = search_lines(grid.search, tables, figures) if grid.search else []
    texts = {
        "REPORT.md": to_markdown(grid.file, groups, note, of_search),
        "results.csv": to_csv(groups),
        "results.json": to_json(grid, groups),
    }
    if grid.search:
        texts |= winner_presets(grid.search)
    for name, text in texts.items():
        try:
            replace_text(grid.directory / name, text)
        except OSError as error:
            raise EvoconnError(f"cannot write {grid.directory / name}: {error.strerror}.") from None
    for title, (head, rows) in tables.items():
        console.print(_terminal_table(title, head, rows))
    return [*(grid.directory / name for name in texts), *curves, *figures.values()]


def _terminal_table(title: str, head: list[str], rows: list[list[str]]) -> Table:
    """Returns the table without the cost of the runs, for which a terminal has no room."""
    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=None, collapse_padding=True
    )
    for name in head[:-_COST_COLUMNS]:
        is_figure = name not in ("set", "task", "settings", "state")
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=name != "settings")
    for row in rows:
        table.add_row(*row[:-_COST_COLUMNS])
    return table


def _best_of_each_task(groups: Sequence[GroupResult]) -> list[GroupResult]:
    """Returns the groups to draw, in the order of the grid."""
    drawn = []
    for task in dict.fromkeys(group.cell.task for group in groups):
        here = [group for group in groups if group.cell.task == task and group.iqm is not None]
        drawn += sorted(here, key=lambda group: group.iqm or 0.0, reverse=True)[:_MOST_GROUPS]
    return [group for group in groups if group in drawn]


def _draw(grid: Grid, groups: Sequence[GroupResult], notice: Note) -> list[Path]:
    """Writes the learning curves as PNG and SVG, and returns the files."""
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.evaluation.curves import learning_figure, read_curve

    varying = varying_keys(grid.cells) - set(grid.file.search.space if grid.file.search else ())
    curves = []
    for cell in (result.cell for group in groups for result in group.results):
        trial = "" if cell.trial is None else f", trial {cell.trial}"
        name = f"{cell.set_name}{trial} {settings_text(cell.settings, varying)}".strip()
        if not RunDirectory(cell.path).metrics_file.exists():
            continue  # a seed that has not begun
        try:
            curves.append(read_curve(RunDirectory(cell.path), "env-steps", name))
        except (ConfigError, RunDirectoryError) as error:
            notice(f"{cell.name} is not drawn: {error}")
    if not curves:
        return []
    figure = learning_figure(curves, "env-steps")
    files = [grid.directory / f"{CURVES}{suffix}" for suffix in (".png", ".svg")]
    for file in files:
        save_figure(figure, file)
    return files


def table_of(groups: Sequence[GroupResult]) -> tuple[list[str], list[list[str]]]:
    """Returns the head and the rows of the table without empty columns."""
    varying = varying_keys([group.cell for group in groups])
    has_published = any(group.published is not None for group in groups)
    head = ["set", "task", *(["settings"] if varying else []), "seeds", "evaluation", "95 % interval"]
    head += [*(["published"] if has_published else []), "best", "steps per run", "time per run"]
    rows = []
    for group in groups:
        cell, interval = group.cell, group.interval
        between = f"{fitness(interval.low)} to {fitness(interval.high)}" if interval else MISSING_FIGURE
        row = [cell.set_name, cell.task, *([settings_text(cell.settings, varying)] if varying else [])]
        row += [f"{group.num_finished}/{len(group.results)}", fitness(group.iqm), between]
        row += [*([fitness(group.published)] if has_published else []), fitness(group.best)]
        rows.append([*row, count(group.env_steps), duration(3600 * group.hours)])
    return head, rows


def to_markdown(grid: GridFile, groups: Sequence[GroupResult], note: str, of_search: Sequence[str]) -> str:
    """Returns the text of REPORT.md; the lines of a search take the place of the table."""
    num_cells = sum(len(group.results) for group in groups)
    finished = sum(group.num_finished for group in groups)
    early = Counter(result.ended_by for group in groups for result in group.results if result.ended_by)
    by = f", before their last generation: {', '.join(f'{n} by {key}' for key, n in early.items())}" if early else ""
    lines = [
        f"# {grid.name}",
        "",
        f"{finished} of {num_cells} runs are finished{by}. evoconn {__version__}, {time.strftime('%Y-%m-%d %H:%M')}.",
        "",
        *(of_search or _results_table(groups)),
    ]
    if grid.published is not None:
        lines += ["", f"Published: {grid.published.source}."]
    lines += ["", f"![Learning curves]({CURVES}.png)", *(["", note] if note else [])]
    failed = [result for group in groups for result in group.results if result.state is State.FAILED]
    if failed:
        lines += ["", "## Failed", ""]
        lines += [f"- `{x.cell.name}`, failures: {count(x.failures)}; see its `log.txt`" for x in failed]
    return "\n".join(lines) + "\n"


def _results_table(groups: Sequence[GroupResult]) -> list[str]:
    """Returns the table of the results, and below it what its columns mean."""
    from evoconn_cli.evaluation.statistics import CONFIDENCE

    return [
        *markdown_table(*table_of(groups)),
        "",
        f"Evaluation: interquartile mean over seeds (the mean, if fewer than four) and its {CONFIDENCE:.0%} bootstrap "
        f"interval. A run counts with its mean evaluation fitness in its last {FINAL_GENERATIONS} generations so far. "
        "Seeds: number of finished ones. Best: highest evaluation fitness of any seed in any generation. Steps "
        "(environment steps that counted) and time (of training): means over the runs that have begun.",
    ]


def to_csv(groups: Sequence[GroupResult]) -> str:
    """Returns the text of results.csv: one line per run, one column per key of the settings."""
    keys = list(dict.fromkeys(key for group in groups for key, _ in group.cell.settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    results = [result for group in groups for result in group.results]
    writer.writerow(["set", "task", "id", "seed", *keys, *results[0].figures()])
    for result in results:
        cell, chosen = result.cell, dict(result.cell.settings)
        names = [cell.set_name, cell.task, cell.id, cell.seed]
        writer.writerow([*names, *(chosen.get(key) for key in keys), *result.figures().values()])
    return text.getvalue()


def to_json(grid: Grid, groups: Sequence[GroupResult]) -> str:
    """Returns the text of results.json: the groups, and the runs of each; null for unknown figures."""
    document: dict[str, Any] = {
        "evoconn": __version__,
        "grid": grid.file.name,
        "published": grid.file.published.source if grid.file.published else None,
        "groups": [_group_document(group) for group in groups],
    }
    if grid.search:
        document["searches"] = [search_document(search) for search in grid.search.searches]
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _group_document(group: GroupResult) -> dict[str, Any]:
    cell = group.cell
    return {
        "set": cell.set_name,
        "task": cell.task,
        "id": cell.id,
        "settings": dict(cell.settings),
        "finished": group.num_finished,
        "iqm": group.iqm,
        "iqm_interval": list(group.interval) if group.interval else None,
        "published": group.published,
        "best": group.best,
        "env_steps": group.env_steps,
        "hours": group.hours,
        "runs": [{"seed": result.cell.seed, **result.figures()} for result in group.results],
    }
