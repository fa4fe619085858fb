"""Runs the network of this directory with NumPy alone, and replays its recorded episode spike by spike.

    python run_network.py                  checks every file, replays episode.npz, compares

    from run_network import Network        in a program of your own, beside this file
    network = Network(".")                 the directory of the bundle
    action = network.step(observation)     once an environment step; reset() starts a new episode

Everything that decides a spike is computed in float32 with the roundings of the recording: see `multiply_add`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

SMALLEST = 2.0**-126  # of the normal float32 numbers
NAMES_OF_VERSION_1 = {
    "types": "sign",
    "observations": "observation",
    "normalized": "x",
    "input_currents": "i_in",
    "potentials": "v",
    "synaptic_currents": "i_syn",
    "rates": "rate",
    "raw_actions": "raw_action",
    "actions": "action",
    "rewards": "reward",
}


class Network:
    """A spiking network of boolean connections; after each step its attributes tell what happened.

    `x` [O] normalised observation, `i_in` [N] input current, `spikes` [S, N] bool, `v` [N] membrane potentials,
    `i_syn` [N] synaptic currents, `rate` [N] signed rates [1/ms], `raw_action` [A] before the clipping, `num_steps`
    since the last reset.
    """

    def __init__(self, folder):
        folder = Path(folder)
        check_files(folder, may_change=("kernels.npz", "README.md", "run_network.py", "episode.npz"))
        about = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        self.sizes, arithmetic = about["sizes"], about["arithmetic"]
        self.fused, self.exact_actions = arithmetic["fused"], arithmetic["exact_actions"]
        self.constants = {name: np.float32(float.fromhex(one["float32"])) for name, one in about["constants"].items()}
        inputs, neurons, actions = (self.sizes[name] for name in ("inputs", "neurons", "actions"))
        packed, normalizer = load(folder / "kernels.npz"), load(folder / "normalizer.npz")
        plus, minus = np.split(unpack(packed["input"], (inputs, neurons)).astype(np.float32), 2)
        self.input = plus - minus  # the input is [x, -x]
        self.initial = load(folder / "neurons.npz")
        self.sign = self.initial.pop("sign")  # +1 excitatory, -1 inhibitory
        self.recurrent = unpack(packed["recurrent"], (neurons, neurons)) * self.sign[:, None].astype(np.int32)
        self.output = unpack(packed["output"], (neurons, actions)).astype(np.float32)
        self.mean, self.std = normalizer["mean"], normalizer["std"]
        self.reset()

    def reset(self):
        """Goes back to the state in which the recorded episode began."""
        self.v, self.i_syn, self.rate = (self.initial[name].copy() for name in ("v", "i_syn", "rate"))
        self.last = self.initial["spikes"]
        self.num_steps = 0

    def step(self, observation):
        """Returns the action [A] after one environment step, from an observation [O] as the task gives it."""
        c = self.constants
        self.x = flushed(flushed(flushed(np.asarray(observation, np.float32)) - self.mean) / self.std)
        self.i_in = flushed(c["gain_input"] * in_order(self.input * self.x[:, None]))
        self.spikes = np.array([self.substep() for _ in range(self.sizes["substeps"])])
        self.raw_action = flushed(c["gain_output"] * self.sum_over_neurons(self.output * self.rate[:, None]))
        self.num_steps += 1
        return np.clip(self.raw_action, np.float32(-1), np.float32(1))

    def substep(self):
        """Returns which neurons spike [N]; the spikes of the sub-step before arrive first."""
        c = self.constants
        arrived = self.recurrent[self.last].sum(axis=0).astype(np.float32)  # excitatory minus inhibitory
        self.i_syn = self.multiply_add(c["alpha_syn"], self.i_syn, c["gain_recurrent"] * arrived)
        target = flushed(flushed(c["v_rest"] + self.i_syn) + self.i_in)
        self.v = self.multiply_add(c["alpha_m"], flushed(self.v - target), target)
        spike = self.v > c["v_threshold"]
        self.v = np.where(spike, c["v_rest"], self.v)
        impulse = np.where(spike, self.sign, 0).astype(np.float32) / c["dt"]
        self.rate = self.multiply_add(c["alpha_out"], flushed(self.rate - impulse), impulse)
        self.last = spike
        return spike

    def multiply_add(self, a, b, c):
        """Returns `a·b + c`, rounded once to float32 where the recording did so ("fused"), and twice otherwise."""
        if not self.fused:
            return flushed(flushed(a * b) + c)
        product, c = np.multiply(a, b, dtype=np.float64), np.float64(c)  # the product is exact
        total = product + c
        part = total - product
        lost = (product - (total - part)) + (c - part)  # what the sum has rounded away
        to_odd = (lost != 0) & (total.view(np.int64) % 2 == 0)  # then the second rounding errs no more
        total = np.where(to_odd, np.nextafter(total, np.where(lost > 0, np.inf, -np.inf)), total)
        return flushed(total.astype(np.float32))

    def sum_over_neurons(self, terms):
        """Returns the sum of `terms` [N, A] over neurons: of every 32, then of these sums, as the recording has it."""
        while len(terms) > 32:
            windows = -(-len(terms) // 32)
            missing = 32 * windows - len(terms)
            padded = np.pad(terms, ((missing // 2, missing - missing // 2), (0, 0)))
            terms = in_order(padded.reshape(windows, 32, -1).swapaxes(0, 1))
        return in_order(terms)


def load(path):
    """Returns the arrays of an npz file, by the names that they have in README.md."""
    with np.load(path) as arrays:
        return {NAMES_OF_VERSION_1.get(name, name): arrays[name] for name in arrays}


def unpack(bits, shape):
    """Returns a kernel `[pre, post]` of 0 and 1, from bits packed along `post` as by `numpy.packbits`, or from bool."""
    if bits.dtype == bool and bits.shape == shape:
        return bits.astype(np.uint8)
    if bits.shape != (shape[0], -(-shape[1] // 8)):
        raise ValueError(f"kernels.npz: a kernel of {shape[0]} x {shape[1]} has bits of the shape {bits.shape}.")
    return np.unpackbits(bits, axis=1, count=shape[1])


def flushed(x):
    """Returns `x` with 0 for what is too small for a normal float32, as the recording's processor has it."""
    return np.where(np.abs(x) < SMALLEST, np.float32(0), x)


def in_order(terms):
    """Returns the sum over the first axis, added one after the other."""
    total = np.zeros_like(terms[0])
    for term in terms:
        total = flushed(total + term)
    return total


def check_files(folder, may_change=()):
    """Raises ValueError at the first file that is not what was exported, but for those of which another is of use."""
    try:
        listed = json.loads((folder / "checksums.json").read_text(encoding="utf-8"))
        files, own = listed["files"], listed["checksum"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checksums.json cannot be read: {error}") from None
    if hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest() != own:
        raise ValueError("checksums.json was changed: its own checksum is another one.")
    for name, (digest, holds) in files.items():
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing ({holds}).")
        if name not in may_change and hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{name} was changed ({holds}): its checksum is another one.")


def replay(network, episode):
    """Returns how many spikes were computed; raises ValueError where the recording has something else.

    Args:
        network: at the start of the episode.
        episode: arrays of episode.npz, from `load`; of a compact bundle, observations, spikes and read-out alone.
    """
    num_neurons, total = network.sizes["neurons"], 0

    def check(what, name, step, computed, exact=True):
        if name in episode:
            compare(what, step, computed, episode[name][step], exact)

    recorded = np.unpackbits(episode["spikes"], axis=2, count=num_neurons).astype(bool)
    for step, observation in enumerate(episode["observation"]):
        action = network.step(observation)
        check("normalised observation", "x", step, network.x)
        check("input current", "i_in", step, network.i_in)
        if not np.array_equal(network.spikes, recorded[step]):
            substep, neuron = np.argwhere(network.spikes != recorded[step])[0]
            was, now = ("a spike" if x[substep, neuron] else "none" for x in (recorded[step], network.spikes))
            raise ValueError(
                f"step {step}, sub-step {substep}, neuron {neuron}: {was} was recorded, computed is {now}."
            )
        check("synaptic current", "i_syn", step, network.i_syn)
        check("membrane potential", "v", step, network.v)
        check("rate", "rate", step, network.rate)
        check("read-out", "raw_action", step, network.raw_action, network.exact_actions)
        check("action", "action", step, action, network.exact_actions)
        total += int(network.spikes.sum())
    return total


def compare(what, step, computed, recorded, exact=True):
    """Raises ValueError at the first number that is not what was recorded, to the last bit or to 1e-5."""
    if not np.array_equal(computed, recorded):
        differs = computed != recorded if exact else ~np.isclose(computed, recorded, rtol=0, atol=1e-5)
        if not differs.any():
            return
        (index,) = np.argwhere(differs)[0]
        raise ValueError(f"step {step}, {what} {index}: {recorded[index]} was recorded, computed is {computed[index]}.")


def main(folder):
    """Checks the files and replays the episode."""
    check_files(folder)
    episode = load(folder / "episode.npz")
    network = Network(folder)
    total, (steps, substeps) = replay(network, episode), episode["spikes"].shape[:2]
    print(f"{total} spikes in {steps} steps of {substeps} sub-steps: all as recorded, and so are all")
    if "v" in episode:
        actions = "and actions, to the last bit" if network.exact_actions else "to the last bit, and actions to 1e-5"
        print(f"currents, potentials, rates {actions}.")
    else:
        print(f"read-outs, to {'the last bit' if network.exact_actions else '1e-5'}.")


if __name__ == "__main__":
    try:
        main(Path(__file__).parent)
    except ValueError as error:
        sys.exit(f"not as recorded: {error}")
