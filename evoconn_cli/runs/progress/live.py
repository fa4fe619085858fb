"""Progress on a terminal: a header, and one panel that is redrawn in place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evoconn_cli.runs.progress.formatting import count, duration, encodable, fitness, number
from evoconn_cli.runs.progress.header import RunHeader
from evoconn_cli.runs.progress.history import History, Metrics
from evoconn_cli.runs.progress.sparkline import sparkline

REDRAWS_PER_SECOND = 4
MAX_WIDTH = 100  # wider, labels would lose sight of their values
MARGIN = 2  # room for the ^C that a terminal echoes: one more line would shift the panel
BORDER = "dim"
LABEL = "dim"
EVALUATION = "green"  # the one colour of the figure that counts

Cell = tuple[str, str, str]  # label, value, style of the value


class LiveProgress:
    """A display that is redrawn a few times a second, by a thread of Rich."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._panel: _RunPanel | None = None
        self._live: Live | None = None

    def start(self, header: RunHeader, history: Sequence[Metrics] = ()) -> None:
        """Prints the header and opens the panel; `history` is what metrics.jsonl holds so far."""
        self.stop()
        self._console.print(_HeaderPanel(header))
        self._panel = _RunPanel(header, History(history), self._clock)
        self._live = Live(self._panel, console=self._console, refresh_per_second=REDRAWS_PER_SECOND)
        self._live.start()

    def compiling(self) -> None:
        """Shows a spinner until `compiled` or the first generation."""
        if self._panel is not None:
            self._panel.compiling_since = self._clock()

    def compiled(self, seconds: float) -> None:
        """Leaves a line that says how long the compilation took [s]."""
        if self._panel is not None:
            self._panel.compiling_since = None
        self._console.print(Text(f"compiled in {duration(seconds)}", style=LABEL))

    def generation(self, metrics: Metrics) -> None:
        """Takes one line of metrics.jsonl into the panel."""
        if self._panel is not None:
            self._panel.add(metrics)

    def note(self, message: str) -> None:
        """Prints an advice or a warning above the panel."""
        grid = Table.grid(padding=(0, 1))
        message = encodable(message, ascii_only=self._console.options.ascii_only)
        grid.add_row(Text("note", style="bold yellow"), Text(message, overflow="fold"))
        self._console.print(grid)

    def stop(self) -> None:
        """Draws the panel a last time and gives the terminal back."""
        live, self._live = self._live, None
        if live is not None:
            if self._panel is not None:
                self._panel.freeze()
            live.stop()


class _HeaderPanel:
    def __init__(self, header: RunHeader) -> None:
        self._header = header

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        num_columns = 2 if options.max_width >= 76 else 1
        *rows, run_dir = self._header.rows()
        label_width = max(len(label) for label, _ in self._header.rows())
        grid = Table.grid(padding=(0, 2), expand=True)
        for _ in range(num_columns):
            grid.add_column(style=LABEL, no_wrap=True, min_width=label_width)
            grid.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
        ascii_only = options.ascii_only
        texts = [Text(encodable(text, ascii_only=ascii_only)) for row in rows for text in row]
        for start in range(0, len(texts), 2 * num_columns):
            grid.add_row(*texts[start : start + 2 * num_columns])
        last = Table.grid(padding=(0, 2))
        last.add_column(style=LABEL, no_wrap=True, min_width=label_width)
        last.add_column(overflow="fold")
        last.add_row(*(Text(encodable(text, ascii_only=ascii_only)) for text in run_dir))
        yield _panel(Group(grid, last), "evoconn", options)


class _RunPanel:
    """The renderable of a run: Rich asks it anew at each redraw, so the clock in it goes on."""

    def __init__(self, header: RunHeader, history: History, clock: Callable[[], float]) -> None:
        self.compiling_since: float | None = None
        self._generations = header.generations
        self._done = header.start_generation
        self._history = history
        self._clock = clock
        self._spinner: Spinner | None = None
        self._since = clock()  # of the last line, or of the start
        self._frozen_at: float | None = None
        # Two threads meet here; and a signal handler that prints a note may interrupt `add` in the first one.
        self._lock = threading.RLock()

    def add(self, metrics: Metrics) -> None:
        with self._lock:
            self._history.add(metrics)
            self._done = int(metrics.get("generation") or self._done)
            self._since = self._clock()
            self.compiling_since = None

    def freeze(self) -> None:
        """Lets the clock of the panel stand still."""
        self._frozen_at = self._clock()
        self.compiling_since = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        curve_height = 3 if console.size.height >= 22 else 1
        with self._lock:
            title = f"generation {count(self._done)} of {count(self._generations)}"
            parts = self._parts(max(10, _panel_width(options) - 4), curve_height, options.ascii_only)
        yield _panel(Group(*parts), title, options)

    def _parts(self, width: int, curve_height: int, ascii_only: bool) -> list[RenderableType]:
        parts: list[RenderableType] = [self._bar(width), Text()]
        since = self.compiling_since
        if since is not None:
            parts.append(self._compiling(since, ascii_only=ascii_only))
        else:
            parts.append(self._figures(width, ascii_only=ascii_only))
        if self._history.evaluations:
            parts += [Text(), *self._curve(width, curve_height, ascii_only=ascii_only)]
        return parts

    def _bar(self, width: int) -> RenderableType:
        share = min(1.0, self._done / self._generations) if self._generations else 1.0
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=share, width=width - 6, complete_style=EVALUATION)
        bar.finished_style = EVALUATION
        grid.add_row(bar, Text(f"{int(100 * share):>3} %", style="bold"))
        return grid

    def _compiling(self, since: float, *, ascii_only: bool) -> RenderableType:
        if self._spinner is None:
            self._spinner = Spinner("line" if ascii_only else "dots", style=EVALUATION)
        waited = duration(self._clock() - since)
        self._spinner.update(text=Text(f"compiling ... {waited}"))
        return self._spinner

    def _figures(self, width: int, *, ascii_only: bool) -> RenderableType:
        num_columns = 3 if width >= 68 else 2 if width >= 44 else 1
        grid = Table.grid(padding=(0, 3 if num_columns == 3 else 2), expand=True, pad_edge=False)
        for _ in range(num_columns):
            grid.add_column(ratio=1)
        cells = [_cell(cell, ascii_only=ascii_only) for cell in self._cells()]
        rows = -(-len(cells) // num_columns)
        for row in range(rows):  # column by column: what belongs together stands together
            grid.add_row(*(cells[i] if i < len(cells) else "" for i in range(row, rows * num_columns, rows)))
        return grid

    def _cells(self) -> list[Cell]:
        last = self._history.last
        passed = (self._clock() if self._frozen_at is None else self._frozen_at) - self._since
        left = self._history.seconds_left(self._generations)
        if left is not None:
            left = max(0.0, left - passed) if self._done < self._generations else None
        return [
            ("evaluation", fitness(last.get("eval_fitness")), f"bold {EVALUATION}"),
            ("best member", fitness(last.get("fitness_best")), "bold"),
            ("mean member", fitness(last.get("fitness_mean")), "bold"),
            ("spikes/ms", number(last.get("spikes_per_ms"), 3), ""),
            ("entropy", number(last.get("entropy"), 3), ""),
            ("density", number(last.get("density"), 3), ""),
            ("steps/s", count(self._history.steps_per_second()), ""),
            ("elapsed", duration((last.get("elapsed") or 0.0) + passed), ""),
            ("time left", duration(left), ""),
        ]

    def _curve(self, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:
        best = self._history.best
        label = "evaluation fitness" if width >= 60 else "evaluation" if width >= 44 else ""
        text = f"best {fitness(best[0])} at generation {count(best[1])}" if best else ""
        caption = Table.grid(expand=True)
        if label:
            caption.add_column(style=LABEL, no_wrap=True)
        if text:
            caption.add_column(style=LABEL, justify="right", no_wrap=True)
        caption.add_row(*filter(None, (label, text)))
        evaluations = list(self._history.evaluations)
        lines = sparkline(evaluations, width=width, height=height, ascii_only=ascii_only)
        return [caption, *(Text(line, style=EVALUATION, no_wrap=True) for line in lines)]


def _panel(content: RenderableType, title: str, options: ConsoleOptions) -> Panel:
    return Panel(
        content,
        title=Text(title, style="bold"),
        title_align="left",
        border_style=BORDER,
        padding=(0, 1),
        width=_panel_width(options),
    )


def _panel_width(options: ConsoleOptions) -> int:
    return min(options.max_width - MARGIN, MAX_WIDTH)


def _cell(cell: Cell, *, ascii_only: bool) -> RenderableType:
    label, value, style = cell
    grid = Table.grid(expand=True)
    grid.add_column(style=LABEL, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(label, Text(encodable(value, ascii_only=ascii_only), style=style))
    return grid
