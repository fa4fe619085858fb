"""A recorded episode in the form of NIR's own data: what each node of the graph gave, sub-step by sub-step."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np

from evoconn_cli.export.episode import Episode


def write_recording(episode: Episode, dt_s: float, out: Path) -> None:
    """Writes an episode as `nir.NIRGraphData`, one sample.

    On the grid of sub-steps: `input/x`, what to feed, and `neurons/spikes`. On the grid of environment steps, at the
    end of each: `neurons/v`, `synapses/v` and `output/action`, before it is clipped.

    Args:
        episode: of the network whose graph is beside it.
        dt_s: length of a sub-step [s].
        out: the file.
    """
    num_substeps = episode.spikes.shape[1]
    neurons = episode.spikes.shape[2]
    x = np.repeat(episode.normalized, num_substeps, axis=0)

    def gridded(values: np.ndarray, dt: float) -> nir.TimeGriddedData:
        return nir.TimeGriddedData(values[None], dt)

    step_s = num_substeps * dt_s
    observables: dict[str, dict[str, nir.TimeGriddedData | nir.EventData]] = {
        "input": {"x": gridded(x, dt_s)},
        "neurons": {
            "spikes": gridded(episode.spikes.reshape(-1, neurons), dt_s),
            "v": gridded(episode.states.v, step_s),
        },
        "synapses": {"v": gridded(episode.states.i_syn, step_s)},
        "output": {"action": gridded(episode.raw_actions, step_s)},
    }
    nir.write_data(str(out), nir.NIRGraphData({name: nir.NIRNodeData(of) for name, of in observables.items()}))
