"""Networks as one npz file: tables of connections and units, or the weights of a network of real numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.edges import edge_table
from evoconn_cli.export.source import ExportSource
from evoconn_cli.export.units import node_table


def write_npz(source: ExportSource, out: Path) -> None:
    """Writes an npz file that is read without pickle.

    A boolean network gives its tables, as `edges/COLUMN` and `nodes/COLUMN`, and `probs/NAME` `[pre, post]`, the
    probabilities of all possible connections; others give `kernels/NAME` `[pre, post]`, `biases/NAME` `[post]`,
    `normalizer/mean` and `normalizer/std`. Spiking ones have `gains/LAYER`. `provenance` is JSON text.

    Args:
        source: any network.
        out: the file.
    """
    connectome = source.connectome
    arrays: dict[str, Any] = _tables(connectome) if connectome.neuron_types is not None else _weights(connectome)
    if connectome.gains is not None:
        arrays |= {f"gains/{name}": np.array(gain) for name, gain in connectome.gains._asdict().items()}
    arrays["provenance"] = np.array(json.dumps(source.provenance))
    np.savez_compressed(out, **arrays)


def _tables(connectome: Connectome) -> dict[str, np.ndarray]:
    tables = {"edges": edge_table(connectome), "nodes": node_table(connectome)}
    columns = {f"{name}/{column}": values for name, table in tables.items() for column, values in table.items()}
    return columns | {f"probs/{name}": probs for name, probs in connectome.probs.items()}


def _weights(connectome: Connectome) -> dict[str, np.ndarray]:
    arrays = {"normalizer/mean": connectome.obs_mean, "normalizer/std": connectome.obs_std}
    arrays |= {f"kernels/{name}": kernel for name, kernel in connectome.kernels.items()}
    return arrays | {f"biases/{name}": bias for name, bias in connectome.biases.items()}
