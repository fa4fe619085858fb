"""The format png: the figure of a connectome, or of how it moved over several steps, and its statistics as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from evoconn_cli.drawing.canvas import save_figure
from evoconn_cli.export.analysis.evolution import evolution_as_json
from evoconn_cli.export.analysis.statistics import as_json
from evoconn_cli.export.formats import ExportSource
from evoconn_cli.export.pictures.connectome_figure import connectome_figure
from evoconn_cli.export.pictures.evolution_figure import evolution_figure


def write_picture(source: ExportSource, out: Path) -> None:
    """Writes the figure in the format of the suffix of `out`, and beside it a file `NAME-statistics.json`."""
    statistics = source.statistics
    if len(source.connectomes) == 1:
        figure = connectome_figure(source.connectome, statistics[0], source.options.sort)
        facts = as_json(statistics[0])
    else:
        figure = evolution_figure(source.connectomes, statistics)
        facts = evolution_as_json(source.connectomes, statistics)
    save_figure(figure, out)
    text = json.dumps({"provenance": source.provenance, **facts}, indent=2, allow_nan=False)
    out.with_name(f"{out.stem}-statistics.json").write_text(text + "\n", encoding="utf-8")
