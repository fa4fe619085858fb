"""The formats png, pdf and svg: the figure of a connectome, or of how it moved over several steps."""

from __future__ import annotations

from pathlib import Path

from evoconn_cli.drawing.canvas import save_figure
from evoconn_cli.export.pictures.connectome_figure import connectome_figure
from evoconn_cli.export.pictures.evolution_figure import evolution_figure
from evoconn_cli.export.source import ExportSource


def write_picture(source: ExportSource, out: Path) -> None:
    """Writes the figure in the format of the suffix of `out`."""
    if len(source.connectomes) == 1:
        figure = connectome_figure(source.connectome, source.statistics[0], source.options.sort)
    else:
        figure = evolution_figure(source.connectomes, source.statistics)
    save_figure(figure, out)
