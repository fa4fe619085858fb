"""Plays single episodes of a policy and records them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax import lax

from evoconn_cli.engine.policy import PolicyParams, act, normalize_one
from evoconn_cli.engine.rollout import start_over
from evoconn_cli.networks import Activity, Carry, Network
from evoconn_cli.tasks import Task, TaskState

_CHUNK = 100
"""Steps played before looking whether the episode is over."""

Seen = TypeVar("Seen")
"""What is recorded of a step, or of all of them: a pytree of arrays."""


class Now(NamedTuple):
    """An episode between two steps."""

    task: TaskState
    carry: Carry  # [1, ...]


class PlayedStep(NamedTuple):
    """One step of an episode."""

    before: Now
    obs: jax.Array  # [1, O] normalised observation
    action: jax.Array  # [A] of the network, not clipped yet
    activity: Activity | None  # of a block of one member; None for a network without spikes
    after: Now


class _Parts(NamedTuple):
    """The functions that a step consists of."""

    normalize: Callable[..., jax.Array]
    act: Callable[..., tuple[Carry, jax.Array, Activity | None]]
    step: Callable[..., tuple[Carry, jax.Array]]  # as `act`, without the activity, for a warm-up
    advance: Callable[[TaskState, jax.Array], TaskState]

    @classmethod
    def of(cls, task: Task, network: Network) -> _Parts:
        return cls(normalize_one, partial(act, network), network.step, task.step)

    def play(self, params: PolicyParams, before: Now) -> PlayedStep:
        """Returns the next step of an episode."""
        obs = self.normalize(params.normalizer, before.task.obs)
        carry, action, activity = self.act(params.network, before.carry, obs)
        return PlayedStep(before, obs, action[0], activity, Now(self.advance(before.task, action[0]), carry))

    def warm_up(self, params: PolicyParams, first: TaskState, now: Now) -> Now:
        """Returns what follows a step of a warm-up, in which the task starts over whenever it ends."""
        carry, action = self.step(params.network, now.carry, self.normalize(params.normalizer, now.task.obs))
        return Now(start_over(self.advance(now.task, action[0]), first), carry)


def make_recorder(
    task: Task,
    network: Network,
    see: Callable[[PlayedStep], Seen],
    *,
    max_steps: int | None = None,
    warmup_steps: int = 0,
) -> Callable[[PolicyParams, jax.Array, jax.Array], tuple[TaskState, Seen]]:
    """Returns `record(params, reset_key, carry_key) -> (first, seen)`, compiled once for all parameters.

    `first` is the state before the first step, `seen` holds NumPy arrays `[T, ...]` of an episode of `T` steps.

    Args:
        task: Task with its episode limit.
        network: Network that plays.
        see: Function that returns what to record of a step.
        max_steps: Number of steps after which an episode is cut.
        warmup_steps: Steps that settle the network before the episode, as in training.
    """
    parts = _Parts.of(task, network)

    @jax.jit
    def start(params: PolicyParams, reset_key: jax.Array, carry_key: jax.Array) -> Now:
        first = task.reset(reset_key)
        now = Now(first, network.initial_carry(carry_key[None]))
        settled = lax.fori_loop(0, warmup_steps, lambda _, now: parts.warm_up(params, first, now), now)
        return Now(first, settled.carry)

    @jax.jit
    def play(params: PolicyParams, now: Now) -> tuple[Now, tuple[Seen, jax.Array]]:
        def body(now: Now, _: None) -> tuple[Now, tuple[Seen, jax.Array]]:
            step = parts.play(params, now)
            return step.after, (see(step), step.after.task.done)

        return lax.scan(body, now, None, length=_CHUNK)

    def record(params: PolicyParams, reset_key: jax.Array, carry_key: jax.Array) -> tuple[TaskState, Seen]:
        now = start(params, reset_key, carry_key)
        first, chunks = now.task, []
        while not chunks or not (chunks[-1][1].any() or (max_steps and len(chunks) * _CHUNK >= max_steps)):
            now, chunk = play(params, now)
            chunks.append(jax.device_get(chunk))
        seen, done = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
        length = int(done.argmax()) + 1 if done.any() else len(done)
        length = min(length, max_steps or length)
        return first, jax.tree.map(lambda x: x[:length], seen)

    return record


def play_in_parts(
    task: Task,
    network: Network,
    params: PolicyParams,
    keys: tuple[jax.Array, jax.Array],
    *,
    warmup_steps: int = 0,
) -> Iterator[PlayedStep]:
    """Yields the steps of an episode until the task is over.

    The network's step is a program of its own, because rounding changes where XLA fuses it with the step of a task.

    Args:
        task: Task with its episode limit.
        network: Network that plays.
        params: Parameters of the policy.
        keys: Keys of the initial states of task and network.
        warmup_steps: Steps that settle the network before the episode, as in training.
    """
    parts = _Parts(*(jax.jit(part) for part in _Parts.of(task, network)))
    first = jax.jit(task.reset)(keys[0])
    settled = Now(first, network.initial_carry(keys[1][None]))
    for _ in range(warmup_steps):
        settled = parts.warm_up(params, first, settled)
    now = Now(first, settled.carry)
    while True:
        step = parts.play(params, now)
        yield step
        now = step.after
        if bool(now.task.done):
            return
