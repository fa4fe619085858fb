"""Several runs together: which belong together, and that they are resampled within their task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evoconn_cli.config.loading import load_config
from evoconn_cli.errors import ConfigError
from evoconn_cli.evaluation.comparison import apart, check_references, compare, parse_references
from evoconn_cli.evaluation.evaluating import Evaluated
from evoconn_cli.evaluation.statistics import summarize


def evaluated(path, mean, *overrides, task="hopper", setting=None, generation=1, bundle=None):
    """Returns what `compare` reads of an evaluated run."""
    opened = SimpleNamespace(
        bundle=bundle,
        config=load_config(None, [f"task.name={task}", *overrides]),
        directory=SimpleNamespace(path=Path("/runs") / path, short_path=lambda: path),
        generation=generation,
    )
    return Evaluated(opened, setting or {}, None, summarize(np.array([mean]), seed=0), None)


def test_runs_of_an_algorithm_and_network_belong_together():
    runs = [
        *(evaluated(f"ec{i}", mean, f"seed={i}") for i, mean in enumerate([1.0, 2.0, 3.0, 4.0])),
        *(evaluated(f"gru{i}", mean, "network.name=gru", f"seed={i}") for i, mean in enumerate([5.0, 7.0])),
        evaluated("alone", 9.0, "network.name=mlp"),
        evaluated("small", 9.0, "network.num_neurons=32"),
    ]
    ec, gru = compare(runs, {}, seed=0)
    assert (ec.algo, ec.network, ec.num_neurons, ec.runs, ec.iqm) == ("ec", "conn_snn", 256, {"hopper": 4}, 2.5)
    assert (gru.algo, gru.network, gru.runs, gru.iqm) == ("es", "gru", {"hopper": 2}, 6.0)
    assert gru.iqm_interval == (5.0, 7.0)


def test_tasks_are_strata_and_references_their_scale():
    runs = [evaluated(f"h{i}", 100.0, f"seed={i}") for i in range(3)]
    runs += [evaluated(f"w{i}", 3000.0, f"seed={i}", task="walker2d", generation=2) for i in range(3)]
    (raw,) = compare(runs, {}, seed=0)
    assert raw.runs == {"hopper": 3, "walker2d": 3}
    assert raw.iqm_interval == (1550.0, 1550.0)
    (scaled,) = compare(runs, {"hopper": 200.0, "walker2d": 3000.0}, seed=0)
    assert scaled.iqm == pytest.approx(0.75)


def test_settings_of_a_sweep_are_not_mixed():
    runs = [evaluated(f"r{i}", 10.0 * i + v, f"seed={i}", setting={"mass": v}) for i in range(2) for v in (1.0, 2.0)]
    assert [(one.perturbations, one.iqm) for one in compare(runs, {}, seed=0)] == [
        ({"mass": 1.0}, 6.0),
        ({"mass": 2.0}, 7.0),
    ]


def test_checkpoints_of_one_run_are_no_sample_of_runs():
    steps = [evaluated("same", 1.0, generation=1), evaluated("same", 2.0, generation=2)]
    assert compare(steps, {}, seed=0) == []
    assert compare([*steps, evaluated("other", 3.0, "seed=1", generation=3)], {}, seed=0) == []


def test_checkpoints_of_several_runs_are_put_together_by_generation():
    runs = [evaluated(f"r{i}", 10.0 * i + g, f"seed={i}", generation=g) for i in range(3) for g in (1, 2)]
    assert [(one.generation, one.iqm) for one in compare(runs, {}, seed=0)] == [(1, 11.0), (2, 12.0)]


def test_runs_of_different_lengths_are_not_put_together_and_that_is_said():
    runs = [evaluated(f"r{i}", 1.0, f"seed={i}", generation=40 if i < 2 else 120) for i in range(4)]
    assert [(one.generation, one.runs) for one in compare(runs, {}, seed=0)] == [
        (40, {"hopper": 2}),
        (120, {"hopper": 2}),
    ]
    assert apart(runs) == ["Not grouped: runs of ec, conn_snn, 256 neurons differ in generation."]
    assert compare(runs[1:3], {}, seed=0) == []


@pytest.mark.parametrize("key", ["task.episode_length", "algo.population", "network.tau_m_ms", "rollout.warmup_steps"])
def test_runs_that_differ_in_more_than_their_seed_are_not_put_together_and_that_is_said(key):
    runs = [evaluated(f"r{i}", 1.0, f"seed={i}", f"{key}={512 + i}") for i in range(2)]
    assert compare(runs, {}, seed=0) == []
    assert key in apart(runs)[0]


@pytest.mark.parametrize("override", ["algo.generations=9", "engine.block=8", "tracking.tags=a", "checkpoint.every=3"])
def test_what_does_not_shape_a_run_does_not_keep_seeds_apart(override):
    runs = [evaluated("a", 1.0), evaluated("b", 3.0, "seed=1", override)]
    assert compare(runs, {}, seed=0)[0].iqm == 2.0 and apart(runs) == []


def test_tasks_may_differ_in_their_configuration_and_length():
    runs = [evaluated(f"h{i}", 1.0, f"seed={i}", generation=40) for i in range(2)]
    runs += [evaluated(f"w{i}", 1.0, f"seed={i}", "algo.learning_rate=0.1", task="walker2d") for i in range(2)]
    (one,) = compare(runs, {}, seed=0)
    assert one.runs == {"hopper": 2, "walker2d": 2} and one.generation is None


def test_a_run_that_is_there_twice_counts_once_and_that_is_said():
    runs = [evaluated("a", 1.0), evaluated("copy", 1.0), evaluated("b", 5.0, "seed=1")]
    assert compare(runs[:2], {}, seed=0) == []
    (one,) = compare(runs, {}, seed=0)
    assert (one.runs, one.iqm) == ({"hopper": 2}, 3.0)
    assert apart(runs) == ["copy has the configuration and seed of a: both count as one run."]


def test_bundles_are_no_sample_of_runs():
    assert compare([evaluated(f"b{i}", 1.0, bundle="a bundle") for i in range(3)], {}, seed=0) == []


def test_a_run_without_a_score_is_counted_and_left_out():
    (one,) = compare(
        [
            evaluated(name, mean, f"seed={i}")
            for i, (name, mean) in enumerate({"a": 1.0, "b": np.nan, "c": 3.0}.items())
        ],
        {},
        seed=0,
    )
    assert (one.iqm, one.failed, one.runs) == (2.0, 1, {"hopper": 3})


def test_references_are_read():
    assert parse_references(["hopper=2450", "ant=-1e3"]) == {"hopper": 2450.0, "ant": -1000.0}


@pytest.mark.parametrize("entry", ["hopper", "hopper=high", "hopper=0", "hopper=nan", "=3", ""])
def test_a_reference_that_cannot_be_used_is_told(entry):
    with pytest.raises(ConfigError, match="--reference"):
        parse_references([entry])


def test_a_task_with_two_references_is_told():
    with pytest.raises(ConfigError, match="hopper is given twice"):
        parse_references(["hopper=1", "hopper=2"])


def test_a_task_without_a_reference_is_told():
    check_references({}, {"hopper", "walker2d"})
    check_references({"hopper": 1.0, "ant": 1.0}, {"hopper"})
    with pytest.raises(ConfigError, match="no --reference for walker2d"):
        check_references({"hopper": 1.0}, {"hopper", "walker2d"})
