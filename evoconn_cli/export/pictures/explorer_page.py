"""Writes the format html: an interactive page of a connectome, without network access."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.config.formats import SORTS
from evoconn_cli.drawing import colors
from evoconn_cli.drawing.page_parts import fill_page, pack
from evoconn_cli.export.analysis.dynamics import (
    SHOWN_MS,
    Dynamics,
    communities_of,
    episode_dynamics,
    neuron_order,
    window_of,
)
from evoconn_cli.export.analysis.reports import statistics_rows
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.units import LAYERS, neuron_signs, unit_labels

_SCRIPTS = ("connectome.js", "matrix.js", "panels.js", "episode.js", "explorer.js")
_PROB_STEPS = 255
"""Probabilities are stored as bytes, to about 0.002."""


def write_explorer(source: ExportSource, out: Path) -> None:
    """Writes the interactive page of the last connectome and its episode."""
    connectome = source.connectome
    about = (
        f"generation {connectome.generation}, {connectome.policy} network of {connectome.num_neurons} neurons, "
        f"run {source.provenance.get('run', '')}"
    )
    dynamics = episode_dynamics(connectome, source.episode)
    shown = window_of(dynamics, SHOWN_MS)
    groups = [({"name": name}, _arrays(connectome, name)) for name in LAYERS]
    groups.append(({"name": "episode"}, _episode_arrays(dynamics, shown)))
    header = _header(source, about) | {
        "episode_steps": shown.stop - shown.start,
        "episode_ms": [float(time) for time in dynamics.times_ms[shown][[0, -1]]],
    }
    title, data = f"{connectome.config.task.name}: {about}", pack(header, "groups", groups)
    page = fill_page("evoconn_cli.export", scripts=_SCRIPTS, title=title, data=data)
    out.write_text(page, encoding="utf-8")


def _header(source: ExportSource, about: str) -> dict[str, Any]:
    connectome = source.connectome
    observations, actions = unit_labels(connectome)
    return {
        "labels": {"observations": observations, "actions": actions},
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
        "bits": np.packbits(connectome.layers[name]),
        "probs": np.round(connectome.probs[name] * _PROB_STEPS).astype(np.uint8),
    }


def _episode_arrays(dynamics: Dynamics, shown: slice) -> dict[str, np.ndarray]:
    lines = {f"rate_{name}": values for name, values in dynamics.rates.items()}
    lines |= {f"current_{name}": values for name, values in dynamics.currents.items()}
    return {
        "spikes": np.packbits(dynamics.spikes[shown]),
        **{name: values[shown].astype(np.float32) for name, values in lines.items()},
    }


def _css(rgb: colors.Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
