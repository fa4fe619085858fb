"""The tasks as Gymnasium environments: one episode, or many that take their steps in one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from evoconn_cli.errors import ConfigError, unknown_name
from evoconn_cli.gymnasium.lanes import TaskLanes, task_config


def _draw_key(generator: np.random.Generator) -> np.ndarray:
    """Returns `[2]` uint32, the data of the key that draws the start of an episode."""
    return generator.integers(2**32, size=2, dtype=np.uint32)


class TaskEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A task as an environment.

    `terminated` says that the task ended the episode, such as after a fall, and `truncated` that the episode has
    reached `episode_length`; both may hold.

    Args:
        name: Name of the task.
        render_mode: `rgb_array` for pictures, or None.
        width: Width of a picture [pixels].
        height: Height of a picture [pixels].
        camera: `track`, `side` or `front`.
        keys: Keys of the task, such as `episode_length` [physics steps] and `action_repeat`.

    Raises:
        ConfigError: An unknown name or key, or a value that is not allowed.
        EvoconnError: The task or this machine cannot draw.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        name: str,
        *,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        camera: str = "track",
        **keys: Any,
    ) -> None:
        config = task_config(name, keys, None)
        self._lanes = TaskLanes(config, 1, render_mode=render_mode, size=(width, height), camera=camera)
        self.metadata = self._lanes.metadata
        self.render_mode = render_mode
        self.observation_space = self._lanes.observation_space
        self.action_space = self._lanes.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns the first observation of an episode, and an empty dictionary.

        Args:
            seed: Seed of this and all later episodes; None continues the stream.
            options: Not used.
        """
        super().reset(seed=seed)
        return self._lanes.begin(_draw_key(self.np_random)[None], np.ones(1, bool))[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Returns observation, reward, terminated, truncated and an empty dictionary.

        Args:
            action: `[A]` action, which the task clips to [-1, 1].

        Raises:
            ResetNeeded: No episode has begun.
            ValueError: The action has another shape.
        """
        if (shape := np.shape(action)) != self.action_space.shape:
            task = self._lanes.task.name
            raise ValueError(f"an action of {task!r} has the shape {self.action_space.shape}, not {shape}")
        seen = self._lanes.step(np.asarray(action)[None], np.zeros((1, 2), np.uint32), np.zeros(1, bool))
        return seen.obs[0], float(seen.rewards[0]), bool(seen.terminated[0]), bool(seen.truncated[0]), {}

    def render(self) -> np.ndarray | None:
        """Returns a picture `[height, width, 3]` uint8 of the current state, None without a render mode."""
        pictures = self._lanes.pictures()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """Releases the drawing context."""
        self._lanes.close()


class TaskVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` episodes of a task, equal to those of `TaskEnv` with the seeds `seed`, `seed + 1`, ...

    Args:
        num_envs: B.
        name: Name of the task.
        autoreset_mode: When an episode that has ended is followed by the next; `DISABLED` leaves that to
            `reset(options={"reset_mask": ...})`.
        max_episode_steps: Limit of an episode in environment steps, besides `episode_length`.
        render_mode: `rgb_array` for pictures, or None.
        width: Width of a picture [pixels].
        height: Height of a picture [pixels].
        camera: `track`, `side` or `front`.
        keys: Keys of the task, such as `episode_length` [physics steps] and `action_repeat`.

    Raises:
        ConfigError: An unknown name or key, or a value that is not allowed.
        EvoconnError: The task or this machine cannot draw.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        name: str,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        camera: str = "track",
        **keys: Any,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs={num_envs}: must be at least 1.")
        modes = {mode.value: mode for mode in AutoresetMode}
        if getattr(autoreset_mode, "value", autoreset_mode) not in modes:
            raise unknown_name("autoreset_mode", str(autoreset_mode), modes)
        self._mode = AutoresetMode(autoreset_mode)
        config = task_config(name, keys, max_episode_steps)
        self._lanes = TaskLanes(config, num_envs, render_mode=render_mode, size=(width, height), camera=camera)
        self.metadata = {**self._lanes.metadata, "autoreset_mode": self._mode}
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.single_observation_space = self._lanes.observation_space
        self.single_action_space = self._lanes.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._streams = [seeding.np_random() for _ in range(num_envs)]
        self._keys = np.zeros((num_envs, 2), np.uint32)  # of the next episodes
        self._draw_keys(np.ones(num_envs, bool))
        self._ended = np.zeros(num_envs, bool)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The random generators of the lanes, each a key ahead of its episode."""
        return tuple(generator for generator, _ in self._streams)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The seeds of the lanes."""
        return tuple(seed for _, seed in self._streams)

    def _draw_keys(self, lanes: np.ndarray) -> None:
        for lane in np.flatnonzero(lanes):
            self._keys[lane] = _draw_key(self._streams[lane][0])

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns the observations `[B, O]` after lanes have begun an episode, and an empty dictionary.

        Args:
            seed: Seed of the first lane, which the others count up from, or one per lane; None continues the streams.
            options: `reset_mask`, a boolean array `[B]` of the lanes that begin an episode; by default all.

        Raises:
            ValueError: There are not as many seeds as lanes, or the mask has another shape or selects nothing.
        """
        lanes = np.ones(self.num_envs, bool) if options is None else options.get("reset_mask")
        lanes = np.ones(self.num_envs, bool) if lanes is None else np.asarray(lanes)
        if lanes.shape != (self.num_envs,) or lanes.dtype != bool or not lanes.any():
            raise ValueError(f"reset_mask: expected {self.num_envs} truth values, one of which is true")
        seeds = [seed] * self.num_envs if seed is None else seed
        seeds = (
            [int(seeds) + lane for lane in range(self.num_envs)] if isinstance(seeds, int | np.integer) else list(seeds)
        )
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
        for lane in np.flatnonzero(lanes):
            if seeds[lane] is not None:
                self._streams[lane] = seeding.np_random(seeds[lane])
                self._keys[lane] = _draw_key(self._streams[lane][0])
        obs = self._lanes.begin(self._keys, lanes)
        self._draw_keys(lanes)
        self._ended &= ~lanes
        return obs, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Returns observations `[B, O]`, rewards, terminated and truncated `[B]`, and a dictionary.

        In the mode `SAME_STEP` the dictionary has `final_obs` and `final_info` for the lanes whose episode ended.

        Args:
            actions: `[B, A]` actions, which the task clips to [-1, 1].

        Raises:
            ResetNeeded: No episode has begun, or one has ended and the mode is `DISABLED`.
            ValueError: The actions have another shape.
        """
        if self._mode is AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeeded(
                f"the episodes of the environments {np.flatnonzero(self._ended).tolist()} have ended. Call "
                "reset(options={'reset_mask': terminated | truncated}) before step()."
            )
        same_step = self._mode is AutoresetMode.SAME_STEP
        seen = self._lanes.step(actions, self._keys, self._ended, same_step=same_step)
        ended = seen.terminated | seen.truncated
        infos: dict[str, Any] = {}
        if same_step:
            for lane in np.flatnonzero(ended):
                infos = self._add_info(infos, {"final_obs": seen.last_obs[lane], "final_info": {}}, int(lane))
        self._draw_keys(ended if same_step else self._ended)
        self._ended = np.zeros_like(ended) if same_step else ended
        return seen.obs, seen.rewards.astype(np.float64), seen.terminated, seen.truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns a picture `[height, width, 3]` uint8 per environment, None without a render mode."""
        return self._lanes.pictures()

    def close_extras(self, **kwargs: Any) -> None:
        """Releases the drawing context."""
        self._lanes.close()
