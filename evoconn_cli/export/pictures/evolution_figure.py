"""Draws the figure of a connectome over the checkpoints of a run, and writes pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evoconn_cli.config.formats import EPISODE_PANELS, ExportOptions
from evoconn_cli.drawing.canvas import (
    FAINT,
    INK,
    add_heading,
    for_print,
    label_axes,
    make_figure,
    own_settings,
    save_figure,
)
from evoconn_cli.drawing.colors import LAYERS as LAYER_COLORS
from evoconn_cli.drawing.colors import MEASURES, ON_WHITE
from evoconn_cli.export.analysis.reports import agreement_with_last, changed_connections, share_excitatory
from evoconn_cli.export.analysis.statistics import Statistics
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.pictures.connectome_figure import connectome_figure
from evoconn_cli.export.units import LAYERS

_SENDERS = {"E": ON_WHITE["E"], "I": ON_WHITE["I"], "input": LAYER_COLORS["input"]}
_RECEIVERS = {"E": "-", "I": "--", "output": ":"}


@own_settings()
def evolution_figure(
    connectomes: Sequence[Connectome], statistics: Sequence[Statistics], options: ExportOptions
) -> Figure:
    """Returns the figure of several steps of a run.

    Args:
        connectomes: Connectomes by generation.
        statistics: Statistics of each connectome.
        options: Width, title and panels. Chosen panels are lettered from a again; a single one has no letter.
    """
    generations = np.array([one.generation for one in statistics])
    entropy = functools.partial(_draw_certainty, of="entropy", y="bits per connection")
    saturated = functools.partial(_draw_certainty, of="saturated", y="share near a bound")
    known: dict[str, tuple[str, Callable[[Axes, np.ndarray, Any], None], Sequence[Any]]] = {
        "a": ("Density", _draw_densities, statistics),
        "b": ("Entropy of probabilities", entropy, statistics),
        "c": ("Saturated probabilities", saturated, statistics),
        "d": ("Connections that changed", _draw_changes, connectomes),
        "e": ("Beside random graphs", _draw_measures, statistics),
        "f": ("Excitation of actions", _draw_actions, statistics),
    }
    chosen = [known[letter] for letter in sorted(set(options.panels)) or known]
    titles = [title for title, *_ in chosen]
    if len(chosen) > 1:
        titles = [f"{letter}  {title}" for letter, title in zip(known, titles, strict=False)]
    columns = max(1, min(len(chosen), 3, int(options.width / 2)))
    figure, panels = make_figure(titles, columns)
    figure.set_size_inches(options.width, 2.1 * -(-len(chosen) // columns) + 0.05)
    for panel, (_, draw, values) in zip(panels, chosen, strict=True):
        draw(panel, generations, values)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, steps=[1, 2, 5, 10]))
    for_print(figure)
    if options.title:
        last = connectomes[-1]
        text = f"{last.config.task.name}: {last.num_neurons} neurons, {len(statistics)} {last.policy} networks"
        add_heading(figure, text)
    return figure


def _lines(panel: Axes, x: np.ndarray, series: dict[str, list[float]], colors: Mapping[str, str]) -> None:
    for label, values in series.items():
        panel.plot(x, values, color=colors[label], marker=".", markersize=3, label=label)


def _draw_certainty(panel: Axes, generations: np.ndarray, statistics: Sequence[Statistics], *, of: str, y: str) -> None:
    series = {name: [getattr(one.certainty[name], of) for one in statistics] for name in LAYERS}
    _lines(panel, generations, series, LAYER_COLORS)
    label_axes(panel, "generation", y, legend_columns=3)


def _draw_densities(panel: Axes, generations: np.ndarray, statistics: Sequence[Statistics]) -> None:
    """Draws a line per block; its colour shows the senders, its style the receivers."""
    for name in statistics[0].density:
        pre, arrow, post = name.partition("->")
        if arrow:
            densities = [one.density[name] for one in statistics]
            panel.plot(
                generations, densities, color=_SENDERS[pre], linestyle=_RECEIVERS[post], linewidth=1.8, label=name
            )
    label_axes(panel, "generation", "share of possible connections", legend_columns=3)


def _draw_changes(panel: Axes, generations: np.ndarray, connectomes: Sequence[Connectome]) -> None:
    """Draws the changes since the step before, and dashed the difference from the last step."""
    changed, agreement = changed_connections(connectomes), agreement_with_last(connectomes)
    for name in LAYERS:
        color = LAYER_COLORS[name]
        since = [step[name] for step in changed]
        panel.plot(generations[1:], since, color=color, linewidth=2.0, marker=".", markersize=3, label=name)
        panel.plot(generations, [1 - step[name] for step in agreement], color=color, linewidth=1.4, linestyle="--")
    label_axes(panel, "generation (dashed: to the last one)", "share that differs", legend_columns=3)


def _draw_measures(panel: Axes, generations: np.ndarray, statistics: Sequence[Statistics]) -> None:
    panel.axhspan(-2, 2, color="#eeeeee", zorder=0)
    series = {name: [getattr(one, name).z for one in statistics] for name in MEASURES}
    _lines(panel, generations, series, MEASURES)
    label_axes(panel, "generation", "z (grey: within 2)", legend_columns=3)


def _draw_actions(panel: Axes, generations: np.ndarray, statistics: Sequence[Statistics]) -> None:
    shares = np.stack([share_excitatory(one) for one in statistics], axis=1)
    for share in shares:
        panel.plot(generations, share, color=FAINT, linewidth=1.0, alpha=0.7)
    panel.plot([], [], color=FAINT, linewidth=1.0, label="each action")
    mean = np.ma.masked_invalid(shares).mean(axis=0)
    panel.plot(generations, mean, color=INK, linewidth=2.0, marker=".", markersize=3, label="mean")
    panel.axhline(0.5, color=FAINT, linewidth=1.0, linestyle=":")
    label_axes(panel, "generation", "E among its connections", legend_columns=2)


def write_picture(source: ExportSource, out: Path) -> None:
    """Writes the figure in the format of the suffix of `out`."""
    options = source.options
    if len(source.connectomes) > 1:
        figure = evolution_figure(source.connectomes, source.statistics, options)
    else:
        shows_episode = not options.panels or any(letter in EPISODE_PANELS for letter in options.panels)
        episode = source.episode if shows_episode else None
        figure = connectome_figure(source.connectome, source.statistics[0], options, episode)
    save_figure(figure, out)
