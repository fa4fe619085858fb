"""Writing a bundle: a directory with a network, a recorded episode, and a simulator that replays it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoconn_cli.export.episode import Episode

if TYPE_CHECKING:
    from evoconn_cli.export.formats import ExportSource


def write_bundle(source: ExportSource, out: Path) -> None:
    """Writes the bundle of a boolean network.

    Args:
        source: the network and its episode.
        out: the directory, which is made.
    """
    out.mkdir()
    kernels = source.connectome.kernels
    _save(out / "kernels.npz", {name: np.packbits(kernel, axis=1) for name, kernel in kernels.items()})
    _save(out / "episode.npz", episode_arrays(source.episode))


def episode_arrays(episode: Episode) -> dict[str, np.ndarray]:
    """Returns the arrays of an episode by name, spikes packed along the neurons as by `numpy.packbits`."""
    return {
        "observations": episode.observations,
        "normalized": episode.normalized,
        "input_currents": episode.input_currents,
        "spikes": np.packbits(episode.spikes, axis=2),
        "potentials": episode.states.v,
        "synaptic_currents": episode.states.i_syn,
        "rates": episode.states.rate,
        "raw_actions": episode.raw_actions,
        "actions": episode.actions,
        "rewards": episode.rewards,
    }


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez_compressed(path, **arrays)
