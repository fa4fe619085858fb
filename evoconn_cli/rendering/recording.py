"""Playing episodes and recording what is drawn: poses, rewards and every spike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.networks import Carry
from evoconn_cli.tasks import Task, TaskState
from evoconn_cli.tasks.brax_v1 import body_poses

_CHUNK = 100
"""Steps that are played between two looks at whether the episode is over."""

PolicyStep: TypeAlias = Callable[[Carry, jax.Array], tuple[Carry, jax.Array, jax.Array | None]]
"""`step(carry, obs [O]) -> (carry, action [A], spikes [S, N] bool)`; without spikes for networks that have none."""


class Policy(NamedTuple):
    """A policy that can be recorded.

    S is the number of sub-steps of an environment step.
    """

    initial_carry: Callable[[jax.Array], Carry]  # from a key
    step: PolicyStep
    num_neurons: int  # N
    num_excitatory: int | None  # the first so many neurons; None where neurons have no types
    substep_ms: float  # network time of a sub-step [ms]


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Attributes:
        positions: `[T + 1, bodies, 3]` centres of the bodies before each step and after the last one [m].
        rotations: `[T + 1, bodies, 4]` quaternions (w, x, y, z).
        rewards: `[T]`.
        spikes: `[T, S, ceil(N / 8)]` uint8, packed as by `numpy.packbits`; None for networks without spikes.
        broke: the physics gave numbers that are not finite, so the recording ends before them.
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


def make_recorder(
    task: Task, policy: Policy, *, max_steps: int | None = None
) -> Callable[[jax.Array, Callable[[int], None]], Episode]:
    """Returns `record(key, tell) -> Episode`; `tell` is called with the steps played so far. It is compiled once.

    Args:
        task: a Brax v1 task with its episode limit.
        policy: what to play.
        max_steps: an episode is cut after so many steps.
    """

    def step(now: tuple[TaskState, Carry], _: None) -> tuple[tuple[TaskState, Carry], dict[str, jax.Array | None]]:
        state, carry = now
        carry, action, spikes = policy.step(carry, state.obs)
        state = task.step(state, action)
        positions, rotations = body_poses(state)
        seen = dict(
            positions=positions,
            rotations=rotations,
            rewards=state.reward,
            done=state.done,
            spikes=None if spikes is None else jnp.packbits(spikes, axis=-1),
        )
        return (state, carry), seen

    @jax.jit
    def start(key: jax.Array) -> tuple[TaskState, Carry]:
        key_task, key_carry = jax.random.split(key)
        return task.reset(key_task), policy.initial_carry(key_carry)

    @jax.jit
    def play(now: tuple[TaskState, Carry]) -> tuple[tuple[TaskState, Carry], dict[str, jax.Array | None]]:
        return jax.lax.scan(step, now, None, length=_CHUNK)

    def record(key: jax.Array, tell: Callable[[int], None]) -> Episode:
        now = start(key)
        first = jax.device_get(body_poses(now[0]))
        chunks, played = [], 0
        while True:
            now, seen = play(now)
            chunks.append(jax.device_get(seen))
            played += _CHUNK
            ended = chunks[-1]["done"].any()
            tell(played)
            if ended or (max_steps is not None and played >= max_steps):
                break
        whole = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0] if chunks[0][name] is not None}
        return _cut(first, whole, max_steps)

    return record


def _cut(first: tuple[np.ndarray, np.ndarray], seen: dict[str, np.ndarray], max_steps: int | None) -> Episode:
    """Returns the episode up to its end, without the steps that were played after it."""
    done, length = seen["done"], len(seen["done"])
    if done.any():
        length = int(done.argmax()) + 1
    if max_steps is not None:
        length = min(length, max_steps)
    bodies = range(1, seen["positions"].ndim)
    finite = np.isfinite(seen["positions"]).all(tuple(bodies)) & np.isfinite(seen["rotations"]).all(tuple(bodies))
    broke = not finite[:length].all()
    if broke:
        length = int((~finite).argmax())
    if length == 0:
        raise EvoconnError("the physics gave numbers that are not finite in the first step, so there is nothing to draw.")
    return Episode(
        positions=np.concatenate([first[0][None], seen["positions"][:length]]),
        rotations=np.concatenate([first[1][None], seen["rotations"][:length]]),
        rewards=np.nan_to_num(seen["rewards"][:length]),
        spikes=seen["spikes"][:length] if "spikes" in seen else None,
        broke=broke,
    )
