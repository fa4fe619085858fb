"""Evaluation episodes of a fixed policy, with optional lesions and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from evoconn_cli.engine.mesh import DEVICES, WorkerMesh
from evoconn_cli.engine.normalizer import NormalizerState, normalize
from evoconn_cli.engine.policy import PolicyParams, act
from evoconn_cli.engine.rollout import BatchedTask, initial_returns, start_over
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.engine.strategies import Strategy, StrategyState
from evoconn_cli.networks import Activity, Candidates, Carry, Layer, Network
from evoconn_cli.networks.layers import fan_out, keep_connections, num_neurons
from evoconn_cli.tasks import Task, TaskState


class Perturbation(NamedTuple):
    """Strengths of the disturbances of a policy, None for those it does not have."""

    obs_noise: jax.Array | None = None  # [] standard deviation of noise on the normalised observations
    lesion_synapses: jax.Array | None = None  # [] probability that a connection is lost
    lesion_neurons: jax.Array | None = None  # [] probability that a neuron is lost


def lesion_synapses(network: Network, keys: jax.Array, candidates: Candidates, share: jax.Array) -> Candidates:
    """Returns `candidates` after losing each connection with the probability `share`.

    Args:
        network: Network of the candidates.
        keys: `[B]` keys.
        candidates: Candidates of a block.
        share: `[]` probability, 0 to 1.
    """
    order = {name: index for index, name in enumerate(sorted(network.layers))}

    def kept(name: str, layer: Layer, values: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            return jax.random.uniform(jax.random.fold_in(key, order[name]), values.shape[1:]) >= share

        return jax.vmap(one)(keys)

    return keep_connections(network, candidates, kept)


def lesion_neurons(network: Network, keys: jax.Array, candidates: Candidates, share: jax.Array) -> Candidates:
    """Returns `candidates` after losing each neuron, with all its connections, with the probability `share`.

    Args:
        network: Network of the candidates.
        keys: `[B]` keys.
        candidates: Candidates of a block.
        share: `[]` probability, 0 to 1.
    """
    alive = jax.vmap(lambda key: jax.random.uniform(key, (num_neurons(network),)) >= share)(keys)

    def kept(name: str, layer: Layer, values: jax.Array) -> jax.Array:
        stays = jnp.ones(values.shape, bool)
        if layer.pre != "observation":
            stays &= alive[:, :, None]
        if layer.post == "neurons":
            stays &= alive[:, None, :]
        return stays

    return keep_connections(network, candidates, kept)


def observation_noise(keys: jax.Array, step: jax.Array, size: int, std: jax.Array) -> jax.Array:
    """Returns `[B, O]` Gaussian noise, different in every step.

    Args:
        keys: `[B]` keys.
        step: `[]` number of the step.
        size: O.
        std: `[]` standard deviation.
    """
    return std * jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, step), (size,)))(keys)


_EVALUATION = 2**32 - 2
"""Takes the place of the number of a generation in training, so that no draw is one of training's."""


class Stream(IntEnum):
    """Streams of random numbers of an evaluation."""

    CANDIDATES = 0
    CARRY = 1
    RESET = 2
    NOISE = 3
    SYNAPSES = 4
    NEURONS = 5


class SpikeCounts(NamedTuple):
    """Activity of the neurons of a spiking network, summed over the steps of an episode."""

    emitted: jax.Array  # [E, N] int32 spikes fired
    delivered: jax.Array  # [E, N] int32 spikes that arrived, one sub-step after they were fired
    nonzero_rates: jax.Array  # [E, N] int32 steps in which the read-out rate was not 0
    updates: jax.Array  # [E] int32 membrane potentials that changed, over neurons and sub-steps


class EpisodeResults(NamedTuple):
    """Results of `E` episodes."""

    returns: jax.Array  # [E] float32
    lengths: jax.Array  # [E] int32 environment steps
    ended_early: jax.Array  # [E] bool, whether the episode ended before its limit
    nonzero_obs: jax.Array  # [E, O] int32 steps in which a normalised observation was not 0
    fan_out: dict[str, jax.Array]  # layer -> [E, pre] int32 connections that leave a unit
    spikes: SpikeCounts | None  # None for networks without spikes


class _Lanes(NamedTuple):
    task: TaskState  # [..., B]
    carry: Carry  # [B, ...]
    step: jax.Array  # [] int32 steps that the block has taken
    running: jax.Array  # [B] bool
    returns: jax.Array  # [B]
    lengths: jax.Array  # [B]
    ended_early: jax.Array  # [B] bool
    nonzero_obs: jax.Array  # [B, O]
    last: jax.Array | None  # [B, N] bool spikes of the last sub-step
    spikes: SpikeCounts | None


def evaluation_key(seed: int) -> jax.Array:
    """Returns the key that all draws of an evaluation come from."""
    return jax.random.fold_in(jax.random.key(np.uint32(seed), impl=KEY_IMPLEMENTATION), _EVALUATION)


def candidates_key(seed: int) -> jax.Array:
    """Returns the key that draws the networks of a sampled evaluation, one per episode."""
    return jax.random.fold_in(evaluation_key(seed), Stream.CANDIDATES)


def episode_keys(seed: int, episode: int) -> tuple[jax.Array, jax.Array]:
    """Returns the keys that draw the initial states of the task and of the network in one episode of an evaluation."""
    key = evaluation_key(seed)
    reset, carry = (jax.random.fold_in(jax.random.fold_in(key, s), episode) for s in (Stream.RESET, Stream.CARRY))
    return reset, carry


class Learned(NamedTuple):
    """State that training gives a policy."""

    strategy: StrategyState
    normalizer: NormalizerState


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Evaluation episodes of a policy; `run` is to be compiled by the caller.

    Attributes:
        task: Task with its episode limit.
        network: Network of the policy.
        strategy: Strategy that gives its parameters.
        workers: Devices.
        num_episodes: E.
        block: B, episodes in lock-step.
        sampled: Whether every episode has a member of its own, drawn as in training, instead of the centre.
        warmup_steps: Steps that settle the network before the episode, as in training.
    """

    task: Task
    network: Network
    strategy: Strategy
    workers: WorkerMesh
    num_episodes: int
    block: int
    sampled: bool
    warmup_steps: int = 0

    @cached_property
    def batched(self) -> BatchedTask:
        """The task for a block of episodes."""
        return BatchedTask(self.task, on_cpu=self.workers.on_cpu)

    @property
    def episodes(self) -> np.ndarray:
        """`[blocks, B]` int32 numbers of the episodes; those after the last one give nothing of use."""
        return self.workers.deal_blocks(-(-self.num_episodes // self.block), self.block, absent=self.num_episodes)

    def run(self, learned: Learned, key: jax.Array, perturbation: Perturbation, episodes: jax.Array) -> EpisodeResults:
        """Returns the results of all episodes.

        Args:
            learned: State of strategy and normaliser.
            key: Key from `evaluation_key`.
            perturbation: Disturbances of the policy.
            episodes: `[blocks, B]` numbers of the episodes.
        """
        whole, sharded = PartitionSpec(), PartitionSpec(DEVICES)
        run = jax.shard_map(
            self._run_blocks,
            mesh=self.workers.mesh,
            in_specs=(whole, whole, whole, sharded),
            out_specs=sharded,
            check_vma=False,
        )
        return run(learned, key, perturbation, episodes)

    def _run_blocks(
        self, learned: Learned, key: jax.Array, perturbation: Perturbation, episodes: jax.Array
    ) -> EpisodeResults:
        results = lax.map(lambda block: self._run_block(learned, key, perturbation, block), episodes)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)

    def _run_block(
        self, learned: Learned, key: jax.Array, perturbation: Perturbation, episodes: jax.Array
    ) -> EpisodeResults:
        keys = partial(_episode_keys, key, episodes)
        candidates = self._candidates(learned.strategy, key, perturbation, episodes)
        params = PolicyParams(self.network.prepare(candidates), learned.normalizer)
        noise, std = None, perturbation.obs_noise
        if std is not None:
            noise = partial(observation_noise, keys(Stream.NOISE), size=self.task.observation_size, std=std)
        advance = partial(self._advance, params, noise)
        initial = self.batched.reset(keys(Stream.RESET))

        def warm_up(_: jax.Array, now: _Lanes) -> _Lanes:
            now = advance(now)
            return now._replace(task=start_over(now.task, initial))

        lanes = _empty_lanes(self.network, initial, self.network.initial_carry(keys(Stream.CARRY)))
        lanes = lax.fori_loop(0, self.warmup_steps, warm_up, lanes)
        lanes = lanes._replace(task=initial, running=episodes < self.num_episodes, returns=initial_returns(initial))
        lanes = lax.while_loop(lambda now: jnp.any(now.running), advance, lanes)
        return EpisodeResults(
            returns=lanes.returns,
            lengths=lanes.lengths,
            ended_early=lanes.ended_early,
            nonzero_obs=lanes.nonzero_obs,
            fan_out=fan_out(self.network, candidates),
            spikes=lanes.spikes,
        )

    def _candidates(
        self, state: StrategyState, key: jax.Array, perturbation: Perturbation, episodes: jax.Array
    ) -> Candidates:
        """Returns the candidates of a block, with their lesions."""
        if self.sampled:
            found = self.strategy.ask(jax.random.fold_in(key, Stream.CANDIDATES), state, episodes)
        else:
            center = self.strategy.center(state)
            found = jax.tree.map(lambda x: jnp.broadcast_to(x, (*episodes.shape, *x.shape[1:])), center)
        for lesion, stream, share in (
            (lesion_synapses, Stream.SYNAPSES, perturbation.lesion_synapses),
            (lesion_neurons, Stream.NEURONS, perturbation.lesion_neurons),
        ):
            if share is not None:
                found = lesion(self.network, _episode_keys(key, episodes, stream), found, share)
        return found

    def _advance(self, params: PolicyParams, noise: Callable[[jax.Array], jax.Array] | None, now: _Lanes) -> _Lanes:
        """Returns the lanes of a block after one more step."""
        assert self.task.episode_length is not None
        obs = normalize(params.normalizer, now.task.obs).T
        if noise is not None:
            obs += noise(now.step)
        carry, action, activity = act(self.network, params.network, now.carry, obs)
        state = self.batched.step(now.task, action)
        counted = _count_spikes(now, activity) if activity is not None else {}
        ended = now.running & state.done
        return now._replace(
            task=state,
            carry=carry,
            step=now.step + 1,
            running=now.running & ~state.done,
            returns=now.returns + jnp.where(now.running, state.reward, 0.0),
            lengths=now.lengths + now.running,
            ended_early=now.ended_early | (ended & (state.steps < self.task.episode_length)),
            nonzero_obs=now.nonzero_obs + (now.running[:, None] & (obs != 0.0)),
            **counted,
        )


def _episode_keys(key: jax.Array, episodes: jax.Array, stream: int) -> jax.Array:
    """Returns a key `[B]` per episode of one stream of random numbers."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, stream), episodes)


def _count_spikes(now: _Lanes, activity: Activity) -> dict[str, jax.Array | SpikeCounts]:
    """Returns the fields of the lanes that count what neurons did, after one more step."""
    assert now.last is not None and now.spikes is not None
    runs = now.running[:, None]
    emitted = jnp.sum(activity.spikes, axis=0, dtype=jnp.int32)
    delivered = emitted + now.last - activity.spikes[-1]
    return {
        "last": activity.spikes[-1],
        "spikes": SpikeCounts(
            emitted=now.spikes.emitted + jnp.where(runs, emitted, 0),
            delivered=now.spikes.delivered + jnp.where(runs, delivered, 0),
            nonzero_rates=now.spikes.nonzero_rates + (runs & (activity.rate != 0.0)),
            updates=now.spikes.updates + jnp.where(now.running, jnp.sum(activity.updates, axis=1), 0),
        ),
    }


def _empty_lanes(network: Network, initial: TaskState, carry: Carry) -> _Lanes:
    """Returns the lanes of a block before its first step, none of them running yet."""
    observation_size, num_lanes = initial.obs.shape
    none = jnp.zeros((num_lanes,), jnp.int32)
    last = spikes = None
    if network.record is not None:
        no_neurons = jnp.zeros((num_lanes, num_neurons(network)), jnp.int32)
        last, spikes = no_neurons.astype(bool), SpikeCounts(no_neurons, no_neurons, no_neurons, none)
    return _Lanes(
        task=initial,
        carry=carry,
        step=jnp.zeros((), jnp.int32),
        running=none.astype(bool),
        returns=none.astype(jnp.float32),
        lengths=none,
        ended_early=none.astype(bool),
        nonzero_obs=jnp.zeros((num_lanes, observation_size), jnp.int32),
        last=last,
        spikes=spikes,
    )
