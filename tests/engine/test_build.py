"""Every configuration key that shapes a run arrives at the function that it is for."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import pytest

from evoconn_cli import tasks
from evoconn_cli.config.fields import walk
from evoconn_cli.config.loading import load_config
from evoconn_cli.config.registry import pairs
from evoconn_cli.config.schema import AlgoConfig, SpikingConfig
from evoconn_cli.engine import build
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.strategies import connectivity, gaussian
from evoconn_cli.engine.strategies.shaping import log_ranks
from evoconn_cli.networks import conn_snn, dense_snn, flax_networks

CONSTANTS = ("tau_syn_ms", "tau_m_ms", "tau_out_ms", "dt_ms", "step_ms", "v_rest", "v_threshold")
ARRIVES = {
    "seed": ("initial_run_state", "seed"),
    "task.episode_length": ("limit_episodes", "episode_length"),
    "task.action_repeat": ("limit_episodes", "action_repeat"),
    "algo.population": ("Generation", "population"),
    "algo.evaluation_copies": ("Generation", "evaluation_copies"),
    "engine.block": ("Generation", "block"),
    "rollout.warmup_steps": ("Rollout", "warmup_steps"),
    "algo.shaping_generations": ("Generation", "shaping_generations"),
    "rollout.alive_bonus": ("Generation", "alive_bonus"),
    "rollout.alive_bonus_generations": ("Generation", "alive_bonus_generations"),
    **{
        f"algo.{name}": ("strategy", name)
        for name in (
            "adam_beta1",
            "adam_beta2",
            "adam_eps",
            "learning_rate",
            "eps",
            "weight_decay",
            "initial_prob",
            "initial_certainty",
        )
    },
    "algo.sigma": ("strategy", "sigma"),
    **{
        f"network.{name}": ("network", name)
        for name in (
            "num_neurons",
            "gain_in",
            "gain_recurrent",
            "gain_out",
            "excitatory_ratio",
            "expected_density",
            "wiring",
            *CONSTANTS,
        )
    },
}
"""Key -> the function, and the argument that has its value."""

SWITCHES = {
    "rollout.fitness=until_slowest": ("Rollout", "first_episode", False),
    "rollout.normalizer=last_step": ("Rollout", "all_steps", False),
    "rollout.resets=fresh": ("Generation", "fresh_resets", True),
    "algo.shaping=log_rank": ("Generation", "shaping", log_ranks),
}
"""Override -> the function, and the argument that then has another value."""

WITH = {"rollout.alive_bonus_generations": ["rollout.alive_bonus=0.5"]}
"""Overrides without which a key is refused."""

ELSEWHERE = {
    *("task.name", "algo.name", "network.name", "engine.devices", "engine.kernel"),
    *("algo.generations", "algo.target_fitness", "algo.patience", "algo.max_env_steps"),
    "algo.initial_connectome",
}
"""Keys of names, of the loop, of the machine and of `--init`; `checkpoint` and `tracking` as well."""


@pytest.fixture
def arguments(monkeypatch):
    """Returns the arguments of all functions that an engine is built with, by name, for some overrides."""
    calls = {}

    def record(name: str, result, kind: str | None = None, module=build):
        def make(*positional, **given):
            configs = [vars(one) for one in positional if isinstance(one, SpikingConfig | AlgoConfig)]
            calls[kind or name] = given | dict(*configs)
            return result

        monkeypatch.setattr(module, name, make)

    @dataclasses.dataclass(frozen=True)
    class FakeNetwork:
        name: str = "gru"
        num_parameters: int = 1
        wiring: float = 1.0
        fused: object = None
        shapes: dict = dataclasses.field(default_factory=dict)
        initial_weights: object = len

    record("limit_episodes", SimpleNamespace(observation_size=3, action_size=2), module=tasks)
    record("make_conn_snn", FakeNetwork(), "network", conn_snn)
    record("make_dense_snn", FakeNetwork("dense_snn"), "network", dense_snn)
    record("make_flax_network", FakeNetwork(), "network", flax_networks)
    record("make_connectivity", SimpleNamespace(), "strategy", connectivity)
    record("make_gaussian", SimpleNamespace(), "strategy", gaussian)
    for name in ("Rollout", "Generation", "initial_run_state"):
        record(name, SimpleNamespace())

    def of(*overrides: str) -> dict[str, dict]:
        calls.clear()
        config = load_config(None, ["task.name=probe_sign", "engine.kernel=xla", *overrides])
        build.build_engine(config, make_worker_mesh(jax.devices(), 1)).initial_state()
        return {name: dict(given) for name, given in calls.items()}

    return of


def another(value):
    """Returns another value of the same type, in its range."""
    if value is None or isinstance(value, int):
        return (value or 6) + 2
    return value / 2 if value else 0.25


@pytest.mark.parametrize(("algo", "network"), [(algo, name) for algo, names in pairs().items() for name in names])
def test_every_key_arrives(algo, network, arguments):
    pair = [f"algo.name={algo}", f"network.name={network}", "engine.block=8"]
    usual = arguments(*pair)
    for key, value, _ in walk(load_config(None, ["task.name=probe_sign", *pair])):
        section = key.partition(".")[0]
        if key in ELSEWHERE or section in ("checkpoint", "tracking") or any(s.startswith(f"{key}=") for s in SWITCHES):
            continue
        function, argument = ARRIVES[key]
        other = another(value)
        assert usual[function][argument] != other
        assert arguments(*pair, *WITH.get(key, ()), f"{key}={other}")[function][argument] == other, key


@pytest.mark.parametrize("override", SWITCHES)
def test_every_switch_arrives(override, arguments):
    function, argument, expected = SWITCHES[override]
    assert arguments("engine.block=8")[function][argument] is not expected
    assert arguments("engine.block=8", override)[function][argument] is expected


def test_es_without_constants_has_the_published_ones_of_its_network(arguments):
    published = [arguments("algo.name=es", f"network.name={name}", "engine.block=8") for name in ("gru", "dense_snn")]
    assert [(one["strategy"]["sigma"], one["strategy"]["learning_rate"]) for one in published] == [
        (0.02, 0.01),
        (0.3, 0.15),
    ]


def test_strategies_know_how_many_members_are_ranked_and_whether_all_can_be_held(arguments, monkeypatch):
    given = arguments("algo.population=800", "engine.block=8")["strategy"]
    assert (given["population"], given["keeps_candidates"]) == (800, True)
    monkeypatch.setattr(connectivity, "_HELD_BYTES", 99)
    assert not arguments("algo.population=800", "engine.block=8")["strategy"]["keeps_candidates"]
