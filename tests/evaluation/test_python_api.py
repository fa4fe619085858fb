"""`load_run` and what it gives, `evaluate`, and the examples of their documentation."""

from __future__ import annotations

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from paths import DOCS
from saved_runs import files_of, save_run

import evoconn_cli
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.errors import CheckpointError, ConfigError, EvoconnError, RunDirectoryError
from evoconn_cli.evaluation.evaluating import evaluate
from evoconn_cli.evaluation.opened import open_run

PAGE = DOCS / "python-api.md"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs") / "run", "network.gain_in=0.5")


@pytest.fixture(scope="module")
def run(path):
    return evoconn_cli.load_run(path, step="best")


@pytest.mark.slow
def test_the_examples_of_the_documentation_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    save_run(tmp_path / "runs" / "hopper-ec")
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *shown, trained, stopped, evaluated, first, second, third, fourth, fifth, last = done.stdout.splitlines()
    assert any(line.startswith("generation 20/20") for line in shown)
    assert re.fullmatch(r"finished at generation 20: evaluation fitness -?\d+\.\d", trained)
    solved = re.fullmatch(r"saved after (\d+) more generations, mean probability 0\.\d\d", stopped)
    assert solved and 0 < int(solved[1]) < 170, stopped
    assert re.fullmatch(r"return -?\d+\.\d, interquartile mean -?\d+\.\d, 64 episodes", evaluated)
    assert re.fullmatch(r"mean return -?\d\.\d of 16 episodes", last)
    assert first == "probe_sign, generation 4: evaluation fitness 5.0"
    assert re.fullmatch(r"return -?\d\.\d in 8 steps", second)
    assert re.fullmatch(r"\d+ spikes of 40 neurons in 33 sub-steps", third)
    excitatory, inhibitory = map(int, re.findall(r"\d+", fourth))
    assert 0.4 * 1600 < excitatory + inhibitory < 0.6 * 1600
    assert 10 < int(fifth.split("%")[0]) < 30
    assert done.stderr == ""


def test_a_run_knows_its_configuration_and_metrics(run, path):
    assert (run.path, run.generation, run.config.network.num_neurons) == (path, 4, 40)
    assert [line["generation"] for line in run.metrics] == [2, 4, 6]
    assert run.task.reset(jax.random.key(0)).obs.shape == (2,)
    assert len(repr(run)) < 200
    assert isinstance(run, evoconn_cli.Run) and run.status == "saved"


def test_a_path_may_be_text_and_name_a_step(path):
    assert evoconn_cli.load_run(str(path / "checkpoints" / "6")).generation == 6
    assert evoconn_cli.load_run(path, step=4).generation == 4


def test_latest_is_the_run_that_was_trained_last(path, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "only").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    assert evoconn_cli.load_run("latest").path == tmp_path / "runs" / "only"


def open_with_one_device(path):
    return open_run(path, "best", make_worker_mesh(jax.local_devices(), 1))


@pytest.mark.slow
def test_a_policy_gives_what_the_network_gives(run, path):
    """Second path: the network of the run, on a block of one member."""
    opened = open_with_one_device(path)
    network, strategy = opened.network, opened.strategy
    policy, params = run.policy(), network.prepare(strategy.center(run.state.strategy))
    carry, block = policy.initial_carry(jax.random.key(1)), network.initial_carry(jax.random.key(1)[None])
    normalizer = run.state.normalizer
    for obs in np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32):
        carry, action = policy.step(carry, obs)
        block, expected = jax.jit(network.step)(params, block, ((obs - normalizer.mean) / normalizer.std)[None])
        np.testing.assert_allclose(action, np.clip(expected[0], -1, 1), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(carry.spikes, block.spikes[0])


def test_the_functions_of_a_policy_say_what_they_return(run):
    policy = run.policy()
    for function in (policy.initial_carry, policy.step, policy.record):
        assert function.__doc__ and function.__doc__.startswith("Returns")


def test_actions_are_clipped(run):
    policy = run.policy()
    carry, actions = policy.initial_carry(jax.random.key(0)), []
    for _ in range(5):
        carry, action = policy.step(carry, np.array([100.0, -100.0]))
        actions.append(float(action[0]))
    assert max(np.abs(actions)) == 1.0


def test_recording_is_the_same_step(run):
    policy = run.policy()
    carry, obs = policy.initial_carry(jax.random.key(2)), np.array([1.0, 0.5])
    after, action = policy.step(carry, obs)
    recorded, same, activity = policy.record(carry, obs)
    for a, b in zip(jax.tree.leaves((after, action)), jax.tree.leaves((recorded, same)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert activity.spikes.shape == (33, 40)
    assert activity.i_in.shape == activity.rate.shape == activity.updates.shape == (40,)
    np.testing.assert_array_equal(activity.rate, after.neurons.rate)


@pytest.mark.slow
def test_policies_can_be_mapped_and_scanned(run):
    policy = run.policy()
    keys = jax.random.split(jax.random.key(0), 3)
    observations = jax.random.normal(jax.random.key(1), (3, 5, 2))

    def episode(key, obs):
        return jax.lax.scan(policy.step, policy.initial_carry(key), obs)[1]

    actions = jax.vmap(episode)(keys, observations)
    assert actions.shape == (3, 5, 1)
    np.testing.assert_allclose(actions[1], episode(keys[1], observations[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_whole_episodes_can_be_compiled_and_mapped(run):
    """Second path: one step after the other, each its own call."""
    policy = run.policy()

    def begin(key):
        return policy.initial_carry(key), run.task.reset(key), jnp.float32(0)

    def step(loop):
        carry, state, total = loop
        carry, action = policy.step(carry, state.obs)
        state = run.task.step(state, action)
        return carry, state, total + state.reward + jnp.mean(carry.neurons.v)  # which the key decides

    def episode(key):
        _, state, total = jax.lax.while_loop(lambda loop: ~loop[1].done, step, begin(key))
        return total, state.steps

    def called(key):
        loop = begin(key)
        while not loop[1].done:
            loop = step(loop)
        return loop[2], loop[1].steps

    keys = jax.random.split(jax.random.key(0), 3)
    alone, mapped = [jax.jit(episode)(key) for key in keys], jax.jit(jax.vmap(episode))(keys)
    for number, key in enumerate(keys):
        total, steps = called(key)
        assert steps == alone[number][1] == mapped[1][number] == 8
        np.testing.assert_allclose([alone[number][0], mapped[0][number]], [total] * 2, rtol=1e-4, atol=1e-5)
    assert len(set(mapped[0].tolist())) == 3, mapped


def test_old_and_new_keys_give_the_same_carry(run):
    policy = run.policy()
    new, old = policy.initial_carry(jax.random.key(5)), policy.initial_carry(jax.random.PRNGKey(5))
    np.testing.assert_array_equal(new.neurons.v, old.neurons.v)


@pytest.mark.slow
def test_a_key_draws_another_policy(run):
    obs = np.array([1.0, -1.0])

    def act(policy):
        return float(policy.step(policy.initial_carry(jax.random.key(0)), obs)[1][0])

    first, again, other = (act(run.policy(jax.random.key(seed))) for seed in (1, 1, 2))
    assert first == again != other


def test_connectivity_is_what_the_probabilities_say(run):
    wiring = run.connectivity()
    assert (wiring.input.shape, wiring.recurrent.shape, wiring.output.shape) == ((4, 40), (40, 40), (40, 1))
    for name in ("input", "recurrent", "output"):
        matrix = getattr(wiring, name)
        assert isinstance(matrix, np.ndarray) and matrix.dtype == bool
        np.testing.assert_array_equal(matrix, wiring.probs[name] > 0.5)
        np.testing.assert_array_equal(wiring.probs[name], run.state.strategy.probs[name])
    np.testing.assert_array_equal(wiring.neuron_types, [1] * 20 + [-1] * 20)


def test_the_matrices_compute_what_the_policy_computes(run):
    """The published equations in NumPy, on the matrices alone."""
    wiring, normalizer, obs = run.connectivity(), run.state.normalizer, np.array([0.7, -0.4])
    policy = run.policy()
    carry = policy.initial_carry(jax.random.key(3))
    v, i_syn, rate, spikes = np.asarray(carry.neurons.v, float), np.zeros(40), np.zeros(40), np.zeros(40)
    x = (obs - np.asarray(normalizer.mean)) / np.asarray(normalizer.std)
    i_in = 0.5 * 10.0 * np.sqrt(2 / (0.5 * 2)) * np.concatenate([x, -x]) @ wiring.input
    for _ in range(33):
        i_syn = np.exp(-0.1) * i_syn + 10.0 / 5.0 * np.sqrt(2 / (0.5 * 40)) * spikes @ wiring.recurrent
        v = i_syn + i_in + np.exp(-0.05) * (v - i_syn - i_in)
        fired = v > 1.0
        v, spikes = np.where(fired, 0.0, v), fired * wiring.neuron_types
        rate = spikes / 0.5 + np.exp(-0.05) * (rate - spikes / 0.5)
    action = 5.0 * np.sqrt(1 / (0.5 * 40)) * rate @ wiring.output
    after, given, activity = policy.record(carry, obs)
    np.testing.assert_allclose(activity.i_in, i_in, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(activity.rate, rate, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(given, np.clip(action, -1, 1), rtol=1e-3, atol=1e-3)
    assert np.abs(rate).max() > 0


@pytest.mark.parametrize("network", ["gru", "dense_snn"])
def test_real_weights_have_no_connectivity(tmp_path, network):
    run = evoconn_cli.load_run(save_run(tmp_path / "run", f"network.name={network}", eval_fitness={1: 0.0}))
    with pytest.raises(EvoconnError, match=rf"{network}.*run\.policy\(\)"):
        run.connectivity()
    policy = run.policy()
    carry, action = policy.step(policy.initial_carry(jax.random.key(0)), np.zeros(2))
    assert action.shape == (1,)
    assert jax.tree.leaves(run.state.strategy.center)
    assert (policy.record is None) == (network == "gru")


@pytest.mark.slow
def test_an_evaluation_has_the_episodes_of_the_command(run, path):
    found, other = (run.evaluate(3, seed=seed, sampled=True, perturb={"obs-noise": 2.0}) for seed in (5, 6))
    (one,) = evaluate([open_with_one_device(path)], [{"obs-noise": 2.0}], num_episodes=3, seed=5, sampled=True)
    np.testing.assert_array_equal(found.returns, one.results.returns)
    assert found.summary == one.returns and found.returns.any() and not np.array_equal(found.returns, other.returns)
    assert found.lengths.tolist() == [8, 8, 8] and not found.ended_early.any() and found.figures.effective_acs > 0
    with pytest.raises(ConfigError, match="Did you mean 'obs-noise'"):
        run.evaluate(3, perturb={"obs-noize": 1.0})
    with pytest.raises(ValueError, match="episodes=0"):
        run.evaluate(0)
    options = {"seed": 5, "sampled": True, "perturb": {"obs-noise": 2.0}}
    for same in (evoconn_cli.evaluate(run, 3, **options), evoconn_cli.evaluate(path, 3, step="best", **options)):
        np.testing.assert_array_equal(same.returns, found.returns)
    with pytest.raises(ValueError, match=r"step='best'.*generation 4"):
        evoconn_cli.evaluate(run, 3, step="best")


HOST = {
    "other numbers": {
        "jax_enable_x64": True,
        "jax_threefry_partitionable": False,
        "jax_default_prng_impl": "rbg",
        "jax_random_seed_offset": 7,
        "jax_default_matmul_precision": "bfloat16",
        "jax_disable_most_optimizations": True,
    },
    "stricter rules": {
        "jax_transfer_guard": "disallow",
        "jax_numpy_dtype_promotion": "strict",
        "jax_numpy_rank_promotion": "raise",
        "jax_legacy_prng_key": "error",
    },
    "a search for faults": {
        "jax_debug_nans": True,
        "jax_debug_infs": True,
        "jax_debug_key_reuse": True,
        "jax_check_tracer_leaks": True,
        "jax_disable_jit": True,
    },
}
"""Switches that a host program may have."""


def all_that_a_run_gives(path, keys, obs):
    """Returns arrays of the policy, the task, the matrices and an evaluation."""
    run = evoconn_cli.load_run(path, step="best")
    policy, sampled = run.policy(), run.policy(keys[0])
    carry, action = policy.step(policy.initial_carry(keys[1]), obs)
    _, other = sampled.step(carry, obs)
    assert policy.record is not None
    recorded = policy.record(carry, obs)
    state = run.task.step(run.task.reset(keys[2]), action)
    episodes = run.evaluate(2, sampled=True, perturb={"obs-noise": 0.5})
    given = (run.state, carry, action, other, recorded, state, run.connectivity(), episodes.returns, episodes.lengths)
    return jax.tree.leaves(jax.device_get(given))


@pytest.fixture(scope="module")
def on_its_own(path):
    keys, obs = list(jax.random.split(jax.random.key(4, impl="threefry2x32"), 3)), np.array([0.7, -0.4])
    return keys, obs, all_that_a_run_gives(path, keys, obs)


@pytest.mark.slow
@pytest.mark.parametrize("switches", HOST.values(), ids=HOST.keys())
def test_whatever_switches_the_host_program_has_a_run_gives_the_same(path, on_its_own, switches):
    keys, obs, expected = on_its_own
    before = {name: jax.config.values[name] for name in switches}
    try:
        for name, value in switches.items():
            jax.config.update(name, value)
        given = all_that_a_run_gives(path, keys, obs)
        assert {name: jax.config.values[name] for name in switches} == switches, "and leaves them as they are"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert [x.dtype for x in given] == [x.dtype for x in expected]
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_in_a_host_program_with_64_bits_a_policy_can_be_compiled_scanned_and_given_its_floats(run):
    policy = run.policy()
    with jax.enable_x64(True):
        observations = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)
        assert observations.dtype == jnp.float64
        carry = policy.initial_carry(jax.random.key(1))
        last, actions = jax.jit(lambda carry, obs: jax.lax.scan(policy.step, carry, obs))(carry, observations)
        _, mapped = jax.vmap(policy.step, in_axes=(None, 0))(carry, observations)
    assert actions.dtype == mapped.dtype == jnp.float32
    carry = policy.initial_carry(jax.random.key(1))
    expected = jax.lax.scan(policy.step, carry, np.asarray(observations, np.float32))[1]
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)


def test_an_observation_of_another_shape_is_told(run):
    policy = run.policy()
    with pytest.raises(ValueError, match=r"probe_sign.*\(2,\).*\(1, 2\)"):
        policy.step(policy.initial_carry(jax.random.key(0)), jnp.zeros((1, 2)))


def test_what_is_not_there_is_told(path, tmp_path):
    with pytest.raises(RunDirectoryError):
        evoconn_cli.load_run(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no generation 5"):
        evoconn_cli.load_run(path, step=5)
    with pytest.raises(AttributeError, match="no attribute 'load_runs'"):
        evoconn_cli.load_runs  # noqa: B018


def test_nothing_is_written(path):
    before = files_of(path)
    run = evoconn_cli.load_run(path)
    run.policy().initial_carry(jax.random.key(0))
    assert run.metrics and files_of(path) == before
