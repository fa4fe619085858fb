"""Simulates the episodes of a block of members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.members_last import members_last
from evoconn_cli.engine.normalizer import NormalizerState, ObservationSums
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.networks import Carry, Network, Params
from evoconn_cli.tasks import Task, TaskState


class BatchedTask(NamedTuple):
    """A task whose states have the member axis last, `[..., B]`."""

    reset: Callable[[jax.Array], TaskState]  # of keys [B]
    step: Callable[[TaskState, jax.Array], TaskState]  # of states and actions [B, A]


def batch_task(task: Task, *, on_cpu: bool = True) -> BatchedTask:
    """Returns `task` for a block of members.

    A member fails where one of its observations or actions is not finite: its reward is NaN then.

    Args:
        task: of one member.
        on_cpu: what it is compiled for, otherwise a GPU.
    """
    batched_step = members_last(task.step, barriers=on_cpu)
    batched_reset = members_last(
        lambda data: task.reset(jax.random.wrap_key_data(data, impl=KEY_IMPLEMENTATION)), barriers=on_cpu
    )

    def reset(keys: jax.Array) -> TaskState:
        return batched_reset(jax.random.key_data(keys).T)

    def step(state: TaskState, action: jax.Array) -> TaskState:
        after = batched_step(state, action.T)
        finite = _all_finite(after.obs) & _all_finite(action.T)
        return after._replace(reward=jnp.where(finite, after.reward, jnp.nan))

    return BatchedTask(reset, step)


def initial_returns(state: TaskState) -> jax.Array:
    """Returns `[B]` the returns before the first step: 0, and NaN where the first observation is not finite."""
    return jnp.where(_all_finite(state.obs), 0.0, jnp.nan)


def start_over(state: TaskState, initial: TaskState) -> TaskState:
    """Returns `state` with members whose episode ended back at their `initial` state."""
    return jax.tree.map(lambda first, now: jnp.where(state.done, first, now), initial, state)


def _all_finite(x: jax.Array) -> jax.Array:
    """Returns `[B]` bool from `[n, B]`."""
    return jnp.all(jnp.isfinite(x), axis=0)


class Tally(NamedTuple):
    """What is added up over the steps of a member's episodes."""

    total_reward: jax.Array  # [B] float32
    steps: jax.Array  # [B] int32
    rate: jax.Array  # [B] float32, sum over steps of the mean rate of the neurons [1/ms]
    observations: ObservationSums | None  # [O, B], None where the normaliser does not want them


class Lanes(NamedTuple):
    """State of a block while it is simulated."""

    task: TaskState  # [..., B]
    carry: Carry  # [B, ...]
    current: Tally | None  # of the episode that runs, where only whole episodes count
    finished: Tally  # of what counts toward fitness
    episodes: jax.Array  # [B] int32 episodes ended
    lock_steps: jax.Array  # [] int32 steps that the block has taken
    last_obs: jax.Array | None  # [O, B] observation after the last step that counts, where it is wanted


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
        first_episode: whether only a member's first episode counts; otherwise members start over until all of
            the population have ended one, and whole episodes count.
        warmup_steps: steps of `warm_up`.
        reset: `reset(keys [B]) -> state` starts of episodes.
        start: `start(state, carry, present [B]) -> lanes`; members that are not present never count.
        step: `step(params, normalizer, initial, lanes) -> lanes`; `initial` is where members start over.
        unfinished: `unfinished(lanes) -> bool` whether some member has not ended an episode.
        result: `result(normalizer, tally, episodes [B], last_obs [O, B], present [B]) -> BlockResult`.
        warm_up: `warm_up(params, normalizer, initial, carry, present) -> (carry, sums)` settles the network.
    """

    first_episode: bool
    warmup_steps: int
    reset: Callable[[jax.Array], TaskState]
    start: Callable[[TaskState, Carry, jax.Array], Lanes]
    step: Callable[[Params, NormalizerState, TaskState, Lanes], Lanes]
    unfinished: Callable[[Lanes], jax.Array]
    result: Callable[[NormalizerState, Tally, jax.Array, jax.Array | None, jax.Array], BlockResult]
    warm_up: Callable[[Params, NormalizerState, TaskState, Carry, jax.Array], tuple[Carry, ObservationSums]]


def make_rollout(
    task: Task,
    network: Network,
    *,
    first_episode: bool,
    all_steps: bool,
    warmup_steps: int = 0,
    on_cpu: bool = True,
) -> Rollout:
    """Returns how a block is simulated.

    Args:
        task: with its episode limit.
        network: the policy.
        first_episode: fitness is the return of the first episode, which ends early for a member that fails;
            otherwise the mean of the episodes completed until the slowest member has ended one, with the network's
            state kept when an episode starts over.
        all_steps: the normaliser learns from every step that counts; otherwise from the observations at hand
            at the end, or, as the published code does, at the end of the warm-up where there is one.
        warmup_steps: steps of `warm_up`.
        on_cpu: what it is compiled for, otherwise a GPU.
    """
    batched = batch_task(task, on_cpu=on_cpu)
    latch_obs = first_episode and not all_steps and not warmup_steps

    def act(
        params: Params,
        normalizer: NormalizerState,
        state: TaskState,
        carry: Carry,
        active: jax.Array | None = None,
    ) -> tuple[TaskState, Carry]:
        carry, action = network.step(params, carry, norm.normalize(normalizer, state.obs).T, active)
        return batched.step(state, action), carry

    def no_tally(num_members: int) -> Tally:
        zeros = jnp.zeros((num_members,))
        observations = norm.empty_sums(task.observation_size, num_members) if all_steps else None
        return Tally(zeros, jnp.zeros((num_members,), jnp.int32), zeros, observations)

    def start(state: TaskState, carry: Carry, present: jax.Array) -> Lanes:
        nothing = no_tally(present.shape[0])
        started = nothing._replace(total_reward=initial_returns(state))
        return Lanes(
            task=state,
            carry=carry,
            current=None if first_episode else started,
            finished=started if first_episode else nothing,
            episodes=jnp.where(present, 0, 1),
            lock_steps=jnp.zeros((), jnp.int32),
            last_obs=state.obs if latch_obs else None,
        )

    def step(params: Params, normalizer: NormalizerState, initial: TaskState, lanes: Lanes) -> Lanes:
        obs = lanes.task.obs
        running = lanes.episodes == 0 if first_episode else None
        state, carry = act(params, normalizer, lanes.task, lanes.carry, running)
        counts = jnp.ones_like(state.done) if running is None else running
        rate = network.spikes_per_ms(carry) if network.spikes_per_ms else jnp.zeros_like(state.reward)

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
            # A member that has failed stays so, whatever it does until its episode ends: it need not go on.
            ended = counts & (state.done | ~jnp.isfinite(finished.total_reward))
            last_obs = None if lanes.last_obs is None else jnp.where(counts, state.obs, lanes.last_obs)
            return lanes._replace(task=state, finished=finished, episodes=lanes.episodes + ended, last_obs=last_obs)
        current, ended = add(lanes.current), state.done
        finished = jax.tree.map(lambda f, c: f + jnp.where(ended, c, 0), lanes.finished, current)
        current = jax.tree.map(lambda c: jnp.where(ended, jnp.zeros_like(c), c), current)
        return lanes._replace(
            task=start_over(state, initial), current=current, finished=finished, episodes=lanes.episodes + ended
        )

    def unfinished(lanes: Lanes) -> jax.Array:
        return jnp.any(lanes.episodes == 0)

    def result(
        normalizer: NormalizerState,
        tally: Tally,
        episodes: jax.Array,
        last_obs: jax.Array | None,
        present: jax.Array,
    ) -> BlockResult:
        episodes = jnp.where(present, episodes, 0)
        if tally.observations is not None:
            sums = tally.observations
        elif last_obs is None or warmup_steps:
            sums = norm.empty_sums(task.observation_size, present.shape[0])
        else:
            sums = at_hand(normalizer, last_obs)
        return BlockResult(
            fitness=tally.total_reward / jnp.maximum(episodes, 1),
            steps=jnp.where(present, tally.steps, 0),
            episodes=episodes,
            rate=jnp.where(present, tally.rate, 0.0),
            observations=norm.total(_only(sums, present)),
        )

    def at_hand(normalizer: NormalizerState, obs: jax.Array) -> ObservationSums:
        empty = norm.empty_sums(task.observation_size, obs.shape[-1])
        return norm.add_observation(normalizer, empty, obs, jnp.ones((obs.shape[-1],), bool))

    def warm_up(
        params: Params, normalizer: NormalizerState, initial: TaskState, carry: Carry, present: jax.Array
    ) -> tuple[Carry, ObservationSums]:
        def body(_: jax.Array, now: tuple[TaskState, Carry]) -> tuple[TaskState, Carry]:
            state, carry = act(params, normalizer, *now)
            return start_over(state, initial), carry

        state, carry = jax.lax.fori_loop(0, warmup_steps, body, (initial, carry))
        sums = norm.empty_sums(task.observation_size, present.shape[0])
        if not all_steps:
            sums = at_hand(normalizer, state.obs)
        return carry, norm.total(_only(sums, present))

    return Rollout(first_episode, warmup_steps, batched.reset, start, step, unfinished, result, warm_up)


def _only(sums: ObservationSums, present: jax.Array) -> ObservationSums:
    return jax.tree.map(lambda x: jnp.where(present, x, 0.0), sums)
