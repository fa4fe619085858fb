"""Draws the panel of a running training: progress, figures and curve."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evoconn_cli.progress.chart import Curve, chart, columns, sparkline, stretched
from evoconn_cli.progress.formatting import count, duration, encodable, fitness, number, spike_rate
from evoconn_cli.progress.history import Compiled, History, Metrics, RunHeader, last_time
from evoconn_cli.progress.usage import Usage, load_nvml

MAX_WIDTH = 160
CHART_FROM = 34  # terminal lines from which there is a chart, instead of a sparkline
MIN_CHART_WIDTH, MAX_CHART_HEIGHT = 54, 14
LONG_GENERATION = 2.0  # [s]
MARGIN = 2  # room for the ^C that a terminal echoes: a wrapped line would shift the panel
BORDER = "dim"
LABEL = "dim"
EVALUATION = "green"  # the colour of the most important figure

Cell = tuple[str, str, str]  # label, value, style of the value


class RunPanel:
    """The panel of a run; Rich renders it again at each redraw, so its clock goes on.

    Args:
        header: Header of the run.
        history: Earlier generations.
        clock: Monotonic clock [s].
    """

    def __init__(self, header: RunHeader, history: History, clock: Callable[[], float]) -> None:
        self._compiling_since: float | None = None
        self._compiled_before: Compiled | None = None
        self._generations = header.generations
        self._done = header.start_generation
        self._history = history
        self._clock = clock
        self._spinner: Spinner | None = None
        self._since = self._trained_since = self._spent_until = clock()  # time of the last line, or of the start
        self._computing = self._saving = 0.0
        self._usage = Usage(clock, load_nvml() if header.on_gpus else None)
        self._drawn: tuple[tuple[int, int, int], list[RenderableType]] = (0, 0, 0), []
        self._frozen_at: float | None = None
        # Rich redraws in another thread, and a signal handler that prints a note may interrupt `add`.
        self._lock = threading.RLock()

    def compiling(self, last: Compiled | None = None) -> None:
        """Shows a spinner and how long it took last time, until `compiled` or the first generation."""
        self._compiled_before = last
        self._compiling_since = self._clock()

    def compiled(self) -> None:
        """Shows the figures again; the elapsed time of metrics.jsonl does not include compilation."""
        with self._lock:
            self._compiling_since = None
            self._since = self._trained_since = self._clock()

    def saved(self, seconds: float) -> None:
        """Adds the time that saving took [s]."""
        self._saving += seconds
        self._spent_until = self._clock()

    def add(self, metrics: Metrics) -> None:
        """Adds a line of metrics.jsonl."""
        with self._lock:
            self._history.add(metrics)
            self._computing += metrics.get("seconds") or 0.0
            self._done = int(metrics.get("generation") or self._done)
            self._since = self._spent_until = self._clock()
            self._compiling_since = None

    def freeze(self) -> None:
        """Stops the clock of the panel."""
        self._frozen_at = self._clock()
        self._compiling_since = None

    @property
    def is_frozen(self) -> bool:
        """Whether the clock is stopped, for the last drawing."""
        return self._frozen_at is not None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            title = f"generation {count(self._done)} of {count(self._generations)}"
            parts = self._parts(max(10, panel_width(options) - 4), console.size.height, options.ascii_only)
        yield framed(Group(*parts), title, options)

    def _parts(self, width: int, height: int, ascii_only: bool) -> list[RenderableType]:
        parts: list[RenderableType] = [self._bar(width), self._within_generation(width)]
        since = self._compiling_since
        if since is not None:
            parts.append(self._compiling(since, ascii_only=ascii_only))
        else:
            parts.append(self._figures(width, ascii_only=ascii_only))
            if failed := int(self._history.last.get("failed_members") or 0):
                members = "member" if failed == 1 else "members"
                parts.append(Text(f"{count(failed)} {members} without a finite fitness", style="yellow"))
        if len(self._history.evaluations) > 1 and height >= CHART_FROM and width >= MIN_CHART_WIDTH:
            if since is None:
                parts.append(self._use())
            parts += [Text(), *self._chart(width, min(MAX_CHART_HEIGHT, height - 27), ascii_only=ascii_only)]
        elif self._history.evaluations:
            parts += [Text(), *self._curve(width, 3 if height >= 22 else 1, ascii_only=ascii_only)]
        return parts

    def _within_generation(self, width: int) -> Text:
        """Returns how far the generation should be, from the duration of the last ones; empty if they are short."""
        usual = self._history.usual_seconds()
        is_running = self._compiling_since is None and self._frozen_at is None and self._done < self._generations
        if usual is None or usual < LONG_GENERATION or not is_running or width < 44:
            return Text()
        share = min(99, int(100 * (self._clock() - self._since) / usual))
        return Text(f"generation {count(self._done + 1)}: ~ {share} %, as long as the last ones", style=LABEL)

    def _use(self) -> Text:
        """Returns what the time of the generations that are done was spent on, and the cores and memory in use."""
        whole = max(1e-9, self._spent_until - self._trained_since)
        shares = {"generations": self._computing, "saving": self._saving}
        shares["other"] = max(0.0, whole - sum(shares.values()))
        spent = ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in shares.items())
        return Text(f"time: {spent}; {self._usage.text()}", style=LABEL)

    def _chart(self, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:
        drawn = len(self._history.evaluations), width, height
        if self._drawn[0] == drawn:  # the panel is redrawn a few times per second
            return self._drawn[1]
        history, room = self._history, columns(width, ascii_only=ascii_only)
        curves = [
            Curve("evaluation", stretched(history.evaluations, room), EVALUATION, "e"),
            Curve("mean", stretched(history.means, room), "yellow", "m"),
            Curve("best", stretched(history.bests, room), "cyan", "b"),
        ]
        names = [f"{curve.mark} {curve.label}" if ascii_only else curve.label for curve in curves]
        legend = [Text(name, curve.style) for name, curve in zip(names, curves, strict=True)]
        best = self._best_so_far(width)
        has_room = len("  ".join(names)) + 2 + len(best) <= width
        caption = _at_both_ends(Text("  ").join(legend), Text(best if has_room else best.partition(" at ")[0], LABEL))
        last = int(history.last.get("generation") or len(history.evaluations))
        span = max(1, last - len(history.evaluations) + 1), last
        lines = chart(curves, width=width, height=height, span=span, ascii_only=ascii_only)
        self._drawn = drawn, [caption, *lines]
        return self._drawn[1]

    def _best_so_far(self, width: int) -> str:
        best, so_far = self._history.best, " so far" if width >= 60 else ""
        return f"best{so_far} {fitness(best[0])} at generation {count(best[1])}" if best else ""

    def _bar(self, width: int) -> RenderableType:
        total = max(1, self._generations)
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=total, completed=self._done, width=width - 6, complete_style=EVALUATION)
        bar.finished_style = EVALUATION
        grid.add_row(bar, Text(f"{min(100, 100 * self._done // total):>3} %", style="bold"))
        return grid

    def _compiling(self, since: float, *, ascii_only: bool) -> RenderableType:
        if self._spinner is None:
            self._spinner = Spinner("line" if ascii_only else "dots", style=EVALUATION)
        waited = duration(self._clock() - since)
        self._spinner.update(text=Text(f"compiling ... {waited}{last_time(self._compiled_before)}"))
        return self._spinner

    def _figures(self, width: int, *, ascii_only: bool) -> RenderableType:
        num_columns = 5 if width >= 112 else 3 if width >= 68 else 2 if width >= 44 else 1
        grid = Table.grid(padding=(0, 3 if num_columns >= 3 else 2), expand=True, pad_edge=False)
        for _ in range(num_columns):
            grid.add_column(ratio=1)
        cells = [
            _at_both_ends(Text(label, LABEL), Text(encodable(value, ascii_only=ascii_only), style))
            for label, value, style in self._cells()
        ]
        rows = -(-len(cells) // num_columns)
        for row in range(rows):  # column by column, to keep related figures together
            grid.add_row(*(cells[i] if i < len(cells) else "" for i in range(row, rows * num_columns, rows)))
        return grid

    def _cells(self) -> list[Cell]:
        last = self._history.last
        passed = (self._clock() if self._frozen_at is None else self._frozen_at) - self._since
        left = self._history.time_left(self._generations) if self._done < self._generations else None
        of_es, of_ec = {"sigma": "sigma", "norm": "center_norm"}, {"entropy": "entropy", "density": "density"}
        of_strategy = of_es if "sigma" in last else of_ec
        return [
            ("evaluation", fitness(last.get("eval_fitness")), f"bold {EVALUATION}"),
            ("best now", fitness(last.get("fitness_best")), "bold"),
            ("mean now", fitness(last.get("fitness_mean")), "bold"),
            ("spikes/s", spike_rate(last.get("spikes_per_ms")), ""),
            *[(label, number(last.get(key), 3), "") for label, key in of_strategy.items()],
            ("steps/s", count(self._history.steps_per_second()), ""),
            ("elapsed", duration((last.get("elapsed") or 0.0) + passed), ""),
            ("time left", left.text(passed) if left else duration(None), ""),
        ]

    def _curve(self, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:
        label = "evaluation" if width >= 44 else ""
        caption = _at_both_ends(Text(label, LABEL), Text(self._best_so_far(width), LABEL))
        evaluations = list(self._history.evaluations)
        lines = sparkline(evaluations, width=width, height=height, ascii_only=ascii_only)
        return [caption, *(Text(line, style=EVALUATION, no_wrap=True) for line in lines)]


def framed(content: RenderableType, title: str, options: ConsoleOptions) -> Panel:
    """Returns a panel with a title, in the style of this display."""
    return Panel(
        content,
        title=Text(title, style="bold"),
        title_align="left",
        border_style=BORDER,
        padding=(0, 1),
        width=panel_width(options),
    )


def panel_width(options: ConsoleOptions) -> int:
    """Returns the width of a panel, border included [characters]."""
    return min(options.max_width - MARGIN, MAX_WIDTH)


def _at_both_ends(left: Text, right: Text) -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid
