"""A recorded episode: what a spiking network saw, computed and did, so that others can compute it again.

An episode can be replayed without its task: observations are recorded as the network saw them, so a simulator that is
given these computes the same spikes, whatever its actions would have led to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.episodes import episode_keys
from evoconn_cli.engine.normalizer import NormalizerState, normalize
from evoconn_cli.errors import EvoconnError
from evoconn_cli.networks import Activity, Candidates, Carry, Network, bits
from evoconn_cli.networks.conn_snn import ConnSnnCarry
from evoconn_cli.tasks import Task, TaskState


class NeuronState(NamedTuple):
    """State of the neurons between two environment steps; `...` are steps or none."""

    v: np.ndarray  # [..., N] float32 membrane potential
    i_syn: np.ndarray  # [..., N] float32 synaptic current
    rate: np.ndarray  # [..., N] float32 signed read-out rate [1/ms]
    spikes: np.ndarray  # [..., N] bool spikes of the last sub-step


@dataclass(frozen=True, kw_only=True)
class AnyEpisode:
    """One episode of T environment steps of any network.

    Attributes:
        seed: of the initial states; the episode is number 0 of `evoconn evaluate` with this seed.
        dt_s: time that a step simulates in the task [s].
        observations: `[T, O]` float32 as the task gave them.
        normalized: `[T, O]` float32 as the network saw them.
        raw_actions: `[T, A]` float32 as the network gave them.
        actions: `[T, A]` float32, clipped to [-1, 1], as the task took them.
        rewards: `[T]` float32.
        ended: whether the task was over after the last step; otherwise the episode was cut.
        steps_as_trained: steps in which the program of training, from the same state, gave the same next state to the
            last bit.
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
        """Returns the arrays by the names that they have in the equations of the network."""
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


class _Seen(NamedTuple):
    """What is recorded of a step, or of all of them, of any network."""

    observations: Any
    normalized: Any
    states: Any
    raw_actions: Any
    actions: Any
    rewards: Any
    neurons: dict[str, Any]  # of a spiking network: input currents and spikes


def record_episode(
    task: Task,
    network: Network,
    candidates: Candidates,
    normalizer: NormalizerState,
    *,
    seed: int = 0,
    max_steps: int | None = None,
    warmup_steps: int = 0,
) -> Episode | HiddenEpisode:
    """Returns an episode, recorded on the CPU: an `Episode` of a spiking network, else a `HiddenEpisode`.

    The network's step is a program of its own, so that its roundings depend neither on the task nor on what else is
    compiled with it.

    Args:
        task: with its episode limit.
        network: any.
        candidates: `[1, ...]` its connections or weights.
        normalizer: of the observations, which stays as it is.
        seed: of the initial states, 0 to 2^32 - 1.
        max_steps: the episode is cut after so many steps.
        warmup_steps: steps that settle the network before the episode, as in training.

    Raises:
        EvoconnError: task or network gave numbers that are not finite in the first step.
    """
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        candidates, normalizer = jax.device_put((candidates, normalizer), cpu)
        params = jax.jit(network.prepare)(candidates)
        look, train = jax.jit(_normalized), jax.jit(network.step)
        record = jax.jit(network.record or _without_activity(network))
        advance = jax.jit(task.step)
        reset_key, carry_key = episode_keys(seed, 0)
        first = jax.jit(task.reset)(reset_key)
        carry = _settled(
            first,
            network.initial_carry(carry_key[None]),
            warmup_steps,
            lambda state, carry: train(params, carry, look(normalizer, state.obs)),
            advance,
        )
        initial, state = _state(carry, network), first
        steps: list[_Seen] = []
        ended, as_trained = False, 0
        while not ended and len(steps) < (max_steps or np.inf):
            seen = look(normalizer, state.obs)
            trained, _ = train(params, carry, seen)
            carry, action, activity = record(params, carry, seen)
            before, state = state, advance(state, action[0])
            if not _is_finite(before.obs, action, state.reward):
                break
            as_trained += _equal(trained, carry)
            ended = bool(state.done)
            steps.append(_seen(before, seen, activity, _state(carry, network), action, state))
    if not steps:
        raise EvoconnError(
            "the first step has numbers that are not finite, in observations, actions or the reward: there is nothing "
            "to record. Export another checkpoint, or a format without an episode, such as statistics."
        )
    recorded = jax.tree.map(lambda *rows: np.stack(rows), *steps)._asdict()
    return (Episode if network.record else HiddenEpisode)(
        seed=seed,
        dt_s=task.dt,
        initial=initial,
        ended=ended,
        steps_as_trained=as_trained,
        **recorded.pop("neurons"),
        **recorded,
    )


def _without_activity(network: Network) -> Any:
    """Returns what stands in for `record` of a network without spikes."""
    return lambda params, carry, obs: (*network.step(params, carry, obs), None)


def _settled(first: TaskState, carry: Carry, num_steps: int, act: Any, advance: Any) -> Carry:
    """Returns the state of the network after its warm-up, in which the task starts over whenever it ends."""
    state = first
    for _ in range(num_steps):
        carry, action = act(state, carry)
        state = advance(state, action[0])
        state = first if bool(state.done) else state
    return carry


def _normalized(normalizer: NormalizerState, obs: jax.Array) -> jax.Array:
    return normalize(normalizer, obs[:, None]).T


def _seen(
    before: TaskState, normalized: jax.Array, activity: Activity | None, states: Any, action: jax.Array, after: Any
) -> _Seen:
    raw = np.asarray(action[0])
    neurons = {}
    if activity is not None:
        neurons = {"input_currents": np.asarray(activity.i_in[0]), "spikes": np.asarray(activity.spikes[:, 0])}
    return _Seen(
        observations=np.asarray(before.obs),
        normalized=np.asarray(normalized[0]),
        states=states,
        raw_actions=raw,
        actions=np.clip(raw, -1.0, 1.0),
        rewards=np.asarray(after.reward),
        neurons=neurons,
    )


def _state(carry: Carry, network: Network) -> Any:
    if network.record is None:
        names = {"gru": ("h",), "lstm": ("c", "h"), "mlp": ()}[network.name]
        return {name: np.asarray(x[0]) for name, x in zip(names, jax.tree.leaves(carry), strict=True)}
    neurons, spikes = carry.neurons, carry.spikes
    if isinstance(carry, ConnSnnCarry):
        spikes = bits.unpack(spikes, axis=1, length=neurons.v.shape[1])
    return NeuronState(*(np.asarray(x[0]) for x in (*neurons, spikes)))


def _is_finite(*arrays: jax.Array) -> bool:
    return all(bool(jnp.all(jnp.isfinite(x))) for x in arrays)


def _equal(one: Carry, other: Carry) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f") for a, b in pairs)
