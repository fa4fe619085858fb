"""Records the episodes to draw: poses, rewards and every spike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.episodes import episode_keys
from evoconn_cli.engine.policy import PolicyParams
from evoconn_cli.engine.recording import PlayedStep, make_recorder
from evoconn_cli.errors import EvoconnError
from evoconn_cli.networks import Network
from evoconn_cli.tasks import Task


class RenderDisplay(Protocol):
    """What a caller shows of the work; rendering itself never prints."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a part of the work with `total` units, such as `drawing`, 240, `frames`."""
        ...

    def advance(self, done: int) -> None:
        """Shows that `done` units of the part are done."""
        ...

    def note(self, message: str) -> None:
        """Shows a sentence that stays."""
        ...


class Subject(NamedTuple):
    """What is rendered."""

    task: Task  # with bodies and its episode limit
    network: Network
    params_of: Callable[[int], PolicyParams]  # parameters of an episode, by its number
    about: str  # line below the name of the task
    warmup_steps: int = 0  # steps that settle the network before an episode


@dataclass(frozen=True)
class Motion:
    """One episode of T steps.

    Attributes:
        positions: `[T + 1, bodies, 3]` centres of the bodies before each step and after the last one [m].
        rotations: `[T + 1, bodies, 4]` quaternions (w, x, y, z).
        rewards: `[T]`.
        spikes: `[T, S, ceil(N / 8)]` uint8, packed as by `numpy.packbits`; None for networks without spikes.
        broke: Whether the recording ends early because the physics or the reward became non-finite.
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


def record_episodes(
    subject: Subject,
    progress: RenderDisplay,
    *,
    seed: int,
    first: int = 0,
    num_episodes: int = 1,
    max_steps: int | None = None,
) -> list[Motion]:
    """Returns the episodes that an evaluation with the same seed plays.

    Args:
        subject: Task and policy to play.
        progress: Display of the progress.
        seed: Random seed of the initial states, 0 to 2^32 - 1.
        first: Number of the first episode, from 0.
        num_episodes: Number of episodes.
        max_steps: Number of steps after which an episode is cut.

    Raises:
        EvoconnError: The first step of an episode is not finite.
    """
    progress.start("playing", num_episodes, "episode" if num_episodes == 1 else "episodes")
    task, poses = subject.task, subject.task.poses
    if poses is None:
        raise ValueError(f"{task.name} has no bodies")

    def see(step: PlayedStep) -> tuple[jax.Array | None, ...]:
        packed = None if step.activity is None else jnp.packbits(step.activity.spikes[:, 0], axis=-1)
        return *poses(step.after.task), step.after.task.reward, packed

    record = make_recorder(task, subject.network, see, max_steps=max_steps, warmup_steps=subject.warmup_steps)
    episodes: list[Motion] = []
    for number in range(first, first + num_episodes):
        start, seen = record(subject.params_of(number), *episode_keys(seed, number))
        episodes.append(_motion(jax.device_get(poses(start)), seen))
        progress.advance(len(episodes))
        if episodes[-1].broke:
            progress.note(f"Episode {number} ends where the physics or the reward is no longer finite.")
    return episodes


def _motion(start: tuple[np.ndarray, np.ndarray], seen: tuple[Any, ...]) -> Motion:
    """Returns an episode up to its first step that is not finite, from the poses before it and what is seen of steps.

    These are, as for `Motion`, positions, rotations, rewards and spikes after each step.
    """
    positions, rotations, rewards, spikes = seen
    finite = np.isfinite(positions).all((1, 2)) & np.isfinite(rotations).all((1, 2)) & np.isfinite(rewards)
    broke = not finite.all()
    length = int(finite.argmin()) if broke else len(finite)
    if length == 0:
        raise EvoconnError(
            "the physics or the reward gave numbers that are not finite in the first step: there is nothing to draw."
        )
    return Motion(
        positions=np.concatenate([start[0][None], positions[:length]]),
        rotations=np.concatenate([start[1][None], rotations[:length]]),
        rewards=rewards[:length],
        spikes=None if spikes is None else spikes[:length],
        broke=broke,
    )
