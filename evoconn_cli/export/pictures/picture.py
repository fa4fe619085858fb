"""The formats png, pdf and svg: the figure of a connectome, or of how it moved over several steps."""

from __future__ import annotations

from pathlib import Path

from evoconn_cli.drawing.canvas import save_figure
from evoconn_cli.export.pictures.connectome_figure import connectome_figure
from evoconn_cli.export.pictures.evolution_figure import evolution_figure
from evoconn_cli.export.source import EPISODE_PANELS, ExportSource


def write_picture(source: ExportSource, out: Path) -> None:
    """Writes the figure in the format of the suffix of `out`."""
    options = source.options
    given = {"width": options.width, "title": options.title, "panels": options.panels}
    if len(source.connectomes) > 1:
        figure = evolution_figure(source.connectomes, source.statistics, **given)
    else:
        shows_episode = not options.panels or any(letter in EPISODE_PANELS for letter in options.panels)
        episode = source.episode if shows_episode else None
        figure = connectome_figure(source.connectome, source.statistics[0], options.sort, episode, **given)
    save_figure(figure, out)
