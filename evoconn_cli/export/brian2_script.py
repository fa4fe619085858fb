"""Writes the format brian2: a script that runs the network in Brian2 and compares, with the arrays that it reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.table_files import npz_arrays
from evoconn_cli.export.units import neuron_signs, observation_weights

SCRIPT = Path(__file__).with_name("run_brian2.py")
"""It is copied and never imported, because Brian2 is no dependency."""


def write_brian2(source: ExportSource, out: Path) -> None:
    """Writes a directory with `run_brian2.py`, and with `network.npz` as in the format npz with its episode.

    Brian2 computes in float64. `steps_in_float64` of the npz is the number of steps that then give the recorded spikes:
    a potential can be so close to the threshold that the rounding decides, after which all spikes differ.

    Args:
        source: Source with a boolean network.
        out: Directory to make.

    Raises:
        EvoconnError: Spikes in float64 differ from the first step on.
    """
    steps = steps_in_float64(source.connectome, source.episode)
    if steps == 0:
        raise EvoconnError(
            "in float64, as Brian2 computes, other neurons spike in the first step than were recorded in float32. "
            "Choose another episode with --seed, or export a bundle, which is computed as it was recorded."
        )
    out.mkdir()
    shutil.copyfile(SCRIPT, out / SCRIPT.name)
    arrays = npz_arrays(source, with_episode=True)
    np.savez_compressed(out / "network.npz", **arrays, steps_in_float64=np.array(steps))


def steps_in_float64(connectome: Connectome, episode: Episode) -> int:
    """Returns the number of steps from the first one in which float64 gives the recorded spikes."""
    c, gains, initial = connectome.constants, connectome.gains, episode.initial
    recurrent = gains.recurrent * neuron_signs(connectome)[:, None] * connectome.layers["recurrent"]
    i_in = gains.input * (episode.normalized.astype(np.float64) @ observation_weights(connectome))
    v, i_syn, spikes = initial["v"].astype(np.float64), initial["i_syn"].astype(np.float64), initial["spikes"]
    for step, recorded in enumerate(episode.spikes):
        for now in recorded:
            i_syn = c.alpha_syn * i_syn + recurrent[spikes].sum(axis=0)
            target = c.v_rest + i_syn + i_in[step]
            v = target + c.alpha_m * (v - target)
            spikes = v > c.v_threshold
            if (spikes != now).any():
                return step
            v[spikes] = c.v_rest
    return episode.num_steps
