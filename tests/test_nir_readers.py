"""The NIR graph, run by a simulator that others wrote. Neither torch nor norse is a dependency: pip install norse."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from export_runs import recorded_source

from evoconn_cli.export.nir_graph import write_nir

pytestmark = pytest.mark.filterwarnings("ignore")
torch = pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
nirtorch = pytest.importorskip("nirtorch", minversion="2.6", reason="nirtorch is not installed", exc_type=ImportError)
norse = pytest.importorskip("norse.torch", reason="norse is not installed", exc_type=ImportError)


def test_norse_gives_the_recorded_spikes_and_actions(tmp_path):
    write_nir(recorded_source(tmp_path / "run", nir_tau="euler"), tmp_path / "x.nir")
    graph, recording = nir.read(tmp_path / "x.nir"), nir.read_data(str(tmp_path / "x-recording.h5"))
    module = nirtorch.nir_to_torch(graph, node_map(dt=float(graph.metadata["dt"])))
    state = dict.fromkeys(graph.nodes)
    initial = torch.from_numpy(graph.nodes["neurons"].metadata["initial_v"])[None]
    state["neurons"] = norse.functional.lif_box.LIFBoxFeedForwardState(v=initial)
    spikes, outputs = [], []
    with torch.no_grad():
        for x in torch.from_numpy(recording.nodes["input"].observables["x"].data[0]):
            output, state = module(x[None], state)
            spikes.append(state["neurons_prev_output"][0].numpy())
            outputs.append(output[0].numpy())
    np.testing.assert_array_equal(spikes, recording.nodes["neurons"].observables["spikes"].data[0])
    substeps = int(graph.metadata["substeps"])
    actions = recording.nodes["output"].observables["action"].data[0]
    np.testing.assert_allclose(outputs[substeps - 1 :: substeps], actions, rtol=1e-4, atol=1e-5)


def node_map(dt: float):
    """Returns what norse has for each node."""

    def lif(node: nir.LIF):
        parameters = norse.LIFBoxParameters(
            tau_mem_inv=1 / torch.from_numpy(node.tau),
            v_leak=torch.from_numpy(node.v_leak),
            v_th=torch.from_numpy(node.v_threshold),
            v_reset=torch.from_numpy(node.v_reset),
        )
        return norse.LIFBoxCell(parameters, dt=dt)

    def li(node: nir.LI):
        parameters = norse.LIBoxParameters(1 / torch.from_numpy(node.tau), torch.from_numpy(node.v_leak))
        return norse.LIBoxCell(parameters, dt=dt)

    def affine(node: nir.Affine):
        layer = torch.nn.Linear(*node.weight.shape[::-1])
        layer.weight.data, layer.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return layer

    return {nir.LIF: lif, nir.LI: li, nir.Affine: affine}
