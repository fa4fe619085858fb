"""Writes bundles: directories with a network, a recorded episode, and a NumPy simulator that reproduces it exactly."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from evoconn_cli.config.formats import PROVENANCE_FILE
from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.bundle import run_network
from evoconn_cli.export.bundle.document import NETWORK_FILE, network_document, readme, write_checksums
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.edges import edge_table
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.text_files import write_json, write_table
from evoconn_cli.export.units import neuron_signs, node_table

PACKED_FILE, EDGES_FILE = "kernels.npz", "edges.csv"

HOLDS = {
    "README.md": "what is in the directory",
    NETWORK_FILE: "sizes, constants, and how they are used",
    PACKED_FILE: "connections, packed",
    "csr/input.npz": "connections of the input layer, for SciPy",
    "csr/recurrent.npz": "recurrent connections, for SciPy",
    "csr/output.npz": "connections of the output layer, for SciPy",
    "neurons.npz": "signs and initial state of the neurons",
    "normalizer.npz": "mean and standard deviation of the observations",
    "probabilities.npz": "the evolved probability of each connection",
    EDGES_FILE: "connections, a line each",
    "nodes.csv": "inputs, neurons and actions, a line each",
    "episode.npz": "the recorded episode",
    PROVENANCE_FILE: "where the network comes from",
    "run_network.py": "the simulator",
}
"""Descriptions of the files of a bundle."""


def write_bundle(source: ExportSource, out: Path) -> None:
    """Writes the bundle of a boolean network.

    Args:
        source: Source with a boolean network.
        out: Directory to make.

    Raises:
        EvoconnError: The simulator does not reproduce the episode exactly.
    """
    connectome, episode = source.connectome, source.episode
    (out / "csr").mkdir(parents=True)
    _save(out / PACKED_FILE, {name: np.packbits(layer, axis=1) for name, layer in connectome.layers.items()})
    for name, layer in connectome.layers.items():
        scipy.sparse.save_npz(out / "csr" / f"{name}.npz", scipy.sparse.csr_array(layer))
    write_table(out / EDGES_FILE, edge_table(connectome))
    write_table(out / "nodes.csv", node_table(connectome, episode))
    _save(out / "neurons.npz", {"sign": neuron_signs(connectome), **episode.initial})
    seen = np.float32(connectome.obs_count)
    _save(out / "normalizer.npz", {"mean": connectome.obs_mean, "std": connectome.obs_std, "count": seen})
    _save(out / "probabilities.npz", connectome.probs)
    _save(out / "episode.npz", episode.arrays())
    write_json(out / PROVENANCE_FILE, source.provenance)
    shutil.copyfile(run_network.__file__, out / "run_network.py")
    (out / "README.md").write_text(readme(connectome, episode, HOLDS), encoding="utf-8")
    _write_network(out, connectome, episode)


def _write_network(out: Path, connectome: Connectome, episode: Episode) -> None:
    """Writes network.json with the roundings that make the simulator reproduce the episode, and the checksums."""
    failures = []
    for fused, exact in itertools.product((True, False), repeat=2):  # the usual roundings first
        write_json(out / NETWORK_FILE, network_document(connectome, episode, fused=fused, exact_actions=exact))
        write_checksums(out, HOLDS)
        network = run_network.Network(out)
        try:
            run_network.replay(network, episode.arrays())
            return
        except ValueError as error:
            failures.append((network.num_steps, str(error)))
    _, furthest = max(failures, key=lambda failure: failure[0])
    raise EvoconnError(
        f"NumPy does not replay what was recorded on this machine, so no bundle is written; {furthest} Other "
        "formats can be written, or the bundle on another machine."
    )


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez_compressed(path, **arrays)
