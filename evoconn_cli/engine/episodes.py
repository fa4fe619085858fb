"""Evaluation episodes of a fixed policy, with optional lesions and noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.mesh import DEVICES, WorkerMesh
from evoconn_cli.engine.normalizer import NormalizerState
from evoconn_cli.engine.rollout import batch_task, initial_returns, start_over
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.engine.strategies import Strategy, StrategyState
from evoconn_cli.networks import Activity, Candidates, Carry, Layer, Network, Params
from evoconn_cli.networks.layers import fan_out, keep_connections, num_neurons
from evoconn_cli.tasks import Task, TaskState


class Perturbation(NamedTuple):
    """How strongly a policy is disturbed; None where it is not."""

    obs_noise: jax.Array | None = None  # [] standard deviation of noise on the normalised observations
    lesion_synapses: jax.Array | None = None  # [] probability that a connection is lost
    lesion_neurons: jax.Array | None = None  # [] probability that a neuron is lost


def lesion_synapses(network: Network, keys: jax.Array, candidates: Candidates, share: jax.Array) -> Candidates:
    """Returns `candidates` that have lost each connection with the probability `share`.

    Args:
        network: whose candidates they are.
        keys: `[B]`.
        candidates: of a block.
        share: `[]`, 0 to 1.
    """
    order = {name: index for index, name in enumerate(sorted(network.layers))}

    def kept(name: str, layer: Layer, values: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            return jax.random.uniform(jax.random.fold_in(key, order[name]), values.shape[1:]) >= share

        return jax.vmap(one)(keys)

    return keep_connections(network, candidates, kept)


def lesion_neurons(network: Network, keys: jax.Array, candidates: Candidates, share: jax.Array) -> Candidates:
    """Returns `candidates` that have lost each neuron with the probability `share`: all connections from and to it.

    Args:
        network: whose candidates they are.
        keys: `[B]`.
        candidates: of a block.
        share: `[]`, 0 to 1.
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
    """Returns `[B, O]` Gaussian noise, another one in every step.

    Args:
        keys: `[B]`.
        step: `[]` number of the step.
        size: O.
        std: `[]` standard deviation.
    """
    return std * jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, step), (size,)))(keys)


_EVALUATION = 2**32 - 2
"""Stands where training has the number of a generation, so that no draw is one of training's."""

_CANDIDATES, _CARRY, _RESET, _NOISE, _SYNAPSES, _NEURONS = range(6)
"""Streams of random numbers."""


class SpikeCounts(NamedTuple):
    """What the neurons of a spiking network did, added up over the steps of an episode."""

    emitted: jax.Array  # [E, N] int32 spikes fired
    delivered: jax.Array  # [E, N] int32 spikes that arrived: those of the sub-step before
    nonzero_rates: jax.Array  # [E, N] int32 steps in which the rate that is read out was not 0
    updates: jax.Array  # [E] int32 membrane potentials that changed, over neurons and sub-steps


class EpisodeResults(NamedTuple):
    """What `E` episodes gave."""

    returns: jax.Array  # [E] float32
    lengths: jax.Array  # [E] int32 environment steps
    ended_early: jax.Array  # [E] bool, whether the episode ended before its limit
    nonzero_obs: jax.Array  # [E, O] int32 steps in which a normalised observation was not 0
    fan_out: dict[str, jax.Array]  # layer -> [E, pre] int32 connections that leave a unit
    spikes: SpikeCounts | None  # of spiking networks


class Evaluation(NamedTuple):
    """Episodes, to be compiled and called as `run(strategy_state, normalizer, key, perturbation, episodes)`."""

    run: Callable[[StrategyState, NormalizerState, jax.Array, Perturbation, jax.Array], EpisodeResults]
    episodes: np.ndarray  # [blocks, B] int32 numbers of the episodes; those beyond the last are not to be read


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
    """Returns the data `[2]` of the key that all draws of an evaluation come from."""
    key = jax.random.key(np.uint32(seed), impl=KEY_IMPLEMENTATION)
    return jax.random.key_data(jax.random.fold_in(key, _EVALUATION))


def candidates_key(seed: int) -> jax.Array:
    """Returns the key that draws the networks of a sampled evaluation, one for each episode."""
    return jax.random.fold_in(jax.random.wrap_key_data(evaluation_key(seed), impl=KEY_IMPLEMENTATION), _CANDIDATES)


def episode_keys(seed: int, episode: int) -> tuple[jax.Array, jax.Array]:
    """Returns the keys that draw the initial states of the task and of the network in one episode of an evaluation."""
    key = jax.random.wrap_key_data(evaluation_key(seed), impl=KEY_IMPLEMENTATION)
    reset, carry = (jax.random.fold_in(jax.random.fold_in(key, stream), episode) for stream in (_RESET, _CARRY))
    return reset, carry


def make_evaluation(
    task: Task,
    network: Network,
    strategy: Strategy,
    workers: WorkerMesh,
    *,
    num_episodes: int,
    block: int,
    sampled: bool,
    warmup_steps: int = 0,
) -> Evaluation:
    """Returns the program that evaluates a policy, not yet compiled.

    Args:
        task: with its episode limit; an episode that ends before it has ended early.
        network: the policy.
        strategy: gives the policy's parameters.
        workers: the devices.
        num_episodes: E.
        block: B, episodes in lock-step.
        sampled: every episode has a member of its own, drawn as in training; otherwise all have the centre.
        warmup_steps: steps that settle the network before the episode, as in training.
    """
    batched, episode_length = batch_task(task, on_cpu=workers.on_cpu), task.episode_length
    assert episode_length is not None

    def run_block(
        strategy_state: StrategyState,
        normalizer: NormalizerState,
        key: jax.Array,
        perturbation: Perturbation,
        episodes: jax.Array,
    ) -> EpisodeResults:
        def keys(stream: int) -> jax.Array:
            return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, stream), episodes)

        def policy() -> Candidates:
            if sampled:
                found = strategy.ask(jax.random.fold_in(key, _CANDIDATES), strategy_state, episodes)
            else:
                center = strategy.center(strategy_state)
                found = jax.tree.map(lambda x: jnp.broadcast_to(x, (*episodes.shape, *x.shape[1:])), center)
            if perturbation.lesion_synapses is not None:
                found = lesion_synapses(network, keys(_SYNAPSES), found, perturbation.lesion_synapses)
            if perturbation.lesion_neurons is not None:
                found = lesion_neurons(network, keys(_NEURONS), found, perturbation.lesion_neurons)
            return found

        def advance(params: Params, now: _Lanes) -> _Lanes:
            obs = norm.normalize(normalizer, now.task.obs).T
            if perturbation.obs_noise is not None:
                obs += observation_noise(noise_keys, now.step, task.observation_size, perturbation.obs_noise)
            carry, action, activity = _act(network, params, now.carry, obs)
            state = batched.step(now.task, action)
            counted = _count_spikes(now, activity) if activity is not None else {}
            return now._replace(
                task=state,
                carry=carry,
                step=now.step + 1,
                running=now.running & ~state.done,
                returns=now.returns + jnp.where(now.running, state.reward, 0.0),
                lengths=now.lengths + now.running,
                ended_early=now.ended_early | (now.running & state.done & (state.steps < episode_length)),
                nonzero_obs=now.nonzero_obs + (now.running[:, None] & (obs != 0.0)),
                **counted,
            )

        def warm_up(_: jax.Array, now: _Lanes) -> _Lanes:
            now = advance(params, now)
            return now._replace(task=start_over(now.task, initial))

        candidates = policy()
        params = network.prepare(candidates)
        noise_keys = keys(_NOISE)
        initial = batched.reset(keys(_RESET))
        lanes = _empty_lanes(network, initial, network.initial_carry(keys(_CARRY)), task.observation_size)
        lanes = lax.fori_loop(0, warmup_steps, warm_up, lanes)
        lanes = lanes._replace(task=initial, running=episodes < num_episodes, returns=initial_returns(initial))
        lanes = lax.while_loop(lambda now: jnp.any(now.running), lambda now: advance(params, now), lanes)
        return EpisodeResults(
            returns=lanes.returns,
            lengths=lanes.lengths,
            ended_early=lanes.ended_early,
            nonzero_obs=lanes.nonzero_obs,
            fan_out=fan_out(network, candidates),
            spikes=lanes.spikes,
        )

    def run(
        strategy_state: StrategyState,
        normalizer: NormalizerState,
        key: jax.Array,
        perturbation: Perturbation,
        episodes: jax.Array,
    ) -> EpisodeResults:
        wrapped = jax.random.wrap_key_data(key, impl=KEY_IMPLEMENTATION)
        results = lax.map(lambda e: run_block(strategy_state, normalizer, wrapped, perturbation, e), episodes)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)

    whole, sharded = PartitionSpec(), PartitionSpec(DEVICES)
    return Evaluation(
        run=jax.shard_map(
            run,
            mesh=workers.mesh,
            in_specs=(whole, whole, whole, whole, sharded),
            out_specs=sharded,
            check_vma=False,
        ),
        episodes=workers.deal_blocks(-(-num_episodes // block), block, absent=num_episodes),
    )


def _act(network: Network, params: Params, carry: Carry, obs: jax.Array) -> tuple[Carry, jax.Array, Activity | None]:
    if network.record is None:
        return *network.step(params, carry, obs), None
    return network.record(params, carry, obs)


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


def _empty_lanes(network: Network, initial: TaskState, carry: Carry, observation_size: int) -> _Lanes:
    """Returns the lanes of a block before its first step, with nobody counting yet."""
    num_lanes = initial.done.shape[0]
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
