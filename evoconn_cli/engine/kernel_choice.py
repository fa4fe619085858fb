"""Chooses the program for the sub-steps of the spiking network: XLA's, or the GPU kernel if found equal."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import numpy as np

from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import JaxDevice, WorkerMesh
from evoconn_cli.errors import ConfigError
from evoconn_cli.networks import Network, bits
from evoconn_cli.networks.conn_snn import ConnSnnCarry

_MEMBERS, _STEPS = 64, 4
"""Size of the start-up check: two million sub-steps of a neuron at the published sizes."""

_ROUNDING = 1e-4
"""Largest allowed difference of potentials, currents and rates, relative to their maximum; a spike is far more."""


class KernelChoice(NamedTuple):
    """Program for the sub-steps of a run."""

    name: Literal["xla", "pallas"]
    found: str | None = None  # reason for the choice, in words; None if there was no choice


class Comparison(NamedTuple):
    """Differences between two programs of a network."""

    spikes: int  # number that differ
    state: float  # largest difference of potentials, currents and rates, relative to their largest value

    @property
    def equal(self) -> bool:
        """Whether spikes are the same, and everything else except for rounding."""
        return self.spikes == 0 and self.state <= _ROUNDING

    def __str__(self) -> str:
        if not self.equal:
            return (
                f"the GPU kernel and XLA differ on this device, in {self.spikes} spikes and by {self.state:.1e} of the "
                "neurons' state"
            )
        how = "to the last bit" if self.state == 0 else f"except for rounding ({self.state:.1e} of the neurons' state)"
        return f"the GPU kernel and XLA are equal on this device {how}"


def choose_kernel(config: RunConfig, workers: WorkerMesh, network: Network, observation_size: int) -> KernelChoice:
    """Returns the kernel that `engine.kernel` asks for; `auto` takes the GPU kernel only if it is found equal.

    Args:
        config: Configuration of the run.
        workers: Devices.
        network: Network of the run, without the GPU kernel.
        observation_size: O.

    Raises:
        ConfigError: `pallas` is configured and cannot run.
    """
    asked = config.engine.kernel
    is_candidate = network.fused is not None and not workers.on_cpu
    if asked == "xla" or (asked == "auto" and not is_candidate):
        return KernelChoice("xla")
    found = _objection(config, workers) or _compare_on(workers.first_device, observation_size, network)
    if asked == "pallas":
        if isinstance(found, str):
            raise _refusal(found)
        return KernelChoice("pallas", f"engine.kernel=pallas: {found}.")
    name = "pallas" if isinstance(found, Comparison) and found.equal else "xla"
    return KernelChoice(name, f"engine.kernel=auto is {name}: {found}.")


def check_kernel(config: RunConfig, workers: WorkerMesh) -> None:
    """Checks, without running it, that the devices can run the kernel that `engine.kernel` asks for.

    Raises:
        ConfigError: They cannot.
    """
    objection = _objection(config, workers)
    if config.engine.kernel == "pallas" and objection is not None:
        raise _refusal(objection)


def compare(
    ours: Network, theirs: Network, *, candidates: dict[str, jax.Array], keys: jax.Array, observations: jax.Array
) -> Comparison:
    """Returns the differences between two programs of the spiking network after each environment step.

    Args:
        ours: Network with one program.
        theirs: Network with the other program.
        candidates: Packed connections `[B, ...]`.
        keys: `[B]` keys of the initial states.
        observations: `[T, B, O]`.
    """
    a, b = (jax.device_get(jax.jit(partial(_carries, net))(candidates, keys, observations)) for net in (ours, theirs))
    states = zip(a.neurons, b.neurons, strict=True)
    return Comparison(
        spikes=int(np.bitwise_count(a.spikes ^ b.spikes).sum()),
        state=float(np.max([np.abs(x - y).max() / max(np.abs(y).max(), 1e-30) for x, y in states])),
    )


def _refusal(objection: str) -> ConfigError:
    return ConfigError(
        f"engine.kernel=pallas: {objection}. Use xla or auto; to resume a run, set it in its config.yaml."
    )


def _objection(config: RunConfig, workers: WorkerMesh) -> str | None:
    """Returns why the GPU kernel cannot run, or None if no reason is known before it is tried."""
    entry = find("network", config.network.name)
    if entry.gpu_kernel and workers.on_cpu:
        return "it needs a GPU, and this run computes on the CPU"
    return entry.why_no_gpu_kernel(config.network)


def _compare_on(device: JaxDevice, observation_size: int, network: Network) -> Comparison | str:
    """Returns the differences between the GPU kernel and XLA on random members, or why the kernel does not run."""
    assert network.fused is not None
    random = np.random.default_rng(0)
    shapes = {name: (_MEMBERS, bits.num_words(x.shape[0]), x.shape[1]) for name, x in network.shapes.items()}
    candidates = {name: random.integers(2**32, size=shape, dtype=np.uint32) for name, shape in shapes.items()}
    observations = random.normal(size=(_STEPS, _MEMBERS, observation_size)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), _MEMBERS)
    drawn = {"candidates": candidates, "keys": keys, "observations": observations}
    try:
        return compare(network.fused(False), network, **jax.device_put(drawn, device))
    except Exception as error:  # Pallas, Triton and XLA raise anything if a kernel cannot be compiled
        reason = str(error).strip().partition("\n")[0][:200]
        return f"the GPU kernel does not run on this device ({type(error).__name__}: {reason})"


def _carries(
    network: Network, candidates: dict[str, jax.Array], keys: jax.Array, observations: jax.Array
) -> ConnSnnCarry:
    """Returns the state of the network after each environment step, `[T, B, ...]`."""
    params = network.prepare(candidates)

    def step(carry: ConnSnnCarry, obs: jax.Array) -> tuple[ConnSnnCarry, ConnSnnCarry]:
        carry = network.step(params, carry, obs)[0]
        return carry, carry

    return jax.lax.scan(step, network.initial_carry(keys), observations)[1]
