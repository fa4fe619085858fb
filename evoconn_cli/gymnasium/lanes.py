"""Plays a task in lanes, all in one compiled call, and draws it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from jax import lax
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evoconn_cli.config.loading import check_keys, check_values, fill
from evoconn_cli.config.registry import Entry, find
from evoconn_cli.config.rendering import Camera
from evoconn_cli.engine.devices import our_arithmetic
from evoconn_cli.engine.rollout import BatchedTask, start_over
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.errors import ConfigError, EvoconnError, first_line, unknown_name
from evoconn_cli.rendering.camera import CameraPath, View, floor_height
from evoconn_cli.rendering.clock import Moment
from evoconn_cli.rendering.mujoco import MujocoRenderer
from evoconn_cli.rendering.recording import Motion
from evoconn_cli.rendering.shapes import bodies_of
from evoconn_cli.tasks import Task, TaskState, limit_episodes, make_unlimited_task

_PLANAR_STARTS = 8
"""Starts that the camera of a planar task keeps in view: its targets may be anywhere."""

_LARGEST = float(np.finfo(np.float32).max)
_NO_LIMIT = 2**31 - 1
"""Steps that no episode reaches."""


class LanesSeen(NamedTuple):
    """What a step shows of `B` lanes."""

    obs: Any  # [B, O] float32
    rewards: Any  # [B] float32
    terminated: Any  # [B] bool, whether the task ended the episode
    truncated: Any  # [B] bool, whether the episode has reached its limit
    last_obs: Any  # [B, O] observations before lanes start over


class _Program(NamedTuple):
    """A task and its compiled functions, which all environments with the same configuration share."""

    task: Task  # without an episode limit
    empty: TaskState  # shapes of one member's state
    advance: Callable[..., tuple[TaskState, LanesSeen]]
    poses: Callable[[TaskState, int], Any] | None  # of one lane


def _make_advance(batched: BatchedTask, episode_length: int) -> Callable[..., tuple[TaskState, LanesSeen]]:
    """Returns the step of all lanes.

    Args:
        batched: Task with the member axis last.
        episode_length: Longest episode [physics steps].
    """

    def advance(
        state: TaskState, actions: jax.Array, keys: jax.Array, restart: jax.Array, switches: jax.Array
    ) -> tuple[TaskState, LanesSeen]:
        """Returns the next states and what they show; lanes that start over have no reward.

        Args:
            state: `[..., B]` states.
            actions: `[B, A]` actions.
            keys: `[B, 2]` data of the keys that draw the starts of episodes.
            restart: `[B]` lanes that start over instead of taking a step.
            switches: `[2]` bool, whether the other lanes take a step, and whether lanes start over in the step that
                ends their episode.
        """
        stepping, same_step = switches
        moved = lax.cond(stepping, batched.step, lambda state, _: state, state, actions)
        runs = stepping & ~restart
        terminated, truncated = moved.done & runs, (moved.steps >= episode_length) & runs
        fresh = restart | (same_step & (terminated | truncated))

        def begin() -> TaskState:
            initial = batched.reset(jax.random.wrap_key_data(keys, impl=KEY_IMPLEMENTATION))
            return start_over(moved._replace(done=fresh), initial)

        after = lax.cond(jnp.any(fresh), begin, lambda: moved)
        rewards = jnp.where(runs, moved.reward, 0.0)
        return after, LanesSeen(after.obs.T, rewards, terminated, truncated, moved.obs.T)

    return jax.jit(advance)


def task_config(name: str, keys: dict[str, Any], max_steps: int | None) -> Any:
    """Returns the checked configuration of a task.

    Args:
        name: Name of the task.
        keys: Values of its keys.
        max_steps: Limit of an episode in environment steps, besides that of the configuration.

    Raises:
        ConfigError: An unknown name or key, a wrong type, or a value out of range.
    """
    defaults = find("task", name).default_config()
    try:
        given = OmegaConf.create({key: x.item() if isinstance(x, np.generic) else x for key, x in keys.items()})
    except OmegaConfBaseException as error:
        raise ConfigError(f"the options of the task {name!r} cannot be read: {first_line(error)}.") from None
    check_keys(given, defaults)
    config = fill(defaults, given)
    if max_steps is not None:
        limit = min(config.episode_length, max_steps * config.action_repeat)
        config = fill(config, OmegaConf.create({"episode_length": limit}))
    check_values(config)
    return config


_PROGRAMS: dict[tuple[Entry, str], _Program] = {}


def _program(config: Any) -> _Program:
    """Returns the program of a task's configuration, compiled when it is first called and for each number of lanes."""
    entry = find("task", config.name)
    if found := _PROGRAMS.get((entry, repr(config))):
        return found
    with our_arithmetic():
        task = limit_episodes(make_unlimited_task(config), episode_length=_NO_LIMIT, action_repeat=config.action_repeat)
        empty = jax.eval_shape(task.reset, jax.random.key(0))
        batched = BatchedTask(task, on_cpu=jax.default_backend() == "cpu")
    poses = task.poses
    lane_poses = poses and jax.jit(lambda state, lane: poses(jax.tree.map(lambda x: x[..., lane], state)))
    program = _Program(task, empty, _make_advance(batched, config.episode_length), lane_poses)
    _PROGRAMS[entry, repr(config)] = program
    return program


class _Camera:
    """Draws the bodies of a task with a camera that follows them.

    It keeps the body of a task that runs in the middle; in front of an arm or a pole it stays.

    Args:
        task: Task with poses.
        homes: Poses at the start of one or several episodes, which are all in view.
        width: Width of the picture [pixels].
        height: Height of the picture [pixels].
        camera: View.
    """

    def __init__(
        self, task: Task, homes: list[tuple[np.ndarray, np.ndarray]], *, width: int, height: int, camera: str
    ) -> None:
        bodies = bodies_of(task, len(homes[0][0]))
        still = [Motion(*(np.stack([x, x]) for x in home), rewards=np.zeros(1), spikes=None) for home in homes]
        path = CameraPath(bodies, still, dt=task.dt, camera=camera, aspect=width / height)
        floor = floor_height(bodies, still)
        floor = None if floor is None else floor - path.radius  # a pole may swing below its start
        self._renderer = MujocoRenderer(bodies, width=width, height=height, radius=path.radius, floor_height=floor)
        self._view = path.view(Moment(0, 0, 0.0))
        self._moving = bodies.with_role("body", "left")
        self._home = np.mean([positions[self._moving].mean(axis=0) for positions, _ in homes], axis=0)
        runs = bodies.with_role("floor") and not bodies.with_role("mount", "target")
        self._slack = 0.0 if runs else path.radius / 2
        self.close = self._renderer.close

    def draw(self, positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        """Returns `[height, width, 3]` uint8, from `[bodies, 3]` positions [m] and `[bodies, 4]` quaternions."""
        away = (positions[self._moving].mean(axis=0) - self._home) * (1, 1, 0)
        distance = float(np.linalg.norm(away))
        share = max(0.0, 1 - self._slack / distance) if distance > 0 else 0.0
        view = self._view
        view = View(view.target + share * away, view.distance, view.azimuth, view.elevation)
        return self._renderer.draw(positions, rotations, view)


class TaskLanes:
    """Episodes in `num_lanes` lanes, and their pictures.

    Args:
        config: Configuration of the task.
        num_lanes: B.
        render_mode: `rgb_array` or None.
        size: Width and height of a picture [pixels].
        camera: View.

    Raises:
        ConfigError: An option of the pictures is not allowed.
        EvoconnError: The task or this machine cannot draw.
    """

    def __init__(
        self, config: Any, num_lanes: int, *, render_mode: str | None, size: tuple[int, int], camera: str
    ) -> None:
        self._program = _program(config)
        self.task = self._program.task
        self.num_lanes = num_lanes
        self.observation_space = Box(-_LARGEST, _LARGEST, (self.task.observation_size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (self.task.action_size,), np.float32)
        self.metadata = {
            "render_modes": ["rgb_array"] if self._program.poses and self.task.shapes else [],
            "render_fps": 1 / self.task.dt,
        }
        self._state: TaskState | None = None
        self._camera: _Camera | None = None
        if render_mode is None:
            return
        if render_mode != "rgb_array":
            raise unknown_name("render_mode", render_mode, ["rgb_array"])
        if camera not in get_args(Camera):
            raise unknown_name("camera", camera, get_args(Camera))
        if not all(isinstance(x, int) and 64 <= x <= 4096 for x in size):
            raise ConfigError(f"width={size[0]}, height={size[1]}: expected 64 to 4096 pixels each.")
        if not self.metadata["render_modes"]:
            raise EvoconnError(f"the task {self.task.name!r} has no bodies to draw. Leave render_mode out.")
        homes = []
        for number in range(_PLANAR_STARTS if self.task.is_planar else 1):
            keys = np.full((num_lanes, 2), number, np.uint32)
            start, _ = self._call(None, None, keys, restart=np.ones(num_lanes, bool))
            homes.append(self._poses(start, 0))
        width, height = size
        self._camera = _Camera(self.task, homes, width=width, height=height, camera=camera)

    def _call(
        self,
        state: TaskState | None,
        actions: np.ndarray | None,
        keys: np.ndarray,
        *,
        restart: np.ndarray,
        same_step: bool = False,
    ) -> tuple[TaskState, LanesSeen]:
        lanes = self.num_lanes
        switches = np.array([actions is not None, same_step])
        with our_arithmetic():
            if state is None:
                state = jax.tree.map(lambda x: jnp.zeros((*x.shape, lanes), x.dtype), self._program.empty)
            if actions is None:
                actions = np.zeros((lanes, self.task.action_size), np.float32)
            state, seen = self._program.advance(state, actions, keys, restart, switches)
            return state, LanesSeen(*map(np.array, jax.device_get(seen)))  # copies, which the caller may change

    def _poses(self, state: TaskState, lane: int) -> tuple[np.ndarray, np.ndarray]:
        assert self._program.poses is not None
        with our_arithmetic():
            return jax.device_get(self._program.poses(state, lane))

    def begin(self, keys: np.ndarray, lanes: np.ndarray) -> np.ndarray:
        """Returns the observations `[B, O]` after lanes have begun an episode.

        Args:
            keys: `[B, 2]` data of the keys that draw the starts.
            lanes: `[B]`, True for those that begin; all, the first time.

        Raises:
            ResetNeeded: Some lanes have not begun an episode before.
        """
        if self._state is None and not lanes.all():
            raise ResetNeeded("no episode has begun. The first call of reset() is without a reset_mask.")
        self._state, seen = self._call(self._state, None, keys, restart=lanes)
        return seen.obs

    def step(self, actions: Any, keys: np.ndarray, restart: np.ndarray, *, same_step: bool = False) -> LanesSeen:
        """Returns what all lanes show after a step; arguments as for the step of `_make_advance`.

        Raises:
            ResetNeeded: No episode has begun.
            ValueError: The actions have another shape.
        """
        if self._state is None:
            raise ResetNeeded("no episode has begun. Call reset() before step().")
        given, shape = np.asarray(actions, np.float32), (self.num_lanes, self.task.action_size)
        if given.shape != shape:
            raise ValueError(f"the actions of {self.task.name!r} have the shape {shape}, not {given.shape}")
        self._state, seen = self._call(self._state, given, keys, restart=restart, same_step=same_step)
        return seen

    def pictures(self) -> tuple[np.ndarray, ...] | None:
        """Returns a picture `[height, width, 3]` uint8 per lane, None without a render mode.

        Raises:
            ResetNeeded: No episode has begun.
        """
        if self._camera is None:
            return None
        if self._state is None:
            raise ResetNeeded("no episode has begun. Call reset() before render().")
        return tuple(self._camera.draw(*self._poses(self._state, lane)) for lane in range(self.num_lanes))

    def close(self) -> None:
        """Releases the drawing context."""
        if self._camera is not None:
            self._camera.close()
        self._camera = None
