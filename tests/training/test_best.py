"""The best network is kept, a run ends by itself, and both are the same however often the run was resumed."""

from __future__ import annotations

import json
import math
import os
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from light_engine import make_light_engine
from typer.testing import CliRunner
from whole_runs import Listening, assert_same_run, resume_small, run_small

from evoconn_cli.app import app
from evoconn_cli.config.loading import load_config
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.ending import Best, ends_by_itself
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.best import BestNetwork
from evoconn_cli.training.checkpoints import CheckpointStore

NAN = math.nan
FITNESS = [1.0, 2.0, 9.0, 2.0, 3.0, 5.0, 4.0, 6.0, 5.0, 4.0, 3.0, 4.0]
"""By generation from 1. The 9 is luck: the best network is that of generation 8, which generation 9 evaluates."""

BEST = Best(8, 5.0)


def evaluations(fitness):
    """The light engine with these evaluations of generation 1, 2, ..."""

    def make(config, workers):
        engine = make_light_engine(config, workers)
        step = engine.compile(None)

        def scripted(state):
            new, metrics = step(state)
            return new, metrics | {"eval_fitness": np.float32(fitness[min(int(new.generation), len(fitness)) - 1])}

        return SimpleNamespace(**{**vars(engine), "compile": lambda state: scripted})

    return make


@pytest.mark.parametrize(
    ("fitness", "best"),
    [
        ([5.0], None),  # of the network before the first generation, which has no checkpoint
        ([0.0, 2.0], Best(1, 0.0)),
        ([1.0, 1.0, 1.0, 1.0, 9.0, 2.0, 3.0], Best(6, 2.0)),  # not the lucky 9
        ([4.0, 4.0, 4.0, 6.0, 6.0, 6.0, 1.0], Best(5, 6.0)),  # not the 1 among good ones
        ([3.0, 3.0, 3.0, 3.0], Best(1, 3.0)),
        ([2.0, NAN, 4.0, math.inf, None], Best(2, 2.0)),
        (FITNESS, BEST),
    ],
)
def test_the_best_network_brought_the_smoothed_evaluation_to_its_highest_value(fitness, best):
    found = BestNetwork()
    for generation, value in enumerate(fitness, 1):
        found.evaluate({"generation": generation, "eval_fitness": value})
    assert found.best == best


def best_state(path):
    """Returns the generation of the best checkpoint, and its probabilities."""
    store, config = CheckpointStore(path / "checkpoints"), RunDirectory.open(path).read_config()
    like = make_light_engine(config, None).initial_state()
    state, _ = store.restore(store.best(), like, jax.devices()[0], config)
    return int(state.generation), np.asarray(state.strategy["probs"])


@pytest.mark.slow
@pytest.mark.parametrize("every, resumed_at", [(5, []), (5, [6]), (50, [3, 8, 9, 10]), (1, [9])])
def test_the_best_network_is_kept_though_no_checkpoint_was_due(tmp_path, every, resumed_at):
    options = [f"checkpoint.every={every}", "checkpoint.keep_last=1"]
    run_small(tmp_path / "all", "checkpoint.every=1", "algo.generations=8", make_engine=make_light_engine)
    engine, first, *later = evaluations(FITNESS), *resumed_at, 12
    outcome = run_small(tmp_path / "run", *options, f"algo.generations={first}", make_engine=engine)
    for generations in later:
        outcome = resume_small(tmp_path / "run", f"algo.generations={generations}", make_engine=engine)
    assert outcome.best == BEST
    generation, probs = best_state(tmp_path / "run")
    assert generation == 8 and CheckpointStore(tmp_path / "run" / "checkpoints").generations() == [8, 12]
    trained = CheckpointStore(tmp_path / "all" / "checkpoints")
    like = make_light_engine(RunDirectory.open(tmp_path / "all").read_config(), None).initial_state()
    np.testing.assert_array_equal(probs, trained.restore(8, like, jax.devices()[0])[0].strategy["probs"])


def test_a_run_that_dies_before_its_best_network_is_saved_finds_it_again(tmp_path):
    """At generation 11 the best network, of generation 8, is in memory only."""

    def dies(config, workers):
        engine = evaluations(FITNESS)(config, workers)
        step = engine.compile(None)

        def fails(state):
            if int(state.generation) == 10:
                raise SystemExit
            return step(state)

        return SimpleNamespace(**{**vars(engine), "compile": lambda state: fails})

    options = ["algo.generations=12", "checkpoint.every=6"]
    with pytest.raises(SystemExit):
        run_small(tmp_path / "run", *options, make_engine=dies)
    assert CheckpointStore(tmp_path / "run" / "checkpoints").best() == 5
    outcome = resume_small(tmp_path / "run", make_engine=evaluations(FITNESS))
    assert (outcome.best, best_state(tmp_path / "run")[0]) == (BEST, 8)


def test_a_run_of_an_earlier_version_has_the_best_that_it_had_until_a_better_one_comes(tmp_path):
    run, engine = tmp_path / "run", evaluations([*FITNESS[:6], 7.0, 8.0, 8.0, 8.0])
    run_small(run, "checkpoint.every=3", make_engine=engine)
    for facts in (run / "checkpoints").glob("*/facts.json"):
        forget_best(facts)
    assert CheckpointStore(run / "checkpoints").best() == 3, "the highest evaluation of those saved"
    assert resume_small(run, "algo.generations=10", make_engine=engine).best == (9, 8.0)
    assert CheckpointStore(run / "checkpoints").best() == 9


def forget_best(facts):
    """Rewrites the facts of a checkpoint as they were before they named the best network."""
    from evoconn_cli.training.checkpoint_facts import _digest

    known = json.loads(facts.read_text())
    known = {key: value for key, value in known.items() if key not in ("best", "digest")}
    facts.write_text(json.dumps({**known, "digest": _digest(known)}))


def test_patience_waits_for_the_first_network_that_is_not_the_initial_one():
    algo = load_config("smoke", ["algo.patience=1"]).algo
    assert [ends_by_itself(algo, done, 0, best) is None for done, best in ((1, None), (2, Best(1, 0.0)))] == [True] * 2
    assert [ends_by_itself(algo, 2, 0, None), ends_by_itself(algo, 3, 0, Best(1, 0.0))].count(None) == 0


ENDINGS = [
    ("algo.target_fitness=4.5", 9, "algo.target_fitness=4.5 is reached", "algo.target_fitness=null"),
    ("algo.patience=3", 12, "no better network in 3 generations (algo.patience=3)", "algo.patience=null"),
    ("algo.max_env_steps=50", 8, "algo.max_env_steps=50 is reached", "algo.max_env_steps=null"),
    ("algo.generations=7", 7, "all 7 generations are done", "--generations 14"),
]


@pytest.mark.slow
@pytest.mark.parametrize("ends, last, reason, change", ENDINGS)
@pytest.mark.parametrize("stops", [[], [1], [4, 6]])
def test_a_run_ends_by_itself_where_a_straight_one_does(tmp_path, monkeypatch, ends, last, reason, change, stops):
    engine, run = evaluations(FITNESS), tmp_path / "run"
    monkeypatch.setattr("evoconn_cli.training.train.build_engine", engine)
    first, *later = [f"algo.generations={stop}" for stop in stops] + ["algo.generations=14"]
    outcome = run_small(run, first, ends)
    for generations in later:
        outcome = resume_small(run, generations, *([ends] if ends.startswith("algo.generations") else []))
    assert outcome.finished and outcome.ending == (ends.partition("=")[0], reason)
    assert len(read_metrics(run / "metrics.jsonl")) == last
    assert RunDirectory.open(run).read_facts()["ended"] == {**outcome.ending._asdict(), "generation": last}
    told = CliRunner().invoke(app, ["resume", str(run)])
    assert told.exit_code == 0 and f"finished at generation {last}: {reason}. To train it further" in told.output
    assert told.output.strip().endswith(change)
    resume_small(run, change.replace("--generations ", "algo.generations="))
    assert len(read_metrics(run / "metrics.jsonl")) == 14


def test_a_change_that_does_not_help_ends_the_run_again_and_says_so(tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr("evoconn_cli.training.train.build_engine", evaluations(FITNESS))
    run_small(run, "algo.max_env_steps=50", "algo.generations=100")
    again = CliRunner().invoke(app, ["resume", str(run), "algo.max_env_steps=20"])
    assert again.exit_code == 0 and "algo.max_env_steps=20 is reached" in again.output
    assert len(read_metrics(run / "metrics.jsonl")) == 8
    assert "best network" in again.output and "algo.max_env_steps=null" in again.output


def test_why_a_run_was_interrupted_or_failed_is_recorded(tmp_path):
    progress = Listening(lambda generation: generation == 2 and os.kill(os.getpid(), signal.SIGTERM))
    assert not run_small(tmp_path / "stopped", progress=progress, make_engine=make_light_engine).finished
    facts = RunDirectory.open(tmp_path / "stopped").read_facts()
    assert (facts["status"], facts["ended"]) == ("interrupted", {"by": "signal", "reason": "SIGTERM", "generation": 2})
    engine = evaluations([*FITNESS[:2], "?"])
    with pytest.raises(ValueError):
        run_small(tmp_path / "run", make_engine=engine)
    facts = RunDirectory.open(tmp_path / "run").read_facts()
    assert (facts["status"], facts["ended"]["by"]) == ("failed", "error")
    assert "could not convert" in facts["ended"]["reason"]
    resume_small(tmp_path / "run", "algo.generations=2", make_engine=make_light_engine)
    assert RunDirectory.open(tmp_path / "run").read_facts()["ended"]["by"] == "algo.generations"


@pytest.mark.slow
def test_a_run_that_ended_by_itself_goes_on_as_one_that_did_not(tmp_path):
    run_small(tmp_path / "straight", "algo.generations=12", make_engine=evaluations(FITNESS))
    run_small(tmp_path / "run", "algo.generations=12", "algo.target_fitness=3.5", make_engine=evaluations(FITNESS))
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) < 12
    resume_small(tmp_path / "run", "algo.target_fitness=null", make_engine=evaluations(FITNESS))
    assert_same_run(tmp_path / "straight", tmp_path / "run", make_light_engine)
