"""The neuromorphic figures against counts by hand: one loop over spikes and connections, and small literal numbers."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from saved_runs import save_run

from evoconn_cli.api import load_run
from evoconn_cli.config.schema import ConnSnnConfig
from evoconn_cli.engine.episodes import EpisodeResults, SpikeCounts, episode_keys
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.evaluation.evaluating import evaluate
from evoconn_cli.evaluation.neurobench import energy_nj, neurobench_figures
from evoconn_cli.evaluation.opened import open_run
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.networks.flax_networks import make_flax_network

N, STEPS = 6, 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "six"
    return save_run(
        path,
        "task.name=probe_sign",
        f"task.episode_length={STEPS}",
        f"network.num_neurons={N}",
        "network.excitatory_ratio=0.34",
        "network.gain_in=0.5",
        eval_fitness={1: 1.0},
    )


def count_by_hand(path, carry_of):
    """Counts spike by spike and connection by connection, for the episodes that `carry_of` and `reset` start."""
    loaded = load_run(path)
    policy, wiring, task = loaded.policy(), loaded.connectivity(), loaded.task
    normalizer = loaded.state.normalizer
    acs = macs = spikes = updates = 0
    by_type = {1: 0, -1: 0}
    for now, carry in carry_of(task, policy):
        before = np.zeros(N, bool)  # spikes of the sub-step before
        for _ in range(STEPS):
            x = (np.asarray(now.obs) - np.asarray(normalizer.mean)) / np.asarray(normalizer.std)
            for unit, value in enumerate([*x, *(-x)]):
                macs += sum(1 for post in range(N) if value != 0.0 and wiring.input[unit, post])
            carry, action, activity = policy.record(carry, now.obs)
            for fired in np.asarray(activity.spikes):
                for pre in range(N):
                    if before[pre]:
                        acs += sum(1 for post in range(N) if wiring.recurrent[pre, post])
                    if fired[pre]:
                        spikes += 1
                        by_type[int(wiring.neuron_types[pre])] += 1
                before = fired
            for pre, rate in enumerate(np.asarray(activity.rate)):
                macs += sum(1 for post in range(1) if rate != 0.0 and wiring.output[pre, post])
            updates += int(np.asarray(activity.updates).sum())
            now = task.step(now, action)
    return acs, macs, spikes, updates, by_type


@pytest.mark.slow
def test_the_figures_are_what_is_counted_by_hand(run):
    episodes, seed = 3, 5
    opened = open_run(run, workers=make_worker_mesh(jax.devices(), 1))
    (one,) = evaluate([opened], [{}], num_episodes=episodes, seed=seed, sampled=False)

    def starts(task, policy):
        for episode in range(episodes):
            reset, carry = episode_keys(seed, episode)
            yield task.reset(reset), policy.initial_carry(carry)

    acs, macs, spikes, updates, by_type = count_by_hand(run, starts)
    total = episodes * STEPS
    assert acs > 0 and macs > 0 and by_type[1] > 0 and by_type[-1] > 0
    figures = one.figures
    assert figures.effective_acs == acs / total
    assert figures.effective_macs == macs / total
    assert figures.membrane_updates == updates / total
    assert figures.activation_sparsity == pytest.approx(1 - spikes / (N * 33 * total))
    seconds = total * 33 * 0.5e-3
    assert figures.spikes_per_second == pytest.approx(spikes / N / seconds)
    assert figures.spikes_per_second_excitatory == pytest.approx(by_type[1] / 2 / seconds)
    assert figures.spikes_per_second_inhibitory == pytest.approx(by_type[-1] / 4 / seconds)
    wiring = load_run(run).connectivity()
    there = sum(int(layer.sum()) for layer in (wiring.input, wiring.recurrent, wiring.output))
    assert figures.connection_sparsity == pytest.approx(1 - there / (4 * N + N * N + N))
    assert figures.dense_operations == 4 * N + 33 * N * N + N


def test_literal_numbers_of_a_small_network():
    """Two neurons, one observation, one action; two episodes of 1 and 3 steps."""
    network = make_conn_snn(ConnSnnConfig("conn_snn", 2, step_ms=1.0), observation_size=1, action_size=1)
    results = EpisodeResults(
        returns=np.zeros(2, np.float32),
        lengths=np.array([1, 3], np.int32),
        ended_early=np.zeros(2, bool),
        nonzero_obs=np.array([[1], [2]], np.int32),
        fan_out={
            "input": np.array([[2, 1], [2, 1]], np.int32),
            "recurrent": np.array([[1, 2], [1, 2]], np.int32),
            "output": np.array([[1, 0], [1, 0]], np.int32),
        },
        spikes=SpikeCounts(
            emitted=np.array([[1, 0], [2, 1]], np.int32),
            delivered=np.array([[1, 0], [1, 1]], np.int32),
            nonzero_rates=np.array([[1, 0], [3, 1]], np.int32),
            updates=np.array([4, 8], np.int32),
        ),
    )
    figures = neurobench_figures(network, results)
    assert figures.effective_acs == (1 * 1 + (1 * 1 + 1 * 2)) / 4
    assert figures.effective_macs == (1 * 3 + 2 * 3 + 1 * 1 + 3 * 1) / 4
    assert figures.connection_sparsity == pytest.approx(1 - 7 / 10)
    assert figures.dense_operations == 2 * 2 + 2 * 2 * 2 + 2
    assert figures.activation_sparsity == pytest.approx(1 - 4 / (2 * 2 * 4))
    assert figures.membrane_updates == 3.0
    assert figures.spikes_per_second_excitatory == pytest.approx(3 / 0.004)
    assert figures.spikes_per_second_inhibitory == pytest.approx(1 / 0.004)
    assert energy_nj(figures, "45nm") == pytest.approx((0.9 * 1.0 + 4.6 * 3.25) / 1000)
    # One word a post-synaptic neuron and layer; v, i_syn and rate of two neurons and a word of spikes.
    assert figures.footprint == (4 + 4 + 2, 4 * (2 + 2 + 1), 3 * 2 * 4 + 4, 8)


def test_networks_without_spikes_have_multiply_accumulates_alone():
    network = make_flax_network("mlp", observation_size=2, action_size=1, num_neurons=3)
    results = EpisodeResults(
        returns=np.zeros(1, np.float32),
        lengths=np.array([4], np.int32),
        ended_early=np.zeros(1, bool),
        nonzero_obs=np.array([[4, 1]], np.int32),
        fan_out={"Dense_0/kernel": np.array([[3, 2]]), "Dense_1/kernel": np.array([[1, 1, 0]])},
        spikes=None,
    )
    figures = neurobench_figures(network, results)
    assert (figures.effective_acs, figures.effective_macs) == (0.0, (4 * 3 + 1 * 2 + 4 * 2) / 4)
    assert figures.dense_operations == 2 * 3 + 3
    assert figures.connection_sparsity == pytest.approx(1 - 7 / 9)
    assert figures.footprint == (4 * (6 + 3 + 3 + 1), None, 0, 16)
    assert figures.activation_sparsity is figures.membrane_updates is figures.spikes_per_second is None


@pytest.mark.parametrize("network", ["gru", "lstm"])
def test_a_recurrent_cell_counts_every_gate(network):
    gates = {"gru": 3, "lstm": 4}[network]
    made = make_flax_network(network, observation_size=2, action_size=1, num_neurons=5)
    shapes = {name: (2 if layer.pre == "observation" else 5) for name, layer in made.layers.items()}
    results = EpisodeResults(
        returns=np.zeros(1, np.float32),
        lengths=np.array([2], np.int32),
        ended_early=np.zeros(1, bool),
        nonzero_obs=np.array([[2, 2]], np.int32),
        fan_out={
            name: np.full((1, pre), 5 if made.layers[name].post == "neurons" else 1) for name, pre in shapes.items()
        },
        spikes=None,
    )
    figures = neurobench_figures(made, results)
    assert figures.effective_macs == figures.dense_operations == gates * (2 * 5 + 5 * 5) + 5
    assert figures.connection_sparsity == 0.0
