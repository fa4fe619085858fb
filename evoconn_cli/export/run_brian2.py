"""Runs the network of this directory in Brian2 on its recorded input: every spike has to be the recorded one.

    pip install brian2 'numpy<2.4'         Brian2 2.9 does not run with a newer NumPy
    python run_brian2.py

The recording is in float32, Brian2 computes in float64. Where a potential is so close to the threshold that the
rounding decides, the two part: `steps_in_float64` says after how many steps, and those are run.
"""

import json
from pathlib import Path

import brian2 as b2
import numpy as np

data = np.load(Path(__file__).with_name("network.npz"))
constants = {name: one["value"] for name, one in json.loads(str(data["constants"]))["constants"].items()}
nodes, layer = data["nodes/population"] == "neurons", data["edges/layer"]
pre, post, weight = data["edges/pre_index"], data["edges/post_index"], data["edges/weight"]
size, steps = int(nodes.sum()), int(data["steps_in_float64"])
recorded = np.unpackbits(data["episode/spikes"][:steps], axis=2, count=size).reshape(-1, size)

b2.defaultclock.dt = dt = constants["dt"] * b2.ms
x = data["episode/x"][:steps].astype(float)
x = np.concatenate([x, -x], axis=1)
current = np.zeros((steps, size))
here = layer == "input"
np.add.at(current.T, post[here], x.T[pre[here]] * weight[here, None])
i_in = b2.TimedArray(current, dt=dt * (len(recorded) // steps))  # held for all sub-steps of a step

tau_m, tau_syn = constants["tau_m"] * b2.ms, constants["tau_syn"] * b2.ms
v_rest, v_threshold = constants["v_rest"], constants["v_threshold"]
equations = "dv/dt = (v_rest + i_syn + i_in(t, i) - v) / tau_m : 1\ndi_syn/dt = -i_syn / tau_syn : 1"
neurons = b2.NeuronGroup(
    size, equations, threshold="v > v_threshold", reset="v = v_rest", method="exponential_euler"
)  # the methods exact and euler compute other potentials
here = layer == "recurrent"
synapses = b2.Synapses(neurons, neurons, "w : 1", on_pre="i_syn_post += w")
synapses.connect(i=pre[here], j=post[here])
synapses.w = weight[here]
# Brian2 adds spikes at the end of a sub-step, so its i_syn is ahead by one decay and the spikes of the sub-step before.
arriving = np.bincount(post[here], weight[here] * data["nodes/spiked_init"][nodes][pre[here]], size)
neurons.v = data["nodes/v_init"][nodes]
neurons.i_syn = constants["alpha_syn"] * data["nodes/i_syn_init"][nodes] + arriving

monitor = b2.SpikeMonitor(neurons)
b2.run(len(recorded) * dt)
found = np.zeros_like(recorded)
found[np.round(monitor.t / dt).astype(int), monitor.i] = 1
same = (found == recorded).all(axis=1)
assert same.all(), f"sub-step {same.argmin()}: other neurons spike than were recorded"
print(f"{recorded.sum()} spikes in {steps} of {len(data['episode/x'])} recorded steps: all as recorded")
