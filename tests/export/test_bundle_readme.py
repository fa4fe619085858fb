"""A bundle's README says enough: a simulator written from it and network.json alone computes the same bits.

Plain Python, number by number, with exact fractions where the README asks for a single rounding. It shares nothing
with `run_network.py`, not even NumPy's float32 arithmetic on arrays.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from test_bundle import SETTINGS, source_of

from evoconn_cli.export.bundle.writing import write_bundle


def rounded(exact: Fraction) -> float:
    """Returns the nearest float32, ties to even, and 0 for what is subnormal."""
    top, bottom = exact.numerator, exact.denominator
    exponent = top.bit_length() - bottom.bit_length() - 24  # of the last place, unless the quotient has 25 bits
    while True:
        scaled, unit = (top << -exponent, bottom) if exponent < 0 else (top, bottom << exponent)
        if abs(scaled) < unit << 24:
            break
        exponent += 1
    places, rest = divmod(scaled, unit)
    places += 2 * rest > unit or (2 * rest == unit and places % 2)
    found = math.ldexp(places, exponent)
    return found if abs(found) >= 2.0**-126 else 0.0


def add(a, b):
    return rounded(Fraction(a) + Fraction(b))


def times(a, b):
    return rounded(Fraction(a) * Fraction(b))


def over(a, b):
    return rounded(Fraction(a) / Fraction(b))


def total(terms):
    found = 0.0
    for term in terms:
        found = add(found, term) if term else found
    return found


def windowed(terms):
    while len(terms) > 32:
        missing = -len(terms) % 32
        terms = [0.0] * (missing // 2) + terms + [0.0] * (missing - missing // 2)
        terms = [total(terms[first : first + 32]) for first in range(0, len(terms), 32)]
    return total(terms)


class Simulator:
    def __init__(self, folder: Path):
        about = json.loads((folder / "network.json").read_text())
        self.c = {name: float.fromhex(one["float32"]) for name, one in about["constants"].items()}
        self.fused, self.sizes = about["arithmetic"]["fused"], about["sizes"]
        n, a = self.sizes["neurons"], self.sizes["actions"]
        layers, neurons, normalizer = (np.load(folder / f"{x}.npz") for x in ("kernels", "neurons", "normalizer"))
        widths = {"input": n, "recurrent": n, "output": a}
        self.k = {name: np.unpackbits(layers[name], axis=1, count=w).tolist() for name, w in widths.items()}
        self.sign = neurons["sign"].tolist()
        self.v, self.i_syn, self.rate, self.spikes = (neurons[x].tolist() for x in ("v", "i_syn", "rate", "spikes"))
        self.mean, self.std = normalizer["mean"].tolist(), normalizer["std"].tolist()

    def fma(self, a, b, c):
        return rounded(Fraction(a) * Fraction(b) + Fraction(c)) if self.fused else add(times(a, b), c)

    def step(self, observation):
        c, k, size = self.c, self.k, len(self.mean)
        neurons = range(self.sizes["neurons"])
        observation = [rounded(Fraction(value)) for value in observation]
        self.x = [over(add(o, -m), s) for o, m, s in zip(observation, self.mean, self.std, strict=True)]
        acts = [[k["input"][o][n] - k["input"][size + o][n] for o in range(size)] for n in neurons]
        self.i_in = [
            times(c["gain_input"], total(w * x for w, x in zip(acts[n], self.x, strict=True))) for n in neurons
        ]
        recorded = []
        for _ in range(self.sizes["substeps"]):
            fired = [m for m in neurons if self.spikes[m]]
            for n in neurons:
                arrived = sum(k["recurrent"][m][n] * self.sign[m] for m in fired)
                self.i_syn[n] = self.fma(c["alpha_syn"], self.i_syn[n], times(c["gain_recurrent"], arrived))
                target = add(add(c["v_rest"], self.i_syn[n]), self.i_in[n])
                self.v[n] = self.fma(c["alpha_m"], add(self.v[n], -target), target)
            self.spikes = [v > c["v_threshold"] for v in self.v]
            for n in neurons:
                self.v[n] = c["v_rest"] if self.spikes[n] else self.v[n]
                impulse = over(self.sign[n], c["dt"]) if self.spikes[n] else 0.0
                self.rate[n] = self.fma(c["alpha_out"], add(self.rate[n], -impulse), impulse)
            recorded.append(self.spikes)
        sums = [windowed([k["output"][n][a] * self.rate[n] for n in neurons]) for a in range(self.sizes["actions"])]
        self.raw_action = [times(c["gain_output"], found) for found in sums]
        return recorded, [min(1.0, max(-1.0, a)) for a in self.raw_action]


def replayed(folder: Path, steps: int) -> None:
    """Asserts that the simulator computes the first steps of the recorded episode of a bundle."""
    with np.load(folder / "episode.npz") as arrays:
        episode = dict(arrays)
    simulator = Simulator(folder)
    spikes = np.unpackbits(episode["spikes"], axis=2, count=simulator.sizes["neurons"])
    for step, observation in enumerate(episode["observation"][:steps].tolist()):
        recorded, action = simulator.step(observation)
        np.testing.assert_array_equal(recorded, spikes[step])
        for name in ("x", "i_in", "v", "i_syn", "rate", "raw_action"):
            np.testing.assert_array_equal(np.float32(getattr(simulator, name)), episode[name][step], err_msg=name)
        np.testing.assert_array_equal(np.float32(action), episode["action"][step])


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_simulator_written_from_the_readme_computes_the_same_bits(tmp_path, name):
    source = source_of(tmp_path / "run", *SETTINGS[name])
    write_bundle(source, tmp_path / "bundle")
    replayed(tmp_path / "bundle", steps=55 if name == "silent" else 5)


@pytest.mark.slow
def test_every_array_and_constant_has_the_name_of_the_equations(tmp_path):
    write_bundle(source_of(tmp_path / "run"), tmp_path / "bundle")
    readme = (tmp_path / "bundle" / "README.md").read_text()
    about = json.loads((tmp_path / "bundle" / "network.json").read_text())
    for file in ("kernels", "neurons", "normalizer", "probabilities", "episode"):
        with np.load(tmp_path / "bundle" / f"{file}.npz") as arrays:
            for name in arrays:
                assert f"`{name}`" in readme, name
    equations = " ".join(about["update"])
    unused = {"tau_syn", "tau_m", "tau_out"}  # in the decay factors
    assert all(name in equations for name in set(about["constants"]) - unused)
    assert all(line in readme for line in (*about["update"], *about["arithmetic"]["rules"]))
    assert "33 sub-steps of 0.5 ms, 16.5 ms for the network" in readme
