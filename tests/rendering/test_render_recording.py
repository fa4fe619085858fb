from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.config.schema import ConnSnnConfig, DenseSnnConfig
from evoconn_cli.engine.episodes import Evaluation, Learned, Perturbation, episode_keys, evaluation_key
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.normalizer import initial_normalizer
from evoconn_cli.engine.policy import PolicyParams
from evoconn_cli.errors import EvoconnError
from evoconn_cli.networks import Activity
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.networks.dense_snn import make_dense_snn
from evoconn_cli.networks.flax_networks import make_flax_network
from evoconn_cli.networks.lif import LifConstants
from evoconn_cli.rendering.recording import Motion, Subject, record_episodes
from evoconn_cli.tasks import Task, TaskState, limit_episodes

NEURONS = 12


def travelling_task(*, ends_after: int = 1000, breaks_after: int = 1000, worthless_after: int = 1000) -> Task:
    """Returns a task with one body that travels along x, whose action is its speed.

    After so many steps its position, or its reward, is no number.
    """

    def state(position, reward, steps):
        broken = jnp.where(steps > breaks_after, jnp.nan, position)
        qp = SimpleNamespacePytree(pos=broken[None], rot=jnp.array([[1.0, 0.0, 0.0, 0.0]]))
        reward = jnp.where(steps > worthless_after, jnp.nan, reward)
        return TaskState((qp, ()), jnp.stack([position[0], 1.0]), reward, steps >= ends_after, steps)

    def reset(key):
        return state(jax.random.uniform(key, (3,)), jnp.zeros(()), jnp.zeros((), jnp.int32))

    def step(now, action):
        position = now.physics[0].pos[0] + jnp.stack([action[0], 0.0, 0.0])
        return state(position, action[0], now.steps + 1)

    def poses(now):
        return now.physics[0].pos, now.physics[0].rot

    return Task("travel", observation_size=2, action_size=1, dt=0.1, reset=reset, step=step, poses=poses)


@jax.tree_util.register_pytree_node_class
class SimpleNamespacePytree(SimpleNamespace):
    """Stands for Brax's QP."""

    def tree_flatten(self):
        return (self.pos, self.rot), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(pos=children[0], rot=children[1])


def counting_network(on_step=lambda: None) -> SimpleNamespace:
    """Returns a network whose carry counts its steps, whose action is that count, and whose spikes show it in bits.

    Its parameters are a number that is added to the action.
    """

    def record(params, carry, obs):
        del obs
        on_step()
        spikes = jnp.stack([(carry[:, None] >> jnp.arange(NEURONS)) & 1, jnp.zeros((1, NEURONS), int)]).astype(bool)
        nothing = jnp.zeros((1, NEURONS))
        return carry + 1, carry[:, None] + jnp.float32(params), Activity(spikes, nothing, nothing, nothing)

    return SimpleNamespace(
        initial_carry=lambda keys: jnp.zeros(keys.shape, int),
        step=lambda params, carry, obs: record(params, carry, obs)[:2],
        record=record,
    )


def subject(task: Task, network, params_of=lambda number: 0.0, **options) -> Subject:
    """Returns a subject with a normaliser that leaves observations as they are."""

    def with_normalizer(number):
        return PolicyParams(params_of(number), initial_normalizer(2))

    return Subject(task, network, with_normalizer, "", **options)


class Notes(list):
    """Takes the place of a progress bar."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Shows nothing."""

    def advance(self, done: int) -> None:
        """Shows nothing."""

    note = list.append


def record(subject: Subject, *, seed: int = 0, notes: Notes | None = None, **options) -> list[Motion]:
    return record_episodes(subject, Notes() if notes is None else notes, seed=seed, **options)


def test_every_step_is_recorded_in_order():
    task = limit_episodes(travelling_task(), episode_length=230)
    (episode,) = record(subject(task, counting_network()))
    assert episode.num_steps == 230
    assert episode.positions.shape == (231, 1, 3) and episode.rotations.shape == (231, 1, 4)
    np.testing.assert_array_equal(episode.rewards, np.arange(230))
    np.testing.assert_allclose(np.diff(episode.positions[:, 0, 0]), np.arange(230), rtol=1e-5, atol=1e-2)
    spikes = np.unpackbits(episode.spikes, axis=-1, count=NEURONS)
    np.testing.assert_array_equal(spikes[:, 0], (np.arange(230)[:, None] >> np.arange(NEURONS)) & 1)
    assert not spikes[:, 1].any() and not episode.broke


@pytest.mark.parametrize(
    ("ends_after", "max_steps", "length"), [(57, None, 57), (57, 30, 30), (57, 400, 57), (150, 100, 100)]
)
def test_an_episode_ends_with_the_task_or_with_the_limit(ends_after, max_steps, length):
    task = travelling_task(ends_after=ends_after)
    (episode,) = record(subject(task, counting_network()), max_steps=max_steps)
    assert episode.num_steps == length


@pytest.mark.parametrize("task", [travelling_task(breaks_after=40), travelling_task(worthless_after=40)])
def test_an_episode_ends_before_numbers_that_are_not_finite(task):
    notes = Notes()
    (episode,) = record(subject(task, counting_network()), max_steps=90, notes=notes, first=3)
    assert episode.num_steps == 40 and episode.broke
    assert np.isfinite(episode.positions).all() and np.isfinite(episode.rewards).all()
    assert notes == ["Episode 3 ends where the physics or the reward is no longer finite."]


def test_an_episode_without_a_single_finite_step_is_an_error():
    with pytest.raises(EvoconnError, match="first step"):
        record(subject(travelling_task(breaks_after=0), counting_network()), max_steps=10)


def test_a_warm_up_settles_the_network_and_starts_the_episode_where_it_would_start():
    task = travelling_task(ends_after=20)
    (without,) = record(subject(task, counting_network()))
    (settled,) = record(subject(task, counting_network(), warmup_steps=33))
    np.testing.assert_array_equal(without.positions[0], settled.positions[0])
    np.testing.assert_array_equal(settled.rewards, without.rewards + 33)


def test_a_recorder_is_compiled_once_for_all_parameters():
    traces = []
    network = counting_network(lambda: traces.append(1))
    task = travelling_task(ends_after=5)
    (once,) = record(subject(task, network))
    first = len(traces)
    both = record(subject(task, network, params_of=float), num_episodes=2)
    assert len(traces) == 2 * first
    np.testing.assert_array_equal(both[0].rewards, once.rewards)
    np.testing.assert_array_equal(both[1].rewards, once.rewards + 1)


@pytest.mark.slow
def test_the_recorded_spikes_are_those_of_the_network():
    network = make_conn_snn(ConnSnnConfig("conn_snn", NEURONS), observation_size=2, action_size=1)
    rng = np.random.default_rng(0)
    layers = {
        name: rng.integers(0, 2**NEURONS, (1, 1, *shape.shape[1:]), np.uint32) for name, shape in network.shapes.items()
    }
    params = network.prepare(jax.tree.map(jnp.asarray, layers))
    task = travelling_task(ends_after=8)
    (episode,) = record(subject(task, network, lambda number: params))
    reset_key, carry_key = episode_keys(0, 0)
    state, carry = task.reset(reset_key), network.initial_carry(carry_key[None])
    network_record = jax.jit(network.record)
    for step in range(8):
        carry, action, activity = network_record(params, carry, state.obs[None])
        spikes = np.unpackbits(episode.spikes[step], axis=-1, count=NEURONS)
        np.testing.assert_array_equal(spikes, activity.spikes[:, 0])
        state = task.step(state, action[0])
        np.testing.assert_allclose(episode.positions[step + 1], state.physics[0].pos, rtol=1e-5)
    assert 0 < episode.spikes.sum()


def test_neurons_are_those_of_the_network():
    sizes = {"observation_size": 2, "action_size": 1}
    boolean = make_conn_snn(ConnSnnConfig("conn_snn", NEURONS, excitatory_ratio=0.25), **sizes)
    assert boolean.neurons[:3] == (NEURONS, 3, LifConstants()) and boolean.neurons.sizes == [3, NEURONS - 3]
    dense = make_dense_snn(DenseSnnConfig("dense_snn", 4, dt_ms=0.25), **sizes)
    assert dense.neurons[:3] == (4, None, LifConstants(dt_ms=0.25)) and dense.neurons.sizes == [4]
    assert make_flax_network("mlp", **sizes, num_neurons=4).neurons is None


@pytest.mark.slow
def test_the_episodes_of_a_seed_are_those_that_evaluation_plays():
    task = limit_episodes(travelling_task(), episode_length=12)
    mlp = make_flax_network("mlp", observation_size=2, action_size=1, num_neurons=4)
    weights = jax.tree.map(lambda x: x[None], mlp.initial_weights(jax.random.key(0)))
    evaluation = Evaluation(
        task=task,
        network=mlp,
        strategy=SimpleNamespace(center=lambda state: weights),
        workers=make_worker_mesh(jax.local_devices(), 1),
        num_episodes=3,
        block=3,
        sampled=False,
        warmup_steps=2,
    )
    normalizer = initial_normalizer(2)
    run = jax.jit(evaluation.run)
    results = run(Learned((), normalizer), evaluation_key(7), Perturbation(), evaluation.episodes)
    params = PolicyParams(mlp.prepare(weights), normalizer)
    episodes = record(Subject(task, mlp, lambda number: params, "", warmup_steps=2), seed=7, num_episodes=3)
    assert all(episode.spikes is None for episode in episodes)
    returns = [episode.rewards.sum() for episode in episodes]
    np.testing.assert_allclose(returns, results.returns[:3], rtol=1e-5)
    assert len(set(returns)) == 3
