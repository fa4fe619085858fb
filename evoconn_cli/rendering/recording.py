"""Playing episodes and recording what is drawn: poses, rewards and every spike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.config.schema import ConnSnnConfig, NetworkConfig, SpikingConfig
from evoconn_cli.engine.normalizer import NormalizerState, normalize
from evoconn_cli.engine.rollout import start_over
from evoconn_cli.errors import EvoconnError
from evoconn_cli.networks import Candidates, Carry, Network
from evoconn_cli.tasks import Task, TaskState
from evoconn_cli.tasks.brax_v1 import body_poses

_CHUNK = 100
"""Steps that are played between two looks at whether the episode is over."""

PolicyParams: TypeAlias = Any
"""Arrays that the steps of a policy take. They are no constants of the program, which serves every generation."""

PolicyStep: TypeAlias = Callable[[PolicyParams, Carry, jax.Array], tuple[Carry, jax.Array, jax.Array | None]]
"""`step(params, carry, obs [O]) -> (carry, action [A], spikes [S, N] bool)`; spikes are None without neurons."""

_Now: TypeAlias = tuple[TaskState, Carry]


class Neurons(NamedTuple):
    """The neurons whose spikes are recorded."""

    num: int  # N
    num_excitatory: int | None  # the first so many; None where neurons have no types
    substep_ms: float  # network time of a sub-step [ms]


class RecordablePolicy(NamedTuple):
    """A policy that can be recorded."""

    initial_carry: Callable[[jax.Array], Carry]  # from a key
    step: PolicyStep
    neurons: Neurons | None  # None for a network without spikes


def make_policy(network: Network, config: NetworkConfig) -> RecordablePolicy:
    """Returns a network as a policy of one member, to be stepped with what `policy_params` returns."""

    def step(params: PolicyParams, carry: Carry, obs: jax.Array) -> tuple[Carry, jax.Array, jax.Array | None]:
        prepared, normalizer = params
        seen = normalize(normalizer, obs[:, None]).T
        if network.record is None:
            carry, action = network.step(prepared, carry, seen)
            return carry, action[0], None
        carry, action, activity = network.record(prepared, carry, seen)
        return carry, action[0], activity.spikes[:, 0]

    neurons = None
    if isinstance(config, SpikingConfig):
        num_excitatory = config.num_excitatory if isinstance(config, ConnSnnConfig) else None
        neurons = Neurons(config.num_neurons, num_excitatory, config.dt_ms)
    return RecordablePolicy(lambda key: network.initial_carry(key[None]), step, neurons)


def policy_params(network: Network, candidates: Candidates, normalizer: NormalizerState) -> PolicyParams:
    """Returns what the steps of `make_policy` take.

    Args:
        network: what plays.
        candidates: `[1, ...]` its connections or weights.
        normalizer: of the observations, which stays as it is.
    """
    return network.prepare(candidates), normalizer


@dataclass(frozen=True)
class Motion:
    """One episode of T steps.

    Attributes:
        positions: `[T + 1, bodies, 3]` centres of the bodies before each step and after the last one [m].
        rotations: `[T + 1, bodies, 4]` quaternions (w, x, y, z).
        rewards: `[T]`.
        spikes: `[T, S, ceil(N / 8)]` uint8, packed as by `numpy.packbits`; None for networks without spikes.
        broke: the physics or the reward gave numbers that are not finite, so the recording ends before them.
    """

    positions: np.ndarray
    rotations: np.ndarray
    rewards: np.ndarray
    spikes: np.ndarray | None
    broke: bool = False

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.rewards)


class _SeenSteps(NamedTuple):
    """What is recorded of steps; `...` is a chunk of them."""

    positions: Any  # [..., bodies, 3]
    rotations: Any  # [..., bodies, 4]
    rewards: Any  # [...]
    done: Any  # [...] bool
    spikes: Any  # [..., S, ceil(N / 8)] uint8, or None


def make_recorder(
    task: Task, policy: RecordablePolicy, *, max_steps: int | None = None, warmup_steps: int = 0
) -> Callable[[PolicyParams, jax.Array, jax.Array], Motion]:
    """Returns `record(params, reset_key, carry_key) -> Motion`, compiled once.

    Args:
        task: of Brax v1, with its episode limit.
        policy: what to play.
        max_steps: an episode is cut after so many steps.
        warmup_steps: steps that settle the network before the episode, as in training.
    """

    def act(params: PolicyParams, now: _Now) -> tuple[_Now, jax.Array | None]:
        state, carry = now
        carry, action, spikes = policy.step(params, carry, state.obs)
        return (task.step(state, action), carry), spikes

    @jax.jit
    def start(params: PolicyParams, reset_key: jax.Array, carry_key: jax.Array) -> _Now:
        first = task.reset(reset_key)

        def warm_up(_: jax.Array, now: _Now) -> _Now:
            (state, carry), _spikes = act(params, now)
            return start_over(state, first), carry

        _, carry = jax.lax.fori_loop(0, warmup_steps, warm_up, (first, policy.initial_carry(carry_key)))
        return first, carry

    @jax.jit
    def play(params: PolicyParams, now: _Now) -> tuple[_Now, _SeenSteps]:
        def step(now: _Now, _: None) -> tuple[_Now, _SeenSteps]:
            now, spikes = act(params, now)
            packed = None if spikes is None else jnp.packbits(spikes, axis=-1)
            return now, _SeenSteps(*body_poses(now[0]), now[0].reward, now[0].done, packed)

        return jax.lax.scan(step, now, None, length=_CHUNK)

    def record(params: PolicyParams, reset_key: jax.Array, carry_key: jax.Array) -> Motion:
        now = start(params, reset_key, carry_key)
        first = jax.device_get(body_poses(now[0]))
        chunks: list[_SeenSteps] = []
        while not chunks or not (chunks[-1].done.any() or (max_steps and len(chunks) * _CHUNK >= max_steps)):
            now, seen = play(params, now)
            chunks.append(jax.device_get(seen))
        return _cut(first, jax.tree.map(lambda *parts: np.concatenate(parts), *chunks), max_steps)

    return record


def _cut(first: tuple[np.ndarray, np.ndarray], seen: _SeenSteps, max_steps: int | None) -> Motion:
    """Returns the episode up to its end, without the steps that were played after it."""
    length = int(seen.done.argmax()) + 1 if seen.done.any() else len(seen.done)
    length = min(length, max_steps or length)
    finite = np.isfinite(seen.positions).all((1, 2)) & np.isfinite(seen.rotations).all((1, 2))
    finite &= np.isfinite(seen.rewards)
    broke = not finite[:length].all()
    if broke:
        length = int(finite.argmin())
    if length == 0:
        raise EvoconnError(
            "the physics or the reward gave numbers that are not finite in the first step: there is nothing to draw."
        )
    return Motion(
        positions=np.concatenate([first[0][None], seen.positions[:length]]),
        rotations=np.concatenate([first[1][None], seen.rotations[:length]]),
        rewards=seen.rewards[:length],
        spikes=None if seen.spikes is None else seen.spikes[:length],
        broke=broke,
    )
