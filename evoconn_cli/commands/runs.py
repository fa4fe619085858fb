"""`evoconn runs`: the runs and grids below a directory."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import typer

from evoconn_cli import __version__
from evoconn_cli.commands.options import argument, option, takes
from evoconn_cli.commands.terminal import make_console
from evoconn_cli.errors import printable
from evoconn_cli.output import check_output, finite_json, whole_file
from evoconn_cli.progress.formatting import MISSING_FIGURE, count, encodable, fitness, say

if TYPE_CHECKING:
    from evoconn_cli.runs.listing import RunSummary

_MEASURING = 1.0
"""Time that sizes may take when nothing depends on them [s]; on a network disk they take long."""

_STYLES = {
    "running": "bold cyan",
    "damaged": "bold red",
    "failed": "bold red",
    "stale": "yellow",
    "saved": "yellow",
    "waiting": "dim",
    "pruned": "dim",
    "finished": "green",
}

_FIGURES = ("seed", "generation", "last", "best", "age", "size")
"""Columns with numbers, aligned to the right."""

_BY_IMPORTANCE = ("run", "status", "generation", "best", "age", "last", "size", "task", "network", "seed", "strategy")
"""Columns; a narrow terminal leaves the last ones out."""

_WIDEST_NAME = 0.4
"""Share of the width from which on a name is folded instead of leaving out columns."""

_Column: TypeAlias = tuple[str, Callable[["Line"], str]]
"""Name and text of a column."""

_PLURALS = {"task": "tasks", "strategy": "strategies", "network": "networks", "seed": "seeds"}

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclasses.dataclass(frozen=True)
class RunsOptions:
    """Arguments and options of `evoconn runs`."""

    folder: Annotated[Path, argument("DIR", "Directory to look in, four levels deep; a grid shows its cells.")] = Path(
        "runs"
    )
    sort: Annotated[
        Literal["name", "task", "strategy", "network", "generation", "last", "best", "status", "age", "size"],
        option("BY", "name, task, strategy, network, generation, last, best, status, age or size."),
    ] = "age"
    limit: Annotated[int | None, option("N", "Show the first N only.", min=1, default="all")] = None
    json: Annotated[str | None, option("FILE|-", "Write all runs as JSON; - prints them.")] = None


class Line(NamedTuple):
    """One line of the list: a run, or the runs of a grid."""

    name: str
    runs: Sequence[RunSummary]
    is_grid: bool
    size: int | None = None  # [bytes]

    @property
    def active(self) -> float:
        """When a run of it was last active [s] since the epoch."""
        return max(run.active for run in self.runs)

    @property
    def best(self) -> float | None:
        """Its highest evaluation fitness; None if its tasks, and so their returns, differ."""
        found = [run.reached.best for run in self.runs if run.reached.best is not None]
        return max(found, default=None) if len({run.task for run in self.runs}) == 1 else None

    @property
    def last(self) -> float | None:
        """The last evaluation fitness of a run."""
        return None if self.is_grid else self.runs[0].reached.evaluation

    @property
    def status(self) -> str:
        """The status of its runs that matters most."""
        return min((run.status for run in self.runs), key=list(_STYLES).index)

    def shared(self, key: str) -> str:
        """Returns the value that its runs have in common, otherwise how many there are, such as `6 tasks`."""
        values = {getattr(run, key) for run in self.runs} - {"", None}
        if not values:
            return MISSING_FIGURE
        return str(*values) if len(values) == 1 else f"{len(values)} {_PLURALS[key]}"

    def progress(self) -> str:
        """Returns how far it is, in generations, or finished cells of a grid."""
        if self.is_grid:
            return f"{sum(run.status == 'finished' for run in self.runs)}/{len(self.runs)} cells"
        run = self.runs[0]
        return MISSING_FIGURE if run.problem else f"{count(run.reached.generation)}/{count(run.generations)}"


@takes(RunsOptions)
def runs(options: RunsOptions) -> None:
    """List runs and grids: what they train, how far they are, whether they run, and their size.

    Status: running, finished, saved (it ended early), pruned (by a search),
    waiting (nothing is saved yet), failed, stale (its process was killed) or
    damaged.

    In other commands, latest is the run that was trained last.

    [bold]Examples[/bold]

      evoconn runs

      evoconn runs --sort best --limit 10

      evoconn runs runs/ec_brax --sort status

      evoconn runs --json runs.json
    """
    from evoconn_cli.runs.listing import RUNS, disk_use, find_runs, named_run, summarize

    if options.json not in (None, "-"):
        check_output(Path(options.json), "--json")
    folder = named_run(options.folder)
    found = [] if folder == RUNS and not folder.exists() else find_runs(folder)
    summaries = [_unless_pruned(summarize(path)) for path in found]

    def measured(line: Line, until: float | None) -> Line:
        sizes = [disk_use(run.path, until) for run in line.runs]
        known = [size for size in sizes if size is not None]
        return line._replace(size=sum(known) if len(known) == len(sizes) else None)

    if options.json is not None:
        _write_json(summaries, {path: disk_use(path) for path in found}, options.json)
        if options.json == "-":
            return
    lines = _lines(summaries, folder)
    if options.sort == "size":
        lines = [measured(line, None) for line in lines]
    lines = sorted(sorted(lines, key=_sort_key("age")), key=_sort_key(options.sort))
    shown = lines[: options.limit]
    if options.sort != "size":
        until = time.monotonic() + _MEASURING
        shown = [measured(line, until) for line in shown]
    _show(shown, len(lines) - len(shown), folder)
    if options.json is not None:
        say(make_console(), f"runs: {options.json}")


def _unless_pruned(run: RunSummary) -> RunSummary:
    """Returns a summary with the status of a run that a search has ended."""
    from evoconn_cli.grid.attempts import read_attempts
    from evoconn_cli.runs.listing import RunStatus

    is_pruned = run.grid is not None and run.status is RunStatus.SAVED and read_attempts(run.path).is_pruned
    return run._replace(status=RunStatus.PRUNED) if is_pruned else run


def _lines(summaries: Iterable[RunSummary], folder: Path) -> list[Line]:
    """Returns a line per run, and one per grid that is below `folder`."""
    whole, grouped = folder.absolute(), {}
    for run in summaries:
        inside = run.grid is not None and whole in run.grid.parents
        grouped.setdefault((run.grid if inside else run.path.absolute(), inside), []).append(run)
    return [
        Line(str(path.relative_to(whole)) if path != whole else str(folder), several, is_grid)
        for (path, is_grid), several in grouped.items()
    ]


def _sort_key(by: str) -> Callable[[Line], Any]:
    """Returns the key that sorts lines: names by the alphabet; the newest, largest and best first."""

    def largest(value: float | None) -> float:
        return float("inf") if value is None else -value

    keys: dict[str, Callable[[Line], Any]] = {
        "name": lambda line: line.name,
        "generation": lambda line: -max(run.reached.generation for run in line.runs),
        "last": lambda line: largest(line.last),
        "best": lambda line: largest(line.best),
        "status": lambda line: list(_STYLES).index(line.status),
        "age": lambda line: -line.active,
        "size": lambda line: largest(line.size),
    }
    return keys.get(by, lambda line: line.shared(by))


def _write_json(summaries: Sequence[RunSummary], sizes: Mapping[Path, int | None], target: str) -> None:
    """Writes the document that docs/training.md describes."""
    from evoconn_cli.runs.directory import RunDirectory

    def facts(run: RunSummary) -> dict[str, Any]:
        reached = run.reached
        return {
            "run": RunDirectory(run.path).short_path(),
            "grid": None if run.grid is None else RunDirectory(run.grid).short_path(),
            "task": run.task or None,
            "algo": run.strategy or None,
            "network": run.network or None,
            "run_seed": run.seed,
            "generation": reached.generation,
            "generations": run.generations,
            "last": reached.evaluation,
            "best": reached.best,
            "best_generation": reached.best_generation,
            "status": run.status,
            "problem": run.problem or None,
            "active": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(run.active)),
            "size": sizes[run.path],
        }

    newest = sorted(summaries, key=lambda run: -run.active)
    document = {"evoconn": __version__, "runs": [facts(run) for run in newest]}
    text = json.dumps(finite_json(document), indent=2, allow_nan=False) + "\n"
    if target == "-":
        typer.echo(text, nl=False)
        return
    with whole_file(Path(target)) as partial:
        partial.write_text(text, encoding="utf-8")


def _show(lines: Sequence[Line], hidden: int, folder: Path) -> None:
    """Prints the lines as a table, below it the number of runs in each status, and what is damaged."""
    from rich.table import Table
    from rich.text import Text

    console = make_console()
    if not lines:
        say(console, f"No runs in {printable(str(folder / '_'))[:-1]}. `evoconn train` makes them under runs/.")
        return

    def as_text(text: str, style: str = "") -> Text:
        return Text(encodable(text, ascii_only=console.options.ascii_only), style)

    title = Text(printable(str(folder)))
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    columns = _columns(lines, console.width)
    for name, _ in columns:
        table.add_column(name, justify="right" if name in _FIGURES else "left", no_wrap=name != "run", overflow="fold")
    for line in lines:
        style = _STYLES[line.status]
        table.add_row(*(as_text(text(line), style if name == "status" else "") for name, text in columns))
    console.print(table)
    console.print(as_text(_foot(lines, hidden), "dim"))
    for run in (run for line in lines for run in line.runs):
        if run.problem:
            say(console, f"damaged: {run.problem}")


def _columns(lines: Sequence[Line], width: int) -> list[_Column]:
    """Returns name and text of each column that fits into `width`, without the least important ones."""
    from rich.filesize import decimal

    now = time.time()
    columns: list[_Column] = [
        ("run", lambda line: printable(line.name)),
        ("task", lambda line: printable(line.shared("task"))),
        ("strategy", lambda line: printable(line.shared("strategy"))),
        ("network", lambda line: printable(line.shared("network"))),
        ("seed", lambda line: line.shared("seed")),
        ("generation", Line.progress),
        ("last", lambda line: fitness(line.last)),
        ("best", lambda line: fitness(line.best)),
        ("status", lambda line: line.status),
        ("age", lambda line: _age(now - line.active)),
        ("size", lambda line: MISSING_FIGURE if line.size is None else decimal(line.size)),
    ]
    widths = {name: max([len(name), *(len(text(line)) for line in lines)]) for name, text in columns}
    widths["run"] = min(widths["run"], int(_WIDEST_NAME * width))
    fitting, left = [], width + 2
    for name in _BY_IMPORTANCE:
        if widths[name] + 2 <= left or name == "run":
            fitting.append(name)
            left -= widths[name] + 2
    return [column for column in columns if column[0] in fitting]


def _foot(lines: Sequence[Line], hidden: int) -> str:
    """Returns how many runs are in each status, how large they are, and how many lines are not shown."""
    from rich.filesize import decimal

    every = [run for line in lines for run in line.runs]
    statuses = Counter(str(run.status) for run in every)
    states = ", ".join(f"{statuses[status]} {status}" for status in _STYLES if statuses[status])
    grids = sum(line.is_grid for line in lines)
    cells = sum(len(line.runs) for line in lines if line.is_grid)
    what = f"{len(every)} run{'s' * (len(every) != 1)}"
    what += f", {cells} of them in {grids} grid{'s' * (grids != 1)}" if grids else ""
    sizes = [line.size for line in lines if line.size is not None]
    size = decimal(sum(sizes)) if len(sizes) == len(lines) else "sizes take long: --sort size measures all"
    more = f"; {hidden} more line{'s' * (hidden != 1)}" if hidden else ""
    return f"{what}: {states}; {size}{more}"


def _age(seconds: float) -> str:
    """Returns a time span in its largest unit, such as `3 h`."""
    size, unit = next((entry for entry in _UNITS if seconds >= entry[0]), _UNITS[-1])
    return f"{max(0, int(seconds // size))} {unit}"
