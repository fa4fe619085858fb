"""`--on slurm`: the script, and a real SLURM of one node in which cells are pre-empted, stopped and lost."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys

import pytest
from grids import GONE, LIGHT, ONE_TASK, TINY, generations_of, load_cells, starts_of, write_grid
from searches import UNTIL_COMPARED, write_program, write_search
from slurm_cluster import SlurmCluster, missing_programs, wait_until
from typer.testing import CliRunner
from whole_runs import assert_same_run, quiet

from evoconn_cli.app import app
from evoconn_cli.config.grid import read_grid
from evoconn_cli.errors import ConfigError, GridError
from evoconn_cli.grid import slurm as slurm_queue
from evoconn_cli.grid.attempts import read_attempts, record_end, record_start
from evoconn_cli.grid.cells import open_grid, prepare
from evoconn_cli.grid.scheduler import Scheduler
from evoconn_cli.grid.slurm import SlurmExecutor, SlurmQueue
from evoconn_cli.grid.slurm_script import cells_in, make_script
from evoconn_cli.grid.slurm_task import is_to_go_on
from evoconn_cli.grid.slurm_task import main as slurm_task
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.training.opening import create_run
from evoconn_cli.training.train import train

pytestmark = pytest.mark.xdist_group("slurm")

LONG = """
base: smoke
sets:
  long: {algo.population: 32, network.num_neurons: 300, algo.generations: 150, checkpoint.every: 1000000}
seeds: [0]
launch: {cores_per_run: 1, environment: {EVOCONN_TEST_PACE: 0.04}}
"""
"""One cell that lasts long enough to be interrupted."""


def load(folder, text, name="tiny"):
    """Returns the grid file, its cells, and its directory."""
    path = write_grid(folder, text, name)
    return read_grid(str(path)), load_cells(path, folder / "a grid"), folder / "a grid"


def script_of(folder, text=TINY):
    grid, cells, directory = load(folder, text)
    return make_script("evoconn-tiny-1", cells, grid.launch, directory), cells


# The script


def test_the_script_is_one_array_with_what_the_grid_asks_for(tmp_path):
    launch = (
        "{cores_per_run: 3, retries: 5, time_limit: 2h, environment: {NAME: a value}, slurm: {partition: gpu, "
        "account: me, qos: low, gres: 'gpu:1', time: 4h, mem: 16G, max_running: 2, save_before: 90, "
        "sbatch: {constraint: a100|h100, exclusive: ''}}}"
    )
    text, cells = script_of(tmp_path, TINY.replace("{retry_pause: 0, cores_per_run: 1}", launch))
    options = {line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")}
    assert options >= {
        "--array=0-7%2",
        "--cpus-per-task=3",
        "--partition=gpu",
        "--account=me",
        "--qos=low",
        "--gres=gpu:1",
        "--time=0-04:00:00",
        "--mem=16G",
        "--signal=USR1@90",
        "--requeue",
        "--constraint='a100|h100'",
        "--exclusive",
    }
    assert "export NAME='a value'\n" in text
    assert '"$cell" 5 \\\n' in text and text.endswith('run-cell "$cell" --max-time 2h\n')
    assert cells_in(text) == [cell.path for cell in cells]


def test_what_is_not_asked_for_is_left_to_slurm(tmp_path):
    text, _ = script_of(tmp_path)
    for name in ("partition", "account", "qos", "gres", "time", "mem"):
        assert f"--{name}" not in text
    assert "#SBATCH --array=0-7\n" in text


def test_bash_finds_each_cell_by_the_number_of_its_task(tmp_path):
    folder = tmp_path / "it's $HOME; 100%"
    folder.mkdir()
    text, cells = script_of(folder)
    assert cells_in(text) == [cell.path for cell in cells]
    code = text.replace("exec ", 'printf "%s\\n%s" "$cell" "$EVOCONN_CELL_PLACE"; exit; ')
    for number in (0, 7):
        environment = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_JOB_ID": "12"}
        done = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{cells[number].path}\nslurm 12_{number}"


def test_the_callers_variables_hide_no_part_of_the_queue_and_replace_nothing_that_a_script_says(tmp_path, monkeypatch):
    for command in ("squeue", "sbatch"):
        (tmp_path / command).write_text("#!/bin/sh\nenv\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("SQUEUE_STATES", "SQUEUE_PARTITION", "SBATCH_JOB_NAME", "SBATCH_ARRAY_INX", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "mine")
    for command in ("squeue", "sbatch"):
        lines = slurm_queue.ask(command).splitlines()
        assert [line for line in lines if line.endswith("=mine")] == ["SBATCH_ACCOUNT=mine"], "a user's default counts"


@pytest.mark.parametrize(
    "slurm, message",
    [
        ("{partitoin: gpu}", "launch.slurm.partitoin.*Did you mean 'launch.slurm.partition'"),
        ("{max_running: 0}", "at least 1"),
        ('{partition: "a\\nb"}', "that a script cannot have"),
        ("{sbatch: {time: '1:00'}}", "use the key launch.slurm.time"),
        ("{sbatch: {cpus-per-task: 2}}", "use the key launch.cores_per_run"),
        ("{sbatch: {array: 0-3}}", "use the key launch.slurm.max_running"),
        ("{sbatch: {output: x}}", "sets this option itself"),
        ("{sbatch: {--nice: 1}}", "without its dashes"),
        ('{sbatch: {comment: "a\\nb"}}', "that a script cannot have"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_submitted(tmp_path, slurm, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, TINY.replace("cores_per_run: 1}", f"cores_per_run: 1, slurm: {slurm}}}"))


@pytest.mark.parametrize(
    "written, option", [("250s", "0-00:05:00"), ("1d12h", "1-12:00:00"), ("'4:30:00'", "0-04:30:00")]
)
def test_time_limits_are_written_as_elsewhere(tmp_path, written, option):
    text, _ = script_of(tmp_path, TINY.replace("cores_per_run: 1}", f"cores_per_run: 1, slurm: {{time: {written}}}}}"))
    assert f"#SBATCH --time={option}\n" in text


def test_without_slurm_the_message_says_what_is_missing(tmp_path, monkeypatch):
    grid, cells, directory = load(tmp_path, TINY)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GridError, match="sbatch is not found. Run launch-grid on a login node"):
        submit(grid, cells, directory)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands: scripts of bash, by name, which are the only ones there are."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")

    def make(**scripts):
        for name, text in scripts.items():
            (folder / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / name).chmod(0o755)

    return make


def test_cells_in_the_queue_are_known_by_the_script_even_if_its_submission_was_cut_off(tmp_path, commands):
    grid, cells, directory = load(tmp_path, TINY)
    commands(sbatch="exit 1", squeue="")
    with pytest.raises(GridError, match="sbatch: exit code 1"):
        submit(grid, cells, directory)
    (script,) = (directory / "slurm").glob("*.sbatch")
    commands(sbatch="echo 18", squeue=f"echo '{script.stem}|17|2|PENDING'; echo 'an|other|3|N/A|RUNNING'")
    queued, submitted = submit(grid, cells, directory)
    assert queued == "in SLURM's queue already: 1 of 8 cells." and submitted.startswith("SLURM array 18: 7 cells.")
    assert read_status(cells[2]).place == "" and read_status(cells[3]).place == "slurm 18_2"


def test_more_cells_than_an_array_can_have_get_several(tmp_path, commands):
    text = TINY.replace("cores_per_run: 1}", "cores_per_run: 1, slurm: {array_size: 3}}")
    grid, cells, directory = load(tmp_path, text)
    commands(sbatch="echo 20", squeue="")
    assert [note.split(". ")[0] for note in submit(grid, cells, directory)] == [
        f"SLURM array 20: {count} cells" for count in (3, 3, 2)
    ]
    scripts = [cells_in(path.read_text()) for path in (directory / "slurm").glob("*.sbatch")]
    assert sorted(path for script in scripts for path in script) == sorted(cell.path for cell in cells)


def test_what_slurm_answers_to_a_wrong_request_is_shown(tmp_path, commands):
    grid, cells, directory = load(tmp_path, TINY)
    commands(sbatch="echo 'sbatch: error: Invalid partition name specified' >&2; exit 1", squeue="")
    with pytest.raises(GridError, match="^sbatch: Invalid partition name specified.$"):
        submit(grid, cells, directory)


# The end of a task


@pytest.fixture
def task(monkeypatch):
    """This process is a task of SLURM; its signals are given back."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "exit_code, queue, is_requeued",
    [
        (0, "RUNNING None", False),
        (75, "RUNNING None", True),
        (75, "COMPLETING TimeLimit", True),
        (75, "COMPLETING None", False),
        (75, "", False),
        (1, "RUNNING None", False),
    ],
)
def test_a_task_goes_back_to_the_queue_where_slurm_lets_it_live(
    tmp_path, commands, task, exit_code, queue, is_requeued
):
    """A command that fails before it has begun an attempt will not do better the next time."""
    commands(squeue=f"echo '{queue}'", scontrol=f'echo "$@" >> "{tmp_path}/requeued"')
    assert slurm_task([str(tmp_path), "2", "bash", "-c", f"exit {exit_code}"]) == exit_code
    requeued = tmp_path / "requeued"
    assert (requeued.read_text() if requeued.exists() else None) == ("requeue 12_3\n" if is_requeued else None)


def test_a_cell_that_is_killed_again_and_again_is_requeued_as_often_as_it_may_fail(tmp_path):
    _, cells, _ = load(tmp_path, TINY)
    cell = cells[0]
    prepare(cell, "tiny")
    answers = []
    for number in range(3):
        record_start(cell.path, "slurm 12_3", saved=0, pid=GONE)
        answers.append(is_to_go_on(cell.path, 137, retries=1, before=number))
    assert answers == [True, False, False]
    assert [attempt.exit_code for attempt in read_attempts(cell.path).attempts] == [137] * 3


def test_a_cell_that_is_asked_to_end_again_and_again_and_gets_no_further_leaves_the_queue(tmp_path):
    _, cells, _ = load(tmp_path, TINY)
    cell = cells[0]
    prepare(cell, "tiny")
    answers = []
    for number in range(3):
        record_start(cell.path, "slurm 12_3", saved=0, pid=GONE)
        record_end(cell.path, 75, pid=GONE)
        answers.append(is_to_go_on(cell.path, 75, retries=1, before=number))
    assert answers == [True, False, False]
    (cell.path / "checkpoints" / "1").mkdir(parents=True)
    assert is_to_go_on(cell.path, 75, retries=1, before=3), "it has got further"


def test_where_slurm_does_not_answer_a_task_says_so(tmp_path, commands, task, capfd):
    commands(squeue="echo 'squeue: error: no contact' >&2; exit 1")
    assert slurm_task([str(tmp_path), "2", "bash", "-c", "exit 75"]) == 75
    assert "squeue: no contact. Run launch-grid again to go on." in capfd.readouterr().out


def test_waiting_outlasts_a_controller_that_does_not_answer_for_a_while(tmp_path, commands):
    grid, cells, directory = load(tmp_path, TINY)
    commands(sbatch="echo 20", squeue="exit 1")
    pauses, notes = [], []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            commands(squeue="")

    for cell in cells:
        prepare(cell, grid.name)
    SlurmQueue(grid.name, directory, grid.launch, notes.append, wait=True, pause=pause).run(cells)
    assert len(pauses) == 3 and sum("SLURM is asked again" in note for note in notes) == 1


def test_cells_are_found_in_the_queue_through_a_link_to_their_grid(tmp_path, commands):
    grid, cells, directory = load(tmp_path, TINY)
    commands(sbatch="echo 18", squeue="")
    submit(grid, cells, directory)
    (script,) = (directory / "slurm").glob("*.sbatch")
    (tmp_path / "link").symlink_to(directory)
    linked = load_cells(tmp_path / "tiny.yaml", tmp_path / "link")
    commands(squeue=f"for n in 0 1 2 3 4 5 6 7; do echo '{script.stem}|17|'$n'|PENDING'; done")
    assert SlurmQueue(grid.name, tmp_path / "link", grid.launch, print).plan(linked)[2] == "slurm 17_2, pending"


def launch_on_slurm(folder, *options):
    return CliRunner().invoke(app, ["launch-grid", f"{folder}/tiny.yaml", "--grid-dir", f"{folder}/a grid", *options])


@pytest.mark.slow
def test_the_command_submits_prints_and_waits(tmp_path, commands):
    _, cells, directory = load(tmp_path, TINY)
    commands(sbatch="echo 20", squeue="")
    printed = launch_on_slurm(tmp_path, "--on", "slurm", "--print")
    assert printed.exit_code == 0 and cells_in(printed.stdout) == [cell.path for cell in cells]
    submitted = launch_on_slurm(tmp_path, "--on", "slurm")
    assert submitted.exit_code == 0 and "SLURM array 20: 8 cells." in submitted.output
    assert read_status(cells[7]).place == "slurm 20_7"
    waited = launch_on_slurm(tmp_path, "--on", "slurm", "--wait")
    assert waited.exit_code == 75 and "8 cells: 8 waiting" in waited.output, "none has run"
    for cell in cells:
        (cell.path / "checkpoints" / "4").mkdir(parents=True)
    nothing = launch_on_slurm(tmp_path, "--on", "slurm", "--print")
    assert nothing.exit_code == 0 and nothing.stdout == "" and "nothing to submit" in nothing.stderr


# A real SLURM


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}; apt-get install slurm-wlm munge")
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, cluster.environment[name])
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def submit(grid, cells, directory, program=LIGHT):
    """Hands the cells that are due to SLURM; returns what the user is told."""
    notes = []
    for cell in cells:
        prepare(cell, grid.name)
    states = {cell: read_status(cell) for cell in cells}
    left = [cell for cell in cells if states[cell].is_due(grid.launch.retries) or states[cell].state is State.RUNNING]
    SlurmQueue(grid.name, directory, grid.launch, notes.append, program=program).run(left)
    return notes


def drain(slurm, seconds=240.0):
    """Waits until the queue is empty; requeued tasks start without the two minutes that SLURM lets them wait."""

    waiting = set()

    def is_empty():
        tasks = slurm.tasks()
        pending = {task for task, state in tasks.items() if state == "PENDING"}
        for task in pending - waiting:
            slurm.start_soon(task)
        waiting.clear()
        waiting.update(pending)
        return not tasks

    wait_until(is_empty, "the queue is empty", seconds=seconds)


def wait_for_generation(cell, generation=1):
    metrics = cell.path / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and len(generations_of(cell)) >= generation, f"generation {generation}")


def assert_like_a_single_run(cell, path, light):
    run = create_run(cell.config, path)
    train(run, quiet())
    assert_same_run(path, cell.path, light)
    assert generations_of(cell) == list(range(1, cell.config.algo.generations + 1))


def log_of(directory):
    return "".join(path.read_text() for path in (directory / "slurm").glob("*.log"))


@pytest.fixture
def running(slurm, tmp_path):
    """A cell that runs in SLURM, and has trained; with what is needed to submit it again."""
    grid, cells, directory = load(tmp_path, LONG, "long")
    submit(grid, cells, directory)
    (cell,) = cells
    wait_for_generation(cell)
    (task,) = slurm.tasks()
    yield cell, task, lambda: submit(grid, cells, directory), directory
    drain(slurm)


@pytest.mark.slow
def test_a_requeued_cell_resumes_and_is_like_a_single_run(slurm, running, light, tmp_path):
    cell, task, _, _ = running
    slurm.run("scontrol", "requeue", task)
    wait_until(lambda: slurm.tasks() == {task: "PENDING"}, "it is requeued, once")
    assert read_status(cell).state == State.SAVED
    drain(slurm)
    assert len(starts_of(cell)) == 2 and starts_of(cell)[1] > 0
    assert_like_a_single_run(cell, tmp_path / "single", light)


@pytest.mark.slow
def test_a_preempted_cell_saves_in_the_time_of_grace_and_is_requeued(slurm, running, light, tmp_path):
    cell, task, _, directory = running
    slurm.run("srun", "--partition=urgent", "--ntasks=2", "true")
    assert slurm.tasks() == {task: "PENDING"}
    assert "exit code 75, back to the queue" in log_of(directory)
    drain(slurm)
    assert len(starts_of(cell)) == 2 and starts_of(cell)[1] > 0
    assert_like_a_single_run(cell, tmp_path / "single", light)


@pytest.mark.slow
def test_a_cancelled_cell_saves_and_stays_out_of_the_queue_until_it_is_launched_again(slurm, running):
    cell, task, launch_again, _ = running
    assert launch_again() == ["in SLURM's queue already: 1 of 1 cells."]
    slurm.run("scancel", task)
    wait_until(lambda: not slurm.tasks(), "it is cancelled")
    assert read_status(cell).state == State.SAVED
    launch_again()
    drain(slurm)
    assert read_status(cell).state == State.FINISHED
    assert len(starts_of(cell)) == 2 and starts_of(cell)[1] > 0


@pytest.mark.slow
def test_daemons_that_are_killed_and_restarted_cost_nothing(slurm, running):
    cell, task, launch_again, _ = running
    slurm.save_state(task)
    slurm.kill("slurmctld")
    slurm.kill("slurmd")
    slurm.start()
    assert read_status(cell).state != State.FAILED
    launch_again()
    drain(slurm)
    assert read_status(cell).state == State.FINISHED and len(starts_of(cell)) == 1


@pytest.mark.slow
def test_a_machine_that_is_lost_costs_what_was_not_saved(slurm, running, light, tmp_path):
    cell, task, launch_again, _ = running
    processes = slurm.job_processes()
    for process in processes:
        os.kill(process, signal.SIGSTOP)  # or the cell would be finished before the machine is lost
    slurm.save_state(task)
    slurm.kill("slurmctld")
    slurm.kill("slurmd")
    for process in processes:
        os.kill(process, signal.SIGKILL)
    slurm.start()

    def is_missed():
        slurm.look_at_nodes()
        return slurm.tasks().get(task) != "RUNNING"

    wait_until(is_missed, "SLURM knows that the task is gone", every=2.0)
    launch_again()
    drain(slurm)
    assert read_status(cell).state == State.FINISHED and starts_of(cell) == [0, 0]
    assert_like_a_single_run(cell, tmp_path / "single", light)


@pytest.mark.slow
def test_before_its_time_limit_a_cell_saves_and_goes_back_to_the_queue(slurm, tmp_path):
    text = LONG.replace("algo.generations: 150", "algo.generations: 1000000")
    text = text.replace("cores_per_run: 1", "cores_per_run: 1, slurm: {time: 1h, save_before: 119}")
    grid, cells, directory = load(tmp_path, text, "limited")
    submit(grid, cells, directory)
    (cell,) = cells
    wait_for_generation(cell)
    (task,) = slurm.tasks()
    slurm.run(
        "scontrol", "update", f"JobId={task}", "TimeLimit=2"
    )  # less than 119 s are left: SLURM looks twice a minute
    wait_until(lambda: "back to the queue" in log_of(directory), "the signal has come", seconds=200)
    wait_until(lambda: "PENDING" in slurm.tasks().values(), "it is requeued")
    status = read_status(cell)
    assert status.state == State.SAVED and status.last_attempt.exit_code == 75
    assert "SIGUSR1: this generation is finished and saved" in (cell.path / "log.txt").read_text()
    slurm.run("scancel", *slurm.tasks())
    wait_until(lambda: not slurm.tasks(), "the queue is empty")


@pytest.mark.slow
def test_a_cell_that_fails_is_tried_again_and_stops_no_other(slurm, tmp_path):
    text = TINY.replace("seeds: [0, 1]", "seeds: [0]").replace("retry_pause: 0,", "retry_pause: 0, retries: 1,")
    grid, cells, directory = load(tmp_path, text)
    for cell in cells:
        prepare(cell, grid.name)
    bad = cells[1]
    (bad.path / "metrics.jsonl").mkdir()
    submit(grid, cells, directory)
    drain(slurm)
    states = [read_status(cell).state for cell in cells]
    assert states == [State.FINISHED, State.FAILED, State.FINISHED, State.FINISHED]
    assert [attempt.exit_code for attempt in read_attempts(bad.path).attempts] == [1, 1]
    assert submit(grid, cells, directory) == []


@pytest.mark.slow
def test_a_grid_of_two_sets_and_two_seeds_is_like_single_runs(slurm, tmp_path):
    """With the real engine, and the command line that users have."""
    grid, cells, directory = load(tmp_path, ONE_TASK)
    (note,) = submit(grid, cells, directory, program=shlex.split(f"{LIGHT[0]} -m evoconn_cli"))
    assert "4 cells" in note and "scancel" in note
    (again,) = submit(grid, cells, directory)
    assert "in SLURM's queue already" in again
    drain(slurm)
    for number, cell in enumerate(cells):
        assert len(starts_of(cell)) == 1
        assert read_status(cell).place == f"slurm {note.split()[2].rstrip(':')}_{number}"
        run = create_run(cell.config, tmp_path / f"single{number}")
        train(run, quiet())
        assert_same_run(run.directory.path, cell.path)


@pytest.mark.slow
def test_trials_of_a_search_are_jobs_and_a_pruned_one_saves_and_does_not_return(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_queue, "_POLL", 1.0)
    search = "{sampler: grid, seed: 3, pruner: successive_halving, space: {algo.learning_rate: [0.1, 0.4, 0.6]}}"
    file, program = write_search(tmp_path, search), write_program(tmp_path, UNTIL_COMPARED)
    grid = open_grid(str(file), tmp_path / "grid")
    queue = SlurmQueue("probe", grid.directory, grid.file.launch, print, program=[sys.executable, str(program)])
    assert Scheduler(SlurmExecutor(queue), grid.file.launch, print, grid.search).run([]) == {}
    (search,) = grid.search.searches
    pruned = [search.cells[trial.number][0] for trial in search.trials if trial.is_pruned]
    assert search.best.values["algo.learning_rate"] == 0.6 and pruned and grid.search.is_done
    assert {(read_status(cell).state, read_status(cell).saved) for cell in pruned} == {(State.PRUNED, 5)}
    assert slurm.tasks() == {} and {read_status(cell).attempts for cell in grid.cells} == {1}
