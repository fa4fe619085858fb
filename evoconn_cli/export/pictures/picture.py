"""The format png: the figure of a connectome, or of how it moved over several steps, and its statistics as JSON."""

from __future__ import annotations

from pathlib import Path

from evoconn_cli.drawing.canvas import save_figure
from evoconn_cli.export.analysis.statistics_file import write_statistics_json
from evoconn_cli.export.pictures.connectome_figure import connectome_figure
from evoconn_cli.export.pictures.evolution_figure import evolution_figure
from evoconn_cli.export.source import ExportSource


def write_picture(source: ExportSource, out: Path) -> None:
    """Writes the figure in the format of the suffix of `out`, and beside it a file `NAME-statistics.json`."""
    if len(source.connectomes) == 1:
        figure = connectome_figure(source.connectome, source.statistics[0], source.options.sort)
    else:
        figure = evolution_figure(source.connectomes, source.statistics)
    save_figure(figure, out)
    write_statistics_json(source, out.with_name(f"{out.stem}-statistics.json"))
