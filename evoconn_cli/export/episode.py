"""A recorded episode, which other simulators can replay without the task.

Observations are recorded as the network saw them, so a simulator that is given them computes the same spikes,
whatever its actions would have led to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.episodes import episode_keys
from evoconn_cli.engine.policy import PolicyParams
from evoconn_cli.engine.recording import PlayedStep, play_in_parts
from evoconn_cli.errors import EvoconnError
from evoconn_cli.networks import Carry, Network
from evoconn_cli.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode of T environment steps, which have S sub-steps; S is 0 for a network without spikes.

    The state of the network is given by the names of its equations: of a spiking network `v`, `i_syn`, `rate` and
    `spikes` (bool) of the last sub-step, of an LSTM `h` and `c`.

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
        initial: `[N]` by name, state before the first step.
        states: `[T, N]` by name, state after each step.
        input_currents: `[T, N]` float32, the same in all sub-steps of a step; empty without spikes.
        spikes: `[T, S, N]` bool; empty without spikes.
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
    initial: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    input_currents: np.ndarray
    spikes: np.ndarray

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.rewards)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by their names in the equations, spikes packed along neurons as by `numpy.packbits`."""
        activity = {}
        if self.spikes.size:
            activity = {"i_in": self.input_currents, "spikes": np.packbits(self.spikes, axis=2)}
        states = {name: self.states[name] for name in self.initial if name not in activity}
        return {
            "observation": self.observations,
            "x": self.normalized,
            "raw_action": self.raw_actions,
            "action": self.actions,
            "reward": self.rewards,
            **activity,
            **states,
        }


def record_episode(
    task: Task,
    network: Network,
    params: PolicyParams,
    *,
    seed: int = 0,
    max_steps: int | None = None,
    warmup_steps: int = 0,
) -> Episode:
    """Returns an episode, recorded on the CPU.

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
        initial: dict[str, np.ndarray] = {}
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
    return Episode(
        seed=seed,
        dt_s=task.dt,
        initial=initial,
        ended=ended,
        steps_as_trained=as_trained,
        **jax.tree.map(lambda *rows: np.stack(rows), *steps),
    )


def _seen(step: PlayedStep, network: Network) -> dict[str, Any]:
    """Returns what is recorded of a step, by the attributes of an episode."""
    raw, activity = np.asarray(step.action), step.activity
    return {
        "observations": np.asarray(step.before.task.obs),
        "normalized": np.asarray(step.obs[0]),
        "states": _state(step.after.carry, network),
        "raw_actions": raw,
        "actions": np.clip(raw, -1.0, 1.0),
        "rewards": np.asarray(step.after.task.reward),
        "input_currents": np.zeros(0) if activity is None else np.asarray(activity.i_in[0]),
        "spikes": np.zeros((0, 0)) if activity is None else np.asarray(activity.spikes[:, 0]),
    }


def _state(carry: Carry, network: Network) -> dict[str, np.ndarray]:
    """Returns the state of the neurons or hidden units of the one member of a block."""
    return {name: np.asarray(x[0]) for name, x in network.state_arrays(carry).items()}


def _is_finite(*arrays: jax.Array) -> bool:
    return all(bool(jnp.all(jnp.isfinite(x))) for x in arrays)


def _equal(one: Carry, other: Carry) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f") for a, b in pairs)
