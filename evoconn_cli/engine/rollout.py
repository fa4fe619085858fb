"""Steps the episodes of a block of members in lock-step."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.members_last import members_last
from evoconn_cli.engine.normalizer import NormalizerState, ObservationSums
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.networks import Carry, Network, Params
from evoconn_cli.tasks import Task, TaskState


class BatchedTask:
    """A task for a block of members, whose states have the member axis last, `[..., B]`.

    A member fails if one of its observations or actions is not finite: its reward is then NaN.
    """

    def __init__(self, task: Task, *, on_cpu: bool = True):
        """Batches a task.

        Args:
            task: Task for one member.
            on_cpu: Whether it is compiled for a CPU, otherwise for a GPU.
        """
        self._step = members_last(task.step, barriers=on_cpu)
        self._reset = members_last(
            lambda data: task.reset(jax.random.wrap_key_data(data, impl=KEY_IMPLEMENTATION)), barriers=on_cpu
        )

    def reset(self, keys: jax.Array) -> TaskState:
        """Returns the starts of episodes drawn with `keys` `[B]`."""
        return self._reset(jax.random.key_data(keys).T)

    def step(self, state: TaskState, action: jax.Array) -> TaskState:
        """Returns the states after actions `[B, A]`."""
        after = self._step(state, action.T)
        finite = _all_finite(after.obs) & _all_finite(action.T)
        return after._replace(reward=jnp.where(finite, after.reward, jnp.nan))


def initial_returns(state: TaskState) -> jax.Array:
    """Returns `[B]` the returns before the first step: 0, or NaN if the first observation is not finite."""
    return jnp.where(_all_finite(state.obs), 0.0, jnp.nan)


def start_over(state: TaskState, initial: TaskState) -> TaskState:
    """Returns `state` with members whose episode ended back at their `initial` state."""
    return jax.tree.map(lambda first, now: jnp.where(state.done, first, now), initial, state)


def _all_finite(x: jax.Array) -> jax.Array:
    """Returns `[B]` bool from `[n, B]`."""
    return jnp.all(jnp.isfinite(x), axis=0)


class Tally(NamedTuple):
    """Sums over the steps of a member's episodes."""

    total_reward: jax.Array  # [B] float32
    steps: jax.Array  # [B] int32
    rate: jax.Array  # [B] float32, sum over steps of the mean rate of the neurons [1/ms]
    observations: ObservationSums | None  # [O, B], None if the normaliser does not need them


class Lanes(NamedTuple):
    """State of a block during its simulation."""

    task: TaskState  # [..., B]
    carry: Carry  # [B, ...]
    current: Tally | None  # of the running episode, if only whole episodes count
    finished: Tally  # of what counts toward fitness
    episodes: jax.Array  # [B] int32 episodes ended
    lock_steps: jax.Array  # [] int32 steps that the block has taken
    last_obs: jax.Array | None  # [O, B] observation after the last step that counts, if the normaliser needs it


class BlockResult(NamedTuple):
    """What a generation learns from a block."""

    fitness: jax.Array  # [B] float32
    steps: jax.Array  # [B] int32 steps that counted
    episodes: jax.Array  # [B] int32 episodes that counted
    rate: jax.Array  # [B] float32, sum over those steps [1/ms]
    observations: ObservationSums  # [O] for the normaliser


@dataclass(frozen=True)
class Rollout:
    """Episodes of a block as pure functions.

    Attributes:
        task: Task with its episode limit.
        network: The policy.
        first_episode: Whether fitness is the return of the first episode, which ends early for a member that fails;
            otherwise it is the mean over the episodes completed until the slowest member of the population has ended
            one. Members then start over and keep the state of their network.
        all_steps: Whether the normaliser learns from every step that counts; otherwise from the observations at the
            end, or, as the published code does, at the end of the warm-up if there is one.
        warmup_steps: Steps of `warm_up`.
        on_cpu: Whether it is compiled for a CPU, otherwise for a GPU.
    """

    task: Task
    network: Network
    _: KW_ONLY
    first_episode: bool
    all_steps: bool
    warmup_steps: int = 0
    on_cpu: bool = True

    @cached_property
    def _batched(self) -> BatchedTask:
        return BatchedTask(self.task, on_cpu=self.on_cpu)

    def reset(self, keys: jax.Array) -> TaskState:
        """Returns the starts of episodes drawn with `keys` `[B]`."""
        return self._batched.reset(keys)

    def start(self, state: TaskState, carry: Carry, present: jax.Array) -> Lanes:
        """Returns the lanes before the first step; members that are not `present` `[B]` never count."""
        nothing = self._no_tally(present.shape[0])
        started = nothing._replace(total_reward=initial_returns(state))
        keeps_last = self.first_episode and not self.all_steps and not self.warmup_steps
        return Lanes(
            task=state,
            carry=carry,
            current=None if self.first_episode else started,
            finished=started if self.first_episode else nothing,
            episodes=jnp.where(present, 0, 1),
            lock_steps=jnp.zeros((), jnp.int32),
            last_obs=state.obs if keeps_last else None,
        )

    def step(self, params: Params, normalizer: NormalizerState, initial: TaskState, lanes: Lanes) -> Lanes:
        """Returns the lanes after one step; members start over at `initial`."""
        obs = lanes.task.obs
        running = lanes.episodes == 0 if self.first_episode else None
        state, carry = self._act(params, normalizer, (lanes.task, lanes.carry), active=running)
        counts = jnp.ones_like(state.done) if running is None else running
        rate = self.network.spikes_per_ms(carry) if self.network.spikes_per_ms else jnp.zeros_like(state.reward)

        def add(tally: Tally) -> Tally:
            observations = tally.observations
            if observations is not None:
                observations = norm.add_observation(normalizer, observations, obs, counts)
            return Tally(
                tally.total_reward + jnp.where(counts, state.reward, 0.0),
                tally.steps + counts,
                tally.rate + jnp.where(counts, rate, 0.0),
                observations,
            )

        lanes = lanes._replace(carry=carry, lock_steps=lanes.lock_steps + 1)
        if lanes.current is None:
            finished = add(lanes.finished)
            # A member that has failed remains failed until its episode ends, so it need not go on.
            ended = counts & (state.done | ~jnp.isfinite(finished.total_reward))
            last_obs = None if lanes.last_obs is None else jnp.where(counts, state.obs, lanes.last_obs)
            return lanes._replace(task=state, finished=finished, episodes=lanes.episodes + ended, last_obs=last_obs)
        current, ended = add(lanes.current), state.done
        finished = jax.tree.map(lambda f, c: f + jnp.where(ended, c, 0), lanes.finished, current)
        current = jax.tree.map(lambda c: jnp.where(ended, jnp.zeros_like(c), c), current)
        return lanes._replace(
            task=start_over(state, initial), current=current, finished=finished, episodes=lanes.episodes + ended
        )

    def unfinished(self, lanes: Lanes) -> jax.Array:
        """Returns `[]` whether some member has not ended an episode."""
        return jnp.any(lanes.episodes == 0)

    def result(
        self,
        normalizer: NormalizerState,
        tally: Tally,
        last_obs: jax.Array | None,
        *,
        episodes: jax.Array,
        present: jax.Array,
    ) -> BlockResult:
        """Returns the result of a block.

        Args:
            normalizer: Statistics in use.
            tally: Sums over the steps that counted.
            last_obs: `[O, B]` observations at the end.
            episodes: `[B]` episodes ended.
            present: `[B]`, False for members that do not count.
        """
        episodes = jnp.where(present, episodes, 0)
        if tally.observations is not None:
            sums = tally.observations
        elif last_obs is None or self.warmup_steps:
            sums = norm.empty_sums(self.task.observation_size, present.shape[0])
        else:
            sums = self._sums_of(normalizer, last_obs)
        return BlockResult(
            fitness=tally.total_reward / jnp.maximum(episodes, 1),
            steps=jnp.where(present, tally.steps, 0),
            episodes=episodes,
            rate=jnp.where(present, tally.rate, 0.0),
            observations=norm.total(_only(sums, present)),
        )

    def warm_up(
        self, params: Params, normalizer: NormalizerState, starts: tuple[TaskState, Carry], present: jax.Array
    ) -> tuple[Carry, ObservationSums]:
        """Returns the carry after the warm-up steps, and the observations at their end if the normaliser needs them.

        Args:
            params: Parameters of the networks.
            normalizer: Statistics in use.
            starts: Task states at which episodes start, and initial carries.
            present: `[B]`, False for members that do not count.
        """
        initial = starts[0]

        def body(_: jax.Array, now: tuple[TaskState, Carry]) -> tuple[TaskState, Carry]:
            state, carry = self._act(params, normalizer, now)
            return start_over(state, initial), carry

        state, carry = jax.lax.fori_loop(0, self.warmup_steps, body, starts)
        sums = norm.empty_sums(self.task.observation_size, present.shape[0])
        if not self.all_steps:
            sums = self._sums_of(normalizer, state.obs)
        return carry, norm.total(_only(sums, present))

    def _act(
        self,
        params: Params,
        normalizer: NormalizerState,
        now: tuple[TaskState, Carry],
        *,
        active: jax.Array | None = None,
    ) -> tuple[TaskState, Carry]:
        state, carry = now
        carry, action = self.network.step(params, carry, norm.normalize(normalizer, state.obs).T, active)
        return self._batched.step(state, action), carry

    def _no_tally(self, num_members: int) -> Tally:
        zeros = jnp.zeros((num_members,))
        observations = norm.empty_sums(self.task.observation_size, num_members) if self.all_steps else None
        return Tally(zeros, jnp.zeros((num_members,), jnp.int32), zeros, observations)

    def _sums_of(self, normalizer: NormalizerState, obs: jax.Array) -> ObservationSums:
        empty = norm.empty_sums(self.task.observation_size, obs.shape[-1])
        return norm.add_observation(normalizer, empty, obs, jnp.ones((obs.shape[-1],), bool))


def _only(sums: ObservationSums, present: jax.Array) -> ObservationSums:
    return jax.tree.map(lambda x: jnp.where(present, x, 0.0), sums)
