"""The format html: a page to look through a connectome in a browser, without a network."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.drawing import colors
from evoconn_cli.drawing.page_parts import fill, pack, read_web
from evoconn_cli.export.analysis.ordering import communities_of, neuron_order
from evoconn_cli.export.analysis.table import statistics_rows
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.projections import KERNELS
from evoconn_cli.export.source import SORTS, ExportSource
from evoconn_cli.export.units import neuron_signs

_SCRIPTS = ("connectome.js", "matrix.js", "panels.js", "explorer.js")
_PROB_STEPS = 255
"""Probabilities are stored in a byte, to about 0.002."""


def write_explorer(source: ExportSource, out: Path) -> None:
    """Writes the page."""
    connectome = source.connectome
    about = (
        f"generation {connectome.generation}, {connectome.policy} network of {connectome.num_neurons} neurons, "
        f"run {source.provenance.get('run', '')}"
    )
    groups = [({"name": name}, _arrays(connectome, name)) for name in KERNELS]
    parts = {
        "title": html.escape(f"{connectome.config.task.name}: {about}"),
        "style": _read("style.css"),
        "data": pack(_header(source, about), "kernels", groups),
        "scripts": "\n".join([read_web("evoconn_cli.drawing", "unpack.js"), *map(_read, _SCRIPTS)]),
    }
    out.write_text(fill(_read("page.html"), parts), encoding="utf-8")


def _read(name: str) -> str:
    return read_web("evoconn_cli.export", name)


def _header(source: ExportSource, about: str) -> dict[str, Any]:
    connectome = source.connectome
    return {
        "name": connectome.config.task.name,
        "about": about,
        "neurons": connectome.num_neurons,
        "observations": connectome.observation_size,
        "actions": connectome.action_size,
        "types": neuron_signs(connectome).tolist(),
        "communities": communities_of(connectome).tolist(),
        "sort": source.options.sort,
        "orders": {sort: neuron_order(connectome, sort).tolist() for sort in SORTS},
        "random_graphs": source.statistics[-1].random_graphs,
        "statistics": [[list(row) for row in section] for section in statistics_rows(source.statistics[-1])],
        "colors": {
            "dark": {"E": _css(colors.EXCITATORY), "I": _css(colors.INHIBITORY), "+": "#5cc596", "-": "#dd86b8"},
            "light": colors.ON_WHITE,
        },
    }


def _arrays(connectome: Connectome, name: str) -> dict[str, np.ndarray]:
    return {
        "bits": np.packbits(connectome.kernels[name]),
        "probs": np.round(connectome.probs[name] * _PROB_STEPS).astype(np.uint8),
    }


def _css(rgb: colors.Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
