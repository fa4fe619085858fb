"""A cell: its attempts, its state, and the command that runs it."""

from __future__ import annotations

import io
import json
import os
import pickle
import time
from types import SimpleNamespace

import pytest
from grids import GONE, LIGHT, TINY, USABLE_CORES, generations_of, load_cells, starts_of, write_grid
from plugins import POINT, forgotten
from rich.console import Console
from started import start
from whole_runs import assert_same_run, evoconn, resume_small

from evoconn_cli.config.grid import read_grid
from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.config.plugins import load_plugins
from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.grid import attempts
from evoconn_cli.grid.cell_process import cell_command, cell_environment, open_log
from evoconn_cli.grid.cells import prepare
from evoconn_cli.grid.ray_executor import RayExecutor
from evoconn_cli.grid.report import read_results, to_markdown
from evoconn_cli.grid.slurm_script import make_script
from evoconn_cli.grid.states import LOG_FILE, State, last_log_lines, read_progress, read_status
from evoconn_cli.grid.table import GridTable, read_rows
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.lock import run_lock

LAUNCH = LaunchConfig(environment={"WANDB_MODE": "disabled"})


@pytest.fixture
def cell(tmp_path):
    return load_cells(write_grid(tmp_path), tmp_path / "grid")[0]


@pytest.fixture
def prepared(cell):
    prepare(cell, "tiny")
    return cell


def save(cell, generation):
    (cell.path / "checkpoints" / str(generation)).mkdir(parents=True)


def state(cell):
    return read_status(cell).state


# States


def test_a_cell_without_a_directory_waits_and_one_that_is_prepared_too(cell):
    assert state(cell) == State.WAITING
    prepare(cell, "tiny")
    prepare(cell, "tiny")
    assert state(cell) == State.WAITING and read_status(cell).is_due(retries=0)
    facts = json.loads((cell.path / "run.json").read_text())
    assert facts["grid"]["name"] == "tiny" and facts["status"] == "created"


def test_a_directory_of_another_run_is_refused(cell):
    prepare(cell, "tiny")
    config = cell.path / "config.yaml"
    config.write_text(config.read_text().replace("num_neurons: 16", "num_neurons: 17"))
    with pytest.raises(RunDirectoryError, match=r"network\.num_neurons differ"):
        prepare(cell, "tiny")


def test_what_need_not_be_the_same_may_be_changed_in_the_directory(prepared):
    config = prepared.path / "config.yaml"
    config.write_text(config.read_text().replace("every: 2", "every: 3").replace("devices: null", "devices: 1"))
    prepare(prepared, "tiny")


def test_a_cell_that_was_trained_further_is_finished_and_one_that_would_stop_earlier_is_refused(prepared):
    config = prepared.path / "config.yaml"
    config.write_text(config.read_text().replace("generations: 4", "generations: 9"))
    prepare(prepared, "tiny")
    save(prepared, 4)
    assert state(prepared) == State.FINISHED
    config.write_text(config.read_text().replace("generations: 9", "generations: 3"))
    with pytest.raises(RunDirectoryError, match=r"algo\.generations differ"):
        prepare(prepared, "tiny")


def test_a_cell_is_finished_when_its_last_generation_is_saved(prepared):
    save(prepared, 2)
    assert state(prepared) == State.SAVED
    save(prepared, 4)
    assert state(prepared) == State.FINISHED and not read_status(prepared).is_due(retries=9)


def test_a_cell_that_ended_by_itself_is_finished_and_shown_as_such_until_it_is_trained_further(tmp_path, light):
    text = TINY.replace("algo.generations: [4]", "algo.generations: [40]\n  algo.max_env_steps: [20]")
    cell = load_cells(write_grid(tmp_path, text), tmp_path / "grid")[0]
    prepare(cell, "tiny")
    assert resume_small(cell.path).finished
    status = read_status(cell)
    assert (status.state, status.saved, status.ended_by) == (State.FINISHED, 3, "algo.max_env_steps")
    assert "finished: max_env_steps" in "\n".join(shown(read_rows([cell]), 200))
    (group,) = read_results([cell], None)
    assert "1 of 1 runs are finished, before their last generation: 1 by algo.max_env_steps." in to_markdown(
        read_grid(str(tmp_path / "tiny.yaml")), [group], "", []
    )
    assert resume_small(cell.path, "algo.max_env_steps=50").finished
    prepare(cell, "tiny")
    assert (state(cell), read_status(cell).saved) == (State.FINISHED, 8)
    RunDirectory.open(cell.path).update_facts(status="interrupted")
    assert state(cell) == State.SAVED


def test_the_lock_says_who_runs_it(prepared):
    with run_lock(prepared.path / "lock", print):
        attempts.record_start(prepared.path, "gpu 3", 0, GONE)
        assert state(prepared) == State.RUNNING and read_status(prepared).place == "gpu 3"
        old = time.time() - 3600
        os.utime(prepared.path / "lock", (old, old))
        assert state(prepared) != State.RUNNING, "a lock that nobody renews"
    assert state(prepared) != State.RUNNING


def attempt(cell, exit_code=None, *, saves=None):
    status = read_status(cell)
    attempts.record_start(cell.path, "here", status.saved, GONE)
    if saves is not None:
        save(cell, saves)
    if exit_code is not None:
        attempts.record_end(cell.path, exit_code, GONE)


def test_a_cell_that_starts_is_shown_as_running_and_an_attempt_that_goes_on_has_not_failed(prepared, monkeypatch):
    attempt(prepared, 1)
    attempts.record_start(prepared.path, "here", 0, os.getpid())
    status = read_status(prepared)
    assert (status.state, status.failures, status.is_due(9)) == (State.RUNNING, 1, False), "it has no lock yet"
    with run_lock(prepared.path / "lock", print):
        assert read_status(prepared).failures == 1
    now = time.time()
    monkeypatch.setattr(attempts.time, "time", lambda: now + 120)
    assert (state(prepared), read_status(prepared).failures) == (State.FAILED, 2), "another process has its number"


def test_a_cell_that_starts_on_another_host_is_not_looked_up_here(prepared):
    start = {"event": "start", "place": "ray", "host": "elsewhere", "pid": GONE, "saved": 0}
    file = prepared.path / attempts.FILE
    file.write_text(json.dumps({**start, "time": time.time()}))
    assert state(prepared) == State.RUNNING
    file.write_text(json.dumps({**start, "time": time.time() - 3600}))
    assert state(prepared) == State.FAILED


def test_an_attempt_that_ends_in_an_error_or_without_a_word_has_failed(prepared):
    attempt(prepared, 1)
    assert (state(prepared), read_status(prepared).failures) == (State.FAILED, 1)
    attempt(prepared)
    status = read_status(prepared)
    assert (status.state, status.failures, status.attempts) == (State.FAILED, 2, 2)
    assert status.is_due(retries=2) and not status.is_due(retries=1)


def test_an_attempt_that_saves_has_not_failed_however_it_ended(prepared):
    attempt(prepared, 1)
    attempt(prepared, saves=2)
    assert (state(prepared), read_status(prepared).failures) == (State.SAVED, 0)
    attempt(prepared)
    assert (state(prepared), read_status(prepared).failures) == (State.FAILED, 1)


@pytest.mark.parametrize("exit_code", [75, 130])
def test_what_was_asked_to_end_has_not_failed_and_does_not_excuse_earlier_failures(prepared, exit_code):
    attempt(prepared, exit_code)
    assert (state(prepared), read_status(prepared).failures) == (State.WAITING, 0)
    attempt(prepared, 1)
    attempt(prepared, exit_code)
    attempt(prepared, 1)
    assert read_status(prepared).failures == 2


def test_failures_can_be_forgiven(prepared):
    attempt(prepared, 1)
    attempts.forgive(prepared.path)
    assert read_status(prepared).is_due(retries=0) and read_status(prepared).attempts == 1
    attempt(prepared, 1)
    assert read_status(prepared).failures == 1


def test_a_line_that_was_cut_off_is_left_out_and_costs_no_other(prepared):
    attempt(prepared, 1)
    with (prepared.path / attempts.FILE).open("a") as file:
        file.write('{"event": "start", "pla')
    assert read_status(prepared).attempts == 1
    attempt(prepared, 1)
    assert read_status(prepared).attempts == 2


@pytest.mark.parametrize(
    "damage",
    [{"pid": "x"}, {"time": [1]}, {"saved": None}, {"host": 3}, {"pid": True}],
    ids=lambda damage: next(iter(damage)),
)
def test_lines_that_are_not_ours_are_left_out(prepared, damage):
    attempt(prepared, 1)
    start = {"event": "start", "place": "here", "host": "a", "pid": 1, "saved": 0, "time": 1.0, **damage}
    end = {"event": "end", "host": "a", "pid": 1, "exit_code": [1], "time": 1.0}
    with (prepared.path / attempts.FILE).open("a") as file:
        file.write("\n".join([json.dumps(start), json.dumps(end), "[" * 100_000, "3\n"]))
    assert (state(prepared), read_status(prepared).attempts) == (State.FAILED, 1)


@pytest.mark.parametrize("name", [attempts.FILE, LOG_FILE])
def test_a_cell_writes_through_no_link(prepared, name, tmp_path):
    target = tmp_path / "elsewhere"
    (prepared.path / name).symlink_to(target)
    with pytest.raises(RunDirectoryError, match=f"cannot write .*{name}"):
        attempts.record_start(prepared.path, "here", 0)
        open_log(prepared.path)
    assert not target.exists()


def test_the_last_lines_of_a_log_are_whole_and_obeyed_by_no_terminal(tmp_path):
    log = tmp_path / LOG_FILE
    log.write_text("x\n" * 9000 + f"Error: {'a' * 3000}\x1b[2J\n")
    assert last_log_lines(log, 1) == [f"Error: {'a' * 3000}\\x1b[2J"]


def test_a_submitted_job_is_shown_until_it_starts(prepared):
    attempts.record_submission(prepared.path, "slurm 17_3")
    assert (state(prepared), read_status(prepared).place) == (State.WAITING, "slurm 17_3")
    attempt(prepared, 75)
    assert read_status(prepared).submitted is None


def test_progress_is_read_from_the_end_of_the_metrics(prepared):
    assert read_progress(prepared).generation == 0
    line = {"seconds": 2.0, "eval_fitness": 1.5}
    text = "".join(json.dumps({"generation": g, "env_steps": 100 * g, **line}) + "\n" for g in range(1, 1000))
    (prepared.path / "metrics.jsonl").write_text(text + '{"generation": 10')
    progress = read_progress(prepared)
    assert (progress.generation, progress.eval_fitness, progress.steps_per_second) == (999, 1.5, 50.0)


# The table


def shown(rows, width) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(GridTable("grid", rows))
    return console.file.getvalue().splitlines()


def trained(cell, generation):
    """Writes metrics up to a generation."""
    lines = (
        {"generation": g, "seconds": 1.0, "env_steps": 1e6 * g, "eval_fitness": 1e5} for g in range(1, generation + 1)
    )
    (cell.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_cell_without_a_generation_yet_shows_for_how_long_it_has_been_starting(prepared, monkeypatch):
    attempts.record_start(prepared.path, "cpu 0", 0, os.getpid())
    now = time.time()
    monkeypatch.setattr("evoconn_cli.grid.table.time.time", lambda: now + 42.2)
    assert "starting 42 s" in "\n".join(shown(read_rows([prepared]), 200))
    trained(prepared, 1)
    assert "starting" not in "\n".join(shown(read_rows([prepared]), 200))


@pytest.mark.parametrize("width", [90, 100, 110, 120, 200])
def test_names_stay_whole_in_a_narrow_terminal(tmp_path, width):
    text = TINY.replace("small:", "a_set_with_a_long_name:").replace(
        "algo.generations: [4]", "algo.generations: [4, 1000]"
    )
    cells = load_cells(write_grid(tmp_path, text), tmp_path / "grid")
    for cell in cells[:4]:
        prepare(cell, "tiny")
        attempts.record_start(cell.path, "NVIDIA H100 0", 0, os.getpid())
        trained(cell, 3)
    lines = shown(read_rows(cells), width)
    assert len(lines) == len(cells) + 3, "a line for each cell, the title, the head and the foot"
    for cell in cells:
        assert any(cell.group in line for line in lines)
    assert max(map(len, lines)) <= width
    assert ("steps/s" in lines[1]) == (width == 200), "the first to go"


# Plug-ins


@pytest.fixture
def of_plugin(tmp_path, monkeypatch):
    """Returns the cells of a grid whose task is that of a plug-in, which the launcher has loaded."""
    (tmp_path / "point.py").write_text(POINT)
    monkeypatch.chdir(tmp_path)
    with forgotten():
        load_plugins(["point.py"])
        text = TINY.replace("[probe_sign, probe_bias]", "[point]").replace("[0, 1]", "[0]")
        cells = load_cells(write_grid(tmp_path, text), tmp_path / "grid")
        for cell in cells:
            prepare(cell, "tiny")
        yield cells


def test_cells_load_the_plugins_of_the_launcher_by_their_absolute_paths(of_plugin, tmp_path):
    option = f"--plugin={tmp_path}/point.py"
    assert cell_command(of_plugin[0], LAUNCH)[-1] == option
    assert cell_environment(LAUNCH, "here")["EVOCONN_PLUGINS"] == ""
    script = make_script("a", of_plugin, LAUNCH, tmp_path)
    assert script.endswith(f'run-cell "$cell" {option}\n') and "\nexport EVOCONN_PLUGINS=\n" in script
    facts = json.loads((of_plugin[0].path / "run.json").read_text())
    assert [(record["name"], record["plugin"]) for record in facts["plugins"]] == [("point", "point.py")]


def test_ray_gets_the_plugins_and_no_object_of_them(of_plugin, tmp_path):
    sent = {}

    def remote(cell, launch, **options):
        sent.update(options, cell=cell)
        return "task"

    executor = RayExecutor(LAUNCH, lambda text: None)
    executor._run = SimpleNamespace(remote=remote)
    executor.start(of_plugin[0], 0)
    assert sent["plugins"] == [f"{tmp_path}/point.py"]
    assert b"evoconn_plugin_" not in pickle.dumps(sent["cell"]) and b"evoconn_plugin_" in pickle.dumps(of_plugin[0])


@pytest.mark.slow
def test_a_cell_of_a_plugin_runs_in_a_process_of_its_own_from_anywhere(of_plugin, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "EVOCONN_PLUGINS": "point.py", **cell_environment(LAUNCH, "slot 1")}
    process = start(cell_command(of_plugin[0], LAUNCH, LIGHT), env=environment, cwd=tmp_path / "elsewhere")
    assert process.wait(120) == 0, (of_plugin[0].path / "log.txt").read_text()
    assert generations_of(of_plugin[0]) == [1, 2, 3, 4]


# The command


def start_cell(cell, *arguments):
    environment = {**os.environ, **cell_environment(LAUNCH, "slot 1", cores=USABLE_CORES[:1])}
    return start([*cell_command(cell, LAUNCH, LIGHT), *arguments], env=environment)


@pytest.mark.slow
def test_a_cell_that_is_ended_goes_on_and_is_the_run_that_train_makes(prepared, tmp_path, light):
    overrides = ["algo.population=32", "algo.evaluation_copies=4", "network.num_neurons=16", "task.episode_length=4"]
    overrides += ["algo.generations=4", "engine.block=8", "checkpoint.every=2", "--seed", "0"]
    single = evoconn("train", "--config", "smoke", "--run-dir", "single", *overrides, cwd=tmp_path, light=True)
    process = start_cell(prepared, "--max-time", "1s")
    assert process.wait(timeout=120) == 1 and state(prepared) == State.FAILED
    log = read_status(prepared).log
    assert "--max-time was over" in " ".join(last_log_lines(log))
    assert log.read_text().startswith("== ") and "slot 1, process" in log.read_text()
    assert start_cell(prepared).wait(timeout=120) == 0 and state(prepared) == State.FINISHED
    single.communicate(timeout=120)
    assert single.returncode == 0
    assert_same_run(tmp_path / "single", prepared.path, light)
    assert starts_of(prepared) == [0, 0] and generations_of(prepared) == [1, 2, 3, 4]
    facts = json.loads((prepared.path / "run.json").read_text())
    assert facts["command"] == f"evoconn resume {prepared.path.name}" and facts["devices"].startswith("1 x")


@pytest.mark.slow
def test_a_cell_that_runs_elsewhere_is_left_alone(prepared):
    with run_lock(prepared.path / "lock", print):
        assert start_cell(prepared).wait(timeout=120) == 75
    assert state(prepared) == State.WAITING and not (prepared.path / "log.txt").exists()
