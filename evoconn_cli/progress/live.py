"""Shows a training on a terminal: a header, and a panel that is redrawn in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.panel import Panel
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evoconn_cli.progress.display import Progress
from evoconn_cli.progress.formatting import encodable
from evoconn_cli.progress.history import Compiled, Metrics, RunHeader
from evoconn_cli.progress.run_panel import EVALUATION, LABEL, RunPanel, framed

REDRAWS_PER_SECOND = 4

_NOTEBOOK_WIDTH = 100
_NOTEBOOK_FORMAT = "<pre style='white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace'>{code}</pre>"

_TWO_COLUMNS = 76
"""Terminal columns from which the header has two columns."""

_LOW, _HIGH = 22, 29
"""Terminal lines from which the header, of two columns or one, fits above the panel."""


class ReflowedLive(Live):
    """A live display that leaves none of its earlier rows in view when the terminal is resized."""

    def __init__(self, renderable: RenderableType | None = None, *, console: Console, **options: Any) -> None:
        super().__init__(renderable, console=console, **options)
        self._live_render = self._reflowed = _ReflowedRender(self.get_renderable(), console)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Returns what to print: `renderables` in place of the last drawing, and a new drawing below."""
        processed = super().process_renderables(renderables)
        if not all(isinstance(printed, Control) for printed in renderables):
            self._reflowed.scrolled = []  # what is printed now stays below them
        return processed


class NotebookLive:
    """A live display in the output of a notebook's cell, which has no other requirements than IPython.

    Args:
        renderable: What to show.
        console: Console of the notebook.
        clock: Monotonic clock [s].
    """

    def __init__(self, renderable: RenderableType, *, console: Console, clock: Callable[[], float]) -> None:
        self._renderable, self._console, self._clock = renderable, console, clock
        self._handle: Any = None
        self._drawn_at = float("-inf")

    def start(self) -> None:
        """Shows it."""
        self.refresh()

    def refresh(self, *, now: bool = False) -> None:
        """Redraws it, unless it was drawn a moment ago or `now` is set."""
        if not now and self._clock() - self._drawn_at < 1 / REDRAWS_PER_SECOND:
            return
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        page = Console(file=StringIO(), record=True, force_jupyter=False, force_terminal=True, width=_NOTEBOOK_WIDTH)
        page.print(self._renderable)
        html = HTML(page.export_html(inline_styles=True, code_format=_NOTEBOOK_FORMAT))
        if self._handle is None:
            self._handle = display(html, display_id=True)
        else:
            self._handle.update(html)
        self._drawn_at = self._clock()

    def stop(self) -> None:
        """Draws it a last time."""
        self.refresh(now=True)


class _ReflowedRender(LiveRender):
    """A render that knows the rows of its last drawing at the present size of the terminal.

    A terminal that is made smaller wraps lines and pushes rows into its scrollback, where nothing can clear them; when
    it is made larger, they come back into view. As long as there are some, the drawing fills the screen, so that their
    number stays known.

    Attributes:
        scrolled: Widths of the lines in the scrollback, directly above the screen [characters].
    """

    def __init__(self, renderable: RenderableType, console: Console) -> None:
        super().__init__(renderable)
        self.scrolled: list[int] = []
        self._console = console
        self._widths: list[int] = []
        self._next: list[Segment] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        segments, self._next = self._next or self._draw(options), None
        lines = "".join(segment.text for segment in segments).split("\n")
        blank = max(0, console.height - len(lines)) if self.scrolled else 0
        self._widths = [0] * blank + [cell_len(line) for line in lines]
        yield from [Segment.line()] * blank
        yield from segments

    def position_cursor(self) -> Control:
        for _ in range(3):  # drawing takes time, in which a terminal may be resized again
            size = self._console.size
            self._next = self._draw(self._console.options)
            if self._console.size == size:
                break
        self._count_rows()
        return super().position_cursor()

    def restore_cursor(self) -> Control:
        self._count_rows()
        return super().restore_cursor()

    def _draw(self, options: ConsoleOptions) -> list[Segment]:
        return [part for part in super().__rich_console__(self._console, options) if isinstance(part, Segment)]

    def _count_rows(self) -> None:
        columns, height = self._console.size
        lines = [*self.scrolled, *self._widths]
        rows = [max(1, -(-width // max(1, columns))) for width in lines]
        self._shape = (columns, min(height, sum(rows))) if self._widths else None
        self.scrolled, above = [], sum(rows) - height
        for width, num_rows in zip(lines, rows, strict=True):
            if above <= 0:
                break
            self.scrolled.append(min(width, above * columns))
            above -= num_rows


class LiveProgress(Progress):
    """A display that a thread of Rich redraws a few times per second.

    Args:
        console: Console of a terminal that can redraw.
        clock: Monotonic clock [s].
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._panel: RunPanel | None = None
        self._live: Live | NotebookLive | None = None

    def starting(self, what: str) -> None:
        """Shows a spinner with what takes time, until `start`; nothing in a notebook."""
        self.stop()
        if not self._console.is_jupyter:
            spinner = Spinner("line" if self._console.options.ascii_only else "dots", style=EVALUATION)
            spinner.update(text=Text(f"{what} ..."))
            rate = REDRAWS_PER_SECOND
            self._live = ReflowedLive(spinner, console=self._console, refresh_per_second=rate, transient=True)
            self._live.start(refresh=True)

    def start(self, header: RunHeader, history: Sequence[Metrics] = ()) -> None:
        """Shows the header and the panel; `history` holds the lines of metrics.jsonl so far."""
        self.stop()
        self._panel = RunPanel(header, header.history(history), self._clock)
        display = _Display(header, self._panel)
        if not display.has_room(self._console.options):
            self._console.print(_header_panel(header, self._console.options))
            display.header = None
        if self._console.is_jupyter:
            self._live = NotebookLive(display, console=self._console, clock=self._clock)
        else:
            self._live = ReflowedLive(display, console=self._console, refresh_per_second=REDRAWS_PER_SECOND)
        self._live.start()

    def compiling(self, last: Compiled | None = None) -> None:
        """Shows a spinner and how long it took last time, until `compiled` or the first generation."""
        if self._panel is not None:
            self._panel.compiling(last)
            self._redraw(now=True)

    def compiled(self, took: Compiled) -> None:
        """Prints how long the compilation took."""
        if self._panel is not None:
            self._panel.compiled()
        self._console.print(Text(f"compiled in {took.text()}", style=LABEL))

    def generation(self, metrics: Metrics) -> None:
        """Adds a line of metrics.jsonl to the panel."""
        if self._panel is not None:
            self._panel.add(metrics)
            self._redraw()

    def saved(self, seconds: float) -> None:
        """Adds the time that saving took to that shown in the panel [s]."""
        if self._panel is not None:
            self._panel.saved(seconds)

    def _redraw(self, *, now: bool = False) -> None:
        if isinstance(self._live, NotebookLive):  # in a terminal, a thread redraws it
            self._live.refresh(now=now)

    def note(self, message: str) -> None:
        """Prints an advice or a warning above the panel."""
        grid = Table.grid(padding=(0, 1))
        message = encodable(message, ascii_only=self._console.options.ascii_only)
        grid.add_row(Text("note", style="bold yellow"), Text(message, overflow="fold"))
        self._console.print(grid)

    def stop(self) -> None:
        """Draws the panel a last time and releases the terminal."""
        live, self._live = self._live, None
        if live is not None:
            if self._panel is not None:
                self._panel.freeze()
            live.stop()


@dataclass
class _Display:
    """The header above the panel, redrawn with it so that a narrower terminal does not tear it."""

    header: RunHeader | None  # None if it is printed above
    panel: RunPanel

    def has_room(self, options: ConsoleOptions) -> bool:
        """Returns whether the terminal is high enough for both."""
        return options.size.height >= (_LOW if options.max_width >= _TWO_COLUMNS else _HIGH)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.header is not None and (self.panel.is_frozen or self.has_room(options)):
            yield _header_panel(self.header, options)
        yield self.panel


def _header_panel(header: RunHeader, options: ConsoleOptions) -> Panel:
    num_columns = 2 if options.max_width >= _TWO_COLUMNS else 1
    *rows, run_dir = header.rows()
    label_width = max(len(label) for label, _ in header.rows())
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
    return framed(Group(grid, last), "evoconn", options)
