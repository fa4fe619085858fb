"""A recorded episode, which other simulators can replay without the task.

Observations are recorded as the network saw them, so a simulator that is given them computes the same spikes,
whatever its actions would have led to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.episodes import episode_keys
from evoconn_cli.engine.policy import PolicyParams
from evoconn_cli.engine.recording import PlayedStep, play_in_parts
from evoconn_cli.errors import EvoconnError
from evoconn_cli.networks import Carry, Network
from evoconn_cli.tasks import Task


class NeuronState(NamedTuple):
    """State of the neurons between two environment steps; `...` are steps or none."""

    v: np.ndarray  # [..., N] float32 membrane potential
    i_syn: np.ndarray  # [..., N] float32 synaptic current
    rate: np.ndarray  # [..., N] float32 signed read-out rate [1/ms]
    spikes: np.ndarray  # [..., N] bool spikes of the last sub-step


@dataclass(frozen=True, kw_only=True)
class AnyEpisode:
    """One episode of T environment steps.

    Attributes:
        seed: Random seed of the initial states; the episode is number 0 of `evoconn evaluate` with this seed.
        dt_s: Time that the task simulates per step [s].
        observations: `[T, O]` float32 as the task gave them.
        normalized: `[T, O]` float32 as the network saw them.
        raw_actions: `[T, A]` float32 as the network gave them.
        actions: `[T, A]` float32, clipped to [-1, 1], as the task took them.
        rewards: `[T]` float32.
        ended: Whether the task was over after the last step; otherwise the episode was cut.
        steps_as_trained: Number of steps after which training's program, from the same state, gives the same next
            state to the last bit.
    """

    seed: int
    dt_s: float
    observations: np.ndarray
    normalized: np.ndarray
    raw_actions: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ended: bool
    steps_as_trained: int

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.rewards)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by their names in the equations of the network."""
        return {
            "observation": self.observations,
            "x": self.normalized,
            "raw_action": self.raw_actions,
            "action": self.actions,
            "reward": self.rewards,
        }


@dataclass(frozen=True, kw_only=True)
class Episode(AnyEpisode):
    """One episode of a spiking network, whose steps have S sub-steps.

    Attributes:
        initial: `[N]` state of the neurons before the first step.
        input_currents: `[T, N]` float32, the same in all sub-steps of a step.
        spikes: `[T, S, N]` bool.
        states: `[T, N]` state of the neurons after each step.
    """

    initial: NeuronState
    input_currents: np.ndarray
    spikes: np.ndarray
    states: NeuronState

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by name, spikes packed along the neurons as by `numpy.packbits`."""
        return {
            **super().arrays(),
            "i_in": self.input_currents,
            "spikes": np.packbits(self.spikes, axis=2),
            "v": self.states.v,
            "i_syn": self.states.i_syn,
            "rate": self.states.rate,
        }


@dataclass(frozen=True, kw_only=True)
class HiddenEpisode(AnyEpisode):
    """One episode of a network without spikes.

    Attributes:
        initial: `[N]` float32 before the first step, by the names of the equations: `h`, of an LSTM also `c`.
        states: `[T, N]` the same after each step.
    """

    initial: dict[str, np.ndarray]
    states: dict[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by name."""
        return {**super().arrays(), **self.states}


def record_episode(
    task: Task,
    network: Network,
    params: PolicyParams,
    *,
    seed: int = 0,
    max_steps: int | None = None,
    warmup_steps: int = 0,
) -> Episode | HiddenEpisode:
    """Returns an episode, recorded on the CPU: an `Episode` of a spiking network, else a `HiddenEpisode`.

    Args:
        task: Task with its episode limit.
        network: Network that plays.
        params: Parameters of the policy.
        seed: Random seed of the initial states, 0 to 2^32 - 1.
        max_steps: Number of steps after which the episode is cut.
        warmup_steps: Steps that settle the network before the episode, as in training.

    Raises:
        EvoconnError: Task or network gave numbers that are not finite in the first step.
    """
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        params = jax.device_put(params, cpu)
        as_in_training = jax.jit(network.step)
        steps: list[dict[str, Any]] = []
        initial: Any = None
        ended, as_trained = False, 0
        for step in play_in_parts(task, network, params, episode_keys(seed, 0), warmup_steps=warmup_steps):
            if not _is_finite(step.before.task.obs, step.action, step.after.task.reward):
                break
            if not steps:
                initial = _state(step.before.carry, network)
            trained, _ = as_in_training(params.network, step.before.carry, step.obs)
            as_trained += _equal(trained, step.after.carry)
            steps.append(_seen(step, network))
            ended = bool(step.after.task.done)
            if len(steps) == max_steps:
                break
    if not steps:
        raise EvoconnError(
            "the first step has numbers that are not finite, in observations, actions or the reward: there is nothing "
            "to record. Export another checkpoint, or a format without an episode, such as statistics."
        )
    return (Episode if network.record else HiddenEpisode)(
        seed=seed,
        dt_s=task.dt,
        initial=initial,
        ended=ended,
        steps_as_trained=as_trained,
        **jax.tree.map(lambda *rows: np.stack(rows), *steps),
    )


def _seen(step: PlayedStep, network: Network) -> dict[str, Any]:
    """Returns what is recorded of a step, by the attributes of an episode."""
    raw = np.asarray(step.action)
    neurons = {}
    if step.activity is not None:
        neurons = {
            "input_currents": np.asarray(step.activity.i_in[0]),
            "spikes": np.asarray(step.activity.spikes[:, 0]),
        }
    return {
        "observations": np.asarray(step.before.task.obs),
        "normalized": np.asarray(step.obs[0]),
        "states": _state(step.after.carry, network),
        "raw_actions": raw,
        "actions": np.clip(raw, -1.0, 1.0),
        "rewards": np.asarray(step.after.task.reward),
        **neurons,
    }


def _state(carry: Carry, network: Network) -> Any:
    """Returns the state of the neurons or hidden units of the one member of a block."""
    arrays = {name: np.asarray(x[0]) for name, x in network.state_arrays(carry).items()}
    return arrays if network.record is None else NeuronState(**arrays)


def _is_finite(*arrays: jax.Array) -> bool:
    return all(bool(jnp.all(jnp.isfinite(x))) for x in arrays)


def _equal(one: Carry, other: Carry) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f") for a, b in pairs)
