"""The look of all plots: figures without pyplot and its global state, saved atomically."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evoconn_cli.errors import EvoconnError, first_line
from evoconn_cli.output import whole_file

try:
    from matplotlib import style
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
except (OSError, ValueError) as error:  # no directory for its cache, or an unreadable matplotlibrc
    raise EvoconnError(f"plots cannot be drawn: {first_line(error)}.") from None

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Distinguishable with colour blindness. Source: Okabe and Ito, Color Universal Design, 2008."""

PLOT_SUFFIXES = (".png", ".pdf", ".svg")
INK, FAINT = "#222222", "#9a9a9a"


# TrueType: conferences and journals refuse the Type 3 fonts that Matplotlib embeds by default.
own_settings = functools.partial(style.context, ["default", {"pdf.fonttype": 42, "ps.fonttype": 42}])
"""Ignores a user's matplotlibrc while a figure is made or saved."""


def make_figure(titles: Sequence[str], columns: int = 3) -> tuple[Figure, list[Axes]]:
    """Returns a figure with one panel per title, at most `columns` in a row."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    figure = empty_figure(0.6 + 5.4 * columns, 4.0 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in panels[len(titles) :]:
        panel.remove()
    for panel, title in zip(panels, titles, strict=False):
        style_panel(panel, title)
    return figure, panels[: len(titles)]


def empty_figure(width: float, height: float) -> Figure:
    """Returns a figure of this size [inches] without panels."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_panel(panel: Axes, title: str) -> None:
    """Sets the title of a panel and the look that all panels share."""
    panel.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, parse_math=False)
    panel.grid(axis="y", color="#e8e8e8", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(FAINT)
    panel.tick_params(colors=INK, labelsize=10, color=FAINT)
    panel.margins(x=0.02)


def color_of(index: int) -> str:
    """Returns the colour of the series number `index`."""
    return COLORS[index % len(COLORS)]


def draw_series(
    panel: Axes, x: np.ndarray, y: np.ndarray, *, low: np.ndarray, high: np.ndarray, index: int, label: str, marker: str
) -> None:
    """Draws a line and the band around it, unless the band has no width."""
    color = color_of(index)
    style = "-" if index < len(COLORS) else "--"
    if np.any(high > low):
        panel.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    panel.plot(x, y, color=color, linewidth=2.0, linestyle=style, marker=marker, markersize=5, label=label)


def label_axes(
    panel: Axes, x: str, y: str, *, note: str = "", legend: bool = True, legend_columns: int | None = None
) -> None:
    """Labels the axes and adds the legend; `$` in a name is not mathematics.

    Args:
        panel: Panel to label.
        x: Label of the x axis.
        y: Label of the y axis.
        note: Line below the label of the x axis.
        legend: Whether the panel has a legend.
        legend_columns: Columns of a legend above the panel; None for one inside.
    """
    panel.set_xlabel(f"{x}\n{note}" if note else x, fontsize=10, color=INK, parse_math=False)
    panel.set_ylabel(y, fontsize=10, color=INK, parse_math=False)
    if legend_columns is not None:
        add_legend(panel, legend_columns)
    elif legend:
        _as_text(panel.legend(frameon=False, fontsize=9, labelcolor=INK))


def add_shared_legend(figure: Figure) -> None:
    """Puts one legend for all panels below them."""
    entries = {}
    for panel in figure.axes:
        handles, labels = panel.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    _as_text(
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center", ncols=int(figure.get_figwidth() / 2.8),
            frameon=False, fontsize=9, labelcolor=INK,
        )
    )  # fmt: skip


def _as_text(legend: Legend) -> None:
    for text in legend.get_texts():
        text.set_parse_math(False)


def for_print(figure: Figure) -> None:
    """Sets sizes of text and lines for a figure that is printed at its own width, and a resolution of 300 dpi."""
    figure.set_dpi(max(figure.dpi, 300))
    for panel in figure.axes:
        panel.title.set_fontsize(8)
        panel._left_title.set_fontsize(8)  # type: ignore[attr-defined]
        panel.tick_params(which="both", labelsize=6, width=0.6, length=2.5, pad=2)
        for axis in (panel.xaxis, panel.yaxis):
            axis.label.set_fontsize(7)
            axis.labelpad = 2
        for line in panel.get_lines():
            line.set_linewidth(min(line.get_linewidth(), 1.2))
        legend = panel.get_legend()
        for text in legend.get_texts() if legend else ():
            text.set_fontsize(6)
        panel.spines[:].set_linewidth(0.6)


def add_heading(figure: Figure, text: str) -> None:
    """Writes a heading above all panels, in as many lines as it needs."""
    lines = textwrap.wrap(text, max(20, int(15 * figure.get_figwidth())))
    figure.set_figheight(figure.get_figheight() + 0.08 + 0.14 * len(lines))
    figure.suptitle("\n".join(lines), x=0.012, ha="left", fontsize=8, color=INK)


def add_legend(panel: Axes, columns: int) -> None:
    """Puts the legend between title and panel, in rows of `columns` entries."""
    entries = len(panel.get_legend_handles_labels()[1])
    legend = panel.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderpad=0.2, borderaxespad=0.0,
        handlelength=1.1, handleheight=0.5, columnspacing=0.6, handletextpad=0.3, labelspacing=0.2,
        frameon=False, labelcolor=INK,
    )  # fmt: skip
    legend.set_in_layout(False)  # the title reserves its height, and its width must not narrow the panel
    title, rows = panel.get_title(loc="left"), -(-entries // columns)
    panel.set_title(title, loc="left", fontweight="bold", color=INK, pad=4.5 + 9 * rows)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes the figure to `path` in the format of its suffix.

    Raises:
        EvoconnError: The file cannot be written.
    """
    with own_settings(), whole_file(path) as partial:
        figure.savefig(partial, dpi=figure.dpi)  # by default savefig takes the resolution the figure was made with
