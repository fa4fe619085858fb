"""Writes the format html: an interactive page of a connectome, without network access."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evoconn_cli.config.formats import SORTS
from evoconn_cli.drawing import colors
from evoconn_cli.drawing.page_parts import fill_page, pack
from evoconn_cli.export.analysis.dynamics import communities_of, episode_dynamics, middle_of, neuron_order
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
    shown = middle_of(episode_dynamics(connectome, source.episode))
    activity = {f"rate_{name}": values.astype(np.float32) for name, values in shown.rates.items()}
    activity |= {f"current_{name}": values.astype(np.float32) for name, values in shown.currents.items()}
    groups = [({"name": name}, _arrays(connectome, name)) for name in LAYERS]
    groups.append(({"name": "episode"}, {"spikes": np.packbits(shown.spikes), **activity}))
    observations, actions = unit_labels(connectome)
    header = {
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
        "episode_steps": len(shown.times_ms),
        "episode_ms": shown.times_ms[[0, -1]].tolist(),
    }
    title, data = f"{connectome.config.task.name}: {about}", pack(header, "groups", groups)
    page = fill_page("evoconn_cli.export", scripts=_SCRIPTS, title=title, data=data)
    out.write_text(page, encoding="utf-8")


def _arrays(connectome: Connectome, name: str) -> dict[str, np.ndarray]:
    return {
        "bits": np.packbits(connectome.layers[name]),
        "probs": np.round(connectome.probs[name] * _PROB_STEPS).astype(np.uint8),
    }


def _css(rgb: colors.Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
