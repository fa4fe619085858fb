"""Networks as one npz file: tables of connections and units, or the weights of a network of real numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from evoconn_cli.export.edges import edge_table
from evoconn_cli.export.episode import HiddenEpisode
from evoconn_cli.export.equations import constants_document
from evoconn_cli.export.source import ExportSource
from evoconn_cli.export.units import node_table


def write_npz(source: ExportSource, out: Path) -> None:
    """Writes an npz file that is read without pickle.

    A boolean network gives its tables, as `edges/COLUMN` and `nodes/COLUMN`, and `probs/NAME` `[pre, post]`, the
    probabilities of all possible connections; others give `kernels/NAME` `[pre, post]`, `biases/NAME` `[post]`,
    `normalizer/mean` and `normalizer/std`. Spiking ones have `gains/LAYER`. With an episode, there are `episode/NAME`
    and of real weights `initial/NAME`. `constants` and `provenance` are JSON text.

    Args:
        source: any network.
        out: the file.
    """
    np.savez_compressed(out, **npz_arrays(source, with_episode=source.options.with_episode))


def npz_arrays(source: ExportSource, *, with_episode: bool) -> dict[str, Any]:
    """Returns the arrays of the file by name."""
    connectome = source.connectome
    is_boolean = connectome.neuron_types is not None
    arrays: dict[str, Any] = _tables(source) if is_boolean else _weights(source, with_episode)
    if connectome.gains is not None:
        arrays |= {f"gains/{name}": np.array(gain) for name, gain in connectome.gains._asdict().items()}
    if with_episode:
        arrays |= {f"episode/{name}": values for name, values in source.any_episode.arrays().items()}
    arrays["constants"] = np.array(json.dumps(constants_document(connectome), ensure_ascii=False))
    arrays["provenance"] = np.array(json.dumps(source.provenance))
    return arrays


def _tables(source: ExportSource) -> dict[str, np.ndarray]:
    connectome = source.connectome
    tables = {"edges": edge_table(connectome), "nodes": node_table(connectome, source.episode)}
    columns = {f"{name}/{column}": values for name, table in tables.items() for column, values in table.items()}
    return columns | {f"probs/{name}": probs for name, probs in connectome.probs.items()}


def _weights(source: ExportSource, with_episode: bool) -> dict[str, np.ndarray]:
    """Returns the weights, and the state in which the episode begins; without one, there is none but of neurons."""
    connectome = source.connectome
    arrays = {"normalizer/mean": connectome.obs_mean, "normalizer/std": connectome.obs_std}
    arrays |= {f"kernels/{name}": kernel for name, kernel in connectome.kernels.items()}
    arrays |= {f"biases/{name}": bias for name, bias in connectome.biases.items()}
    initial: dict[str, np.ndarray] = {}
    if connectome.gains is not None:
        initial = source.episode.initial._asdict()
    elif with_episode:
        initial = cast(HiddenEpisode, source.any_episode).initial
    return arrays | {f"initial/{name}": values for name, values in initial.items()}
