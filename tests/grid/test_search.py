"""A hyper-parameter search: its trials are cells, it can be killed, and what is pruned stays so."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from pathlib import Path

import pytest
import searches
from searches import UNTIL_COMPARED, run_search, write_program, write_search
from started import start

from evoconn_cli.config.loading import load_config
from evoconn_cli.config.search import Range, Search
from evoconn_cli.errors import ConfigError, EvoconnError, GridError
from evoconn_cli.grid.attempts import record_end, record_start
from evoconn_cli.grid.cells import open_grid, prepare
from evoconn_cli.grid.scheduler import Ended
from evoconn_cli.grid.search_report import rankings, winner_presets
from evoconn_cli.grid.slurm import SlurmExecutor, SlurmQueue
from evoconn_cli.grid.slurm_task import is_to_go_on
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.search.study import Study

RATES = "{sampler: grid, seed: 3, space: {algo.learning_rate: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}"
SPACE = {"a": Range(0.01, 1.0, "log"), "b": Range(0.0, 1.0), "n": Range(8, 64), "c": ["x", None, True]}


def open_study(folder: Path, **keys) -> Study:
    return Study(folder / "study.jsonl", "s", Search(**{"space": SPACE, **keys}), every=100, most_steps=1000)


def values_of(study: Study) -> list[dict]:
    return [dict(trial.values) for trial in study.trials()]


def lines_of(directory: Path) -> list[str]:
    return (directory / "study.jsonl").read_text().splitlines()


def ask(study: Study):
    with study.locked():
        return study.ask()


def height(values) -> float:
    return -((values["a"] - 0.1) ** 2) - (values["n"] - 20) ** 2


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, sampler):
    at_once, again = tmp_path / "at_once", tmp_path / "again"
    whole = open_study(at_once, sampler=sampler, seed=1)
    for _ in range(24):
        trial = ask(whole)
        whole.tell(trial.number, height(trial.values))
        study = open_study(again, sampler=sampler, seed=1)
        study.tell(ask(study).number, height(values_of(study)[-1]))
    assert values_of(whole) == values_of(open_study(again, sampler=sampler))
    assert len({repr(values) for values in values_of(whole)}) == 24
    other = ask(open_study(tmp_path / "other", sampler=sampler, seed=2))
    assert dict(other.values) != values_of(whole)[0], "the seed counts"


def test_values_are_in_the_space_and_short(tmp_path):
    study = open_study(tmp_path, sampler="random")
    for _ in range(30):
        ask(study)
    for values in values_of(study):
        assert 0.01 <= values["a"] <= 1 and values["a"] == float(f"{values['a']:.6g}")
        assert type(values["n"]) is int and 8 <= values["n"] <= 64 and values["c"] in SPACE["c"]
    below = sum(values["a"] < 0.1 for values in values_of(study))
    assert 7 <= below <= 23, "half of them lie below the geometric middle"


def test_the_state_of_cma_es_is_computed_and_leads_uphill(tmp_path):
    study = open_study(tmp_path, sampler="cmaes", space={"a": Range(0.0, 1.0), "n": Range(0, 1000)})
    for _ in range(80):
        trial = ask(study)
        study.tell(trial.number, -((trial.values["a"] - 0.8) ** 2) - (trial.values["n"] / 1000 - 0.3) ** 2)
    last = values_of(study)[-10:]
    assert all(abs(values["a"] - 0.8) < 0.2 and abs(values["n"] - 300) < 200 for values in last)
    attributes = [json.loads(line).get("user_attrs") or {} for line in lines_of(tmp_path)]
    assert {type(x) for one in attributes for x in one.values()} == {int}, "nothing that would be unpickled"


def test_trials_that_left_the_space_are_kept_and_not_learned_from(tmp_path):
    study = open_study(tmp_path, space={"a": Range(0.0, 1.0)})
    for _ in range(12):
        trial = ask(study)
        study.tell(trial.number, trial.values["a"])
    before = values_of(study)
    narrow = open_study(tmp_path, space={"a": Range(0.0, 0.1)})
    asked = [ask(narrow).values["a"] for _ in range(3)]
    assert values_of(narrow)[:12] == before and all(value <= 0.1 for value in asked)


def test_a_line_that_was_cut_off_costs_no_other(tmp_path):
    ask(open_study(tmp_path))
    with (tmp_path / "study.jsonl").open("a") as file:
        file.write('{"op_co')
    study = open_study(tmp_path)
    assert len(study.trials()) == 1
    ask(study)
    assert len(study.trials()) == len(open_study(tmp_path).trials()) == 2
    (tmp_path / "study.jsonl").write_text("nonsense\n\n")
    with pytest.raises(GridError, match=r"study\.jsonl is damaged"):
        open_study(tmp_path).trials()


@pytest.mark.parametrize(
    "change",
    [
        lambda line: "[" * 100_000,
        lambda line: line.replace('"values":[0.5]', '"values":["x"]'),
        lambda line: line.replace('"intermediate_value":1.5', '"intermediate_value":"x"'),
    ],
    ids=["deep", "value", "report"],
)
def test_a_journal_that_a_stranger_changed_is_one_error(tmp_path, change):
    study = open_study(tmp_path, pruner="median")
    for _ in range(6):
        number = ask(study).number
        study.report(number, 100, 1.5)
        study.tell(number, 0.5)
    text = "".join(f"{change(line)}\n" for line in lines_of(tmp_path))
    assert text.splitlines() != lines_of(tmp_path)
    (tmp_path / "study.jsonl").write_text(text)
    study = open_study(tmp_path, pruner="median")
    with pytest.raises(GridError, match="is damaged"):
        study.report(ask(study).number, 100, 1.5)


@pytest.mark.parametrize("key", ["tracking.entity", "tracking[entity]", "checkpoint.every"])
def test_a_journal_sets_no_keys_that_a_space_cannot_have(tmp_path, key):
    grid, directory = write_search(tmp_path, RATES), tmp_path / "grid"
    search = open_grid(str(grid), directory).search
    assert search is not None and search.ask(print)
    journal = directory / "study.jsonl"
    journal.write_text(journal.read_text().replace("algo.learning_rate", key))
    again = open_grid(str(grid), directory).search
    assert again is not None and (again.cells, len(again.searches[0].trials)) == ([], 1)


def test_a_journal_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "precious").write_text("a line\nwithout its end")
    (tmp_path / "study.jsonl").symlink_to(tmp_path / "precious")
    for use in (ask, Study.trials):
        with pytest.raises(GridError, match="symbolic link"):
            use(open_study(tmp_path))
    assert (tmp_path / "precious").read_text() == "a line\nwithout its end"


def test_importance_is_of_the_key_that_matters(tmp_path):
    study = open_study(tmp_path, sampler="random", space={"a": Range(0.0, 1.0), "b": Range(0.0, 1.0)})
    assert study.importance() == {}
    for _ in range(40):
        trial = ask(study)
        study.tell(trial.number, trial.values["b"])
    importance = study.importance()
    assert list(importance) == ["b", "a"] and importance["b"] > 0.8 and sum(importance.values()) == pytest.approx(1)


# As cells


@pytest.mark.slow
def test_trials_are_cells_that_share_a_group_and_nothing_is_run_twice(tmp_path):
    file, program = write_search(tmp_path, RATES, seeds="0, 1"), write_program(tmp_path)
    assert open_grid(str(file), tmp_path / "grid").cells == [] and not (tmp_path / "grid").exists()
    grid, _ = run_search(file, tmp_path / "grid", program)
    (search,) = grid.search.searches
    assert sorted(trial.values["algo.learning_rate"] for trial in search.trials) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert [cell.trial for cell in grid.cells] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {cell.config.tracking.group for cell in grid.cells} == {"probe-a-probe_sign"}
    assert grid.cells[3].config.tracking.name == "trial1-seed1"
    assert search.best.values["algo.learning_rate"] == 0.6 and search.best.fitness == pytest.approx(0.6 * 5.5)
    before = (tmp_path / "grid" / "study.jsonl").read_text()
    grid, _ = run_search(file, tmp_path / "grid", program)
    assert {read_status(cell).attempts for cell in grid.cells} == {1} and grid.search.is_done
    assert (tmp_path / "grid" / "study.jsonl").read_text() == before


@pytest.mark.slow
def test_a_pruned_cell_saves_and_is_never_started_again(tmp_path):
    file = write_search(tmp_path, RATES.replace("{s", "{pruner: successive_halving, s", 1))
    program = write_program(tmp_path, UNTIL_COMPARED)
    grid, notes = run_search(file, tmp_path / "grid", program)
    (search,) = grid.search.searches
    pruned = [trial for trial in search.trials if trial.is_pruned]
    assert pruned and search.best.values["algo.learning_rate"] == 0.6
    for trial in pruned:
        (cell,) = search.cells[trial.number]
        status = read_status(cell)
        assert (status.state, status.saved, status.is_due(9)) == (State.PRUNED, 5, False)
        assert min(trial.reports) == 100 and max(trial.reports) < 500
        assert trial.fitness == trial.reports[max(trial.reports)]
        assert not is_to_go_on(cell.path, 75, 9, 0), "SLURM does not requeue it"
        assert any(f"{cell.name} is pruned" in note for note in notes)
    run_search(file, tmp_path / "grid", program)
    assert {read_status(cell).attempts for cell in grid.cells} == {1}


HALF_WAY = "trial == 2 and wait_for((journal.parent / 'go').exists)"


@pytest.mark.slow
def test_a_killed_launcher_loses_nothing(tmp_path):
    text = "{pruner: median, trials: 9, seed: 5, space: {algo.learning_rate: {low: 0.1, high: 1.0}}}"
    file, program = write_search(tmp_path, text), write_program(tmp_path, HALF_WAY)
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "go").touch()
    whole, _ = run_search(file, tmp_path / "whole", program)
    directory = tmp_path / "killed"
    launcher = start([sys.executable, searches.__file__, file, directory, program])
    pause = threading.Event()
    for _ in range(3000):
        grid = open_grid(str(file), directory)
        if len(grid.cells) == 3 and len(grid.search.searches[0].trials[2].reports) == 5:
            break
        pause.wait(0.02)
    else:
        pytest.fail("the third trial has not come half-way")
    launcher.kill()
    launcher.wait()
    (directory / "go").touch()
    grid, _ = run_search(file, directory, program)
    assert grid.search.searches[0].trials == whole.search.searches[0].trials
    assert {read_status(cell).attempts for cell in grid.cells} == {1}
    told = [json.loads(line) for line in lines_of(directory) if '"op_code":6' in line]
    assert sorted(line["trial_id"] for line in told) == list(range(9)), "each is told once"


@pytest.mark.slow
def test_launchers_together_ask_for_no_more_than_all_trials(tmp_path):
    text = "{trials: 5, parallel: 2, space: {algo.learning_rate: [0.1, 0.2]}}"
    file, program = write_search(tmp_path, text), write_program(tmp_path)
    first, second = (open_grid(str(file), tmp_path / "grid").search for _ in range(2))
    first.ask(print)
    assert first.wants_more and second.wants_more
    second.ask(print)
    assert not second.wants_more and [trial.number for trial in second.searches[0].trials] == [0, 1]
    grid, _ = run_search(file, tmp_path / "grid", program)
    assert len(grid.search.searches[0].trials) == 5 and grid.search.is_done
    assert len(grid.cells) == 2, "trials with the same values share their cells"
    first.ask(print)
    assert len(grid.search.searches[0].trials) == 5


@pytest.mark.slow
def test_a_failed_trial_stays_open_and_three_of_them_end_a_search_without_results(tmp_path):
    file = write_search(tmp_path, RATES)
    program = write_program(tmp_path, "sys.exit('no luck')")
    grid, _ = run_search(file, tmp_path / "grid", program)
    assert [trial.is_open for trial in grid.search.searches[0].trials] == [True] * 3 and grid.search.is_stuck
    assert {read_status(cell).state for cell in grid.cells} == {State.FAILED}
    file.write_text(file.read_text().replace("retries: 0", "retries: 1"))
    grid, _ = run_search(file, tmp_path / "grid", write_program(tmp_path))
    assert grid.search.is_done and [read_status(cell).attempts for cell in grid.cells] == [2, 2, 2, 1, 1, 1]


@pytest.mark.slow
def test_values_that_do_not_go_together_fail_and_cost_one_trial(tmp_path):
    # Each is allowed beside the first of the other, and 0.4 is not beside 0.3: the probability is at least eps.
    text = "{sampler: grid, space: {algo.eps: [0.001, 0.4], algo.initial_prob: [0.5, 0.3], algo.learning_rate: [0.1]}}"
    grid, notes = run_search(write_search(tmp_path, text), tmp_path / "grid", write_program(tmp_path))
    trials = grid.search.searches[0].trials
    assert grid.search.is_done and sorted(trial.is_complete for trial in trials) == [False, True, True, True]
    assert sum("algo.eps=0.4 algo.initial_prob=0.3" in note for note in notes) == 1


@pytest.mark.slow
def test_the_winner_is_a_preset_and_the_report_ranks(tmp_path):
    file = write_search(tmp_path, RATES)
    grid, _ = run_search(file, tmp_path / "grid", write_program(tmp_path))
    from evoconn_cli.grid.report import read_results

    (search,) = grid.search.searches
    ((head, rows),) = rankings(grid.search, read_results(grid.cells, None)).values()
    assert head[:5] == ["rank", "trial", "learning_rate", "state", "evaluation"]
    assert [row[2] for row in rows] == ["0.6", "0.5", "0.4", "0.3", "0.2", "0.1"] and rows[0][0] == "1 (best)"
    ((name, text),) = winner_presets(grid.search).items()
    preset = tmp_path / "best.yaml"
    preset.write_text(text)
    of_cell = search.cells[search.best.number][0].config
    assert dataclasses.replace(of_cell, tracking=load_config(str(preset)).tracking) == load_config(str(preset))
    assert name == "best-a-probe_sign.yaml" and f"trial {search.best.number} of 6" in text


class FakeSlurm:
    """SLURM's commands: `sbatch` queues one task, which ends when it is told to."""

    def __init__(self, monkeypatch):
        self.queue, self.asked = {}, []
        monkeypatch.setattr("evoconn_cli.grid.slurm.ask", self.ask)

    def ask(self, *command):
        self.asked.append(command)
        if command[0] == "sbatch":
            self.queue[Path(command[-1]).stem] = "PENDING"
            return str(len(self.queue))
        if command[0] == "squeue":
            return "".join(f"{name}|{17}|0|{state}\n" for name, state in self.queue.items())
        return ""


def test_slurm_gets_a_job_per_cell_and_a_pruned_one_its_signal(tmp_path, monkeypatch):
    grid = open_grid(str(write_search(tmp_path, RATES)), tmp_path / "grid")
    (cell,) = grid.search.ask(print)
    prepare(cell, "probe")
    slurm, now = FakeSlurm(monkeypatch), [0.0]
    queue = SlurmQueue("probe", grid.directory, grid.file.launch, print, pause=lambda seconds: None)
    executor = SlurmExecutor(queue, clock=lambda: now[0])
    executor.start(cell, 0)
    (name,) = slurm.queue
    executor.ask_to_end(cell)
    slurm.queue[name] = "RUNNING"
    executor.ask_to_end(cell)
    assert [command for command in slurm.asked if command[0] == "scancel"] == [
        ("scancel", "17_0"),
        ("scancel", "--signal=USR1", "17_0"),
    ]
    now[0] += 60
    assert executor.wait() == []
    slurm.queue.clear()
    assert executor.wait() == [], "the queue is not asked all the time"
    now[0] += 60
    record_start(cell.path, "slurm 17_0", 0)
    record_end(cell.path, 75)
    assert executor.wait() == [Ended(cell, 75)] and executor.wait() == []


# What is said


def test_another_base_or_other_seeds_begin_another_study(tmp_path):
    def study_name(text):
        file = tmp_path / "probe.yaml"
        file.write_text(text)
        return open_grid(str(file), tmp_path / "grid").search.searches[0]._study._name

    text = write_search(tmp_path, RATES).read_text()
    same = text.replace("0.6]", "0.6, 0.7]").replace("retries: 0", "retries: 5")
    assert study_name(text) == study_name(same)
    others = {study_name(text.replace(*change)) for change in (("ations: 10", "ations: 11"), ("[0]", "[0, 1]"))}
    assert len(others | {study_name(text)}) == 3


def test_without_optuna_a_search_says_what_to_install(tmp_path, monkeypatch):
    file = write_search(tmp_path, RATES)
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "evoconn_cli.search.study", raising=False)
    monkeypatch.delitem(sys.modules, "evoconn_cli.search.samplers", raising=False)
    with pytest.raises(EvoconnError, match=r"needs Optuna.*pip install 'evoconn\[search\]'"):
        open_grid(str(file), tmp_path / "grid")


def test_a_journal_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "study.jsonl").mkdir()
    with pytest.raises(GridError, match="the search cannot use"):
        ask(open_study(tmp_path))


@pytest.mark.parametrize(
    ("search", "message"),
    {
        "{samples: 3, draw: {algo.eps: [0.1]}}": "random search of evoconn before the search with Optuna",
        "{sampler: tp, space: {algo.eps: [0.1]}}": "Did you mean 'tpe'",
        "{pruner: medan, space: {algo.eps: [0.1]}}": "Did you mean 'median'",
        "{trails: 3, space: {algo.eps: [0.1]}}": "'search.trials'",
        "{space: {algo.lerning_rate: [0.1]}}": "'algo.learning_rate'",
        "{space: {algo.eps: [0.1, 0.7]}}": "algo.eps=0.7",
        "{space: {algo.eps: {low: 0.1, high: 0.7}}}": "algo.eps=0.7",
        "{sampler: grid, space: {algo.eps: {low: 0.1, high: 0.2}}}": "needs lists",
        "{sampler: cmaes, space: {algo.eps: [0.1]}}": "needs a range",
        "{report_every: 1001, space: {algo.eps: [0.1]}}": "would be compared 0 times",
        "{parallel: 0, space: {algo.eps: [0.1]}}": "search.parallel=0",
    }.items(),
)
def test_what_is_wrong_with_a_search_is_named_before_it_begins(tmp_path, search, message):
    file = write_search(tmp_path, search)
    with pytest.raises(ConfigError) as error:
        open_grid(str(file), tmp_path / "grid")
    assert message in str(error.value)
