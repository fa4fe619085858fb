"""`--on ray`: a Ray of two logical nodes on this machine, whose workers are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from grids import LIGHT, ONE_TASK, fill_with_modules, generations_of, load_cells, starts_of, write_grid
from paths import SUPPORT
from slurm_cluster import wait_until
from started import start
from whole_runs import assert_same_run, quiet

from evoconn_cli.config.grid import read_grid
from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import GridError
from evoconn_cli.grid.attempts import read_attempts
from evoconn_cli.grid.cell_process import PROGRAM
from evoconn_cli.grid.cells import prepare
from evoconn_cli.grid.ray_executor import RayExecutor, request_of_a_cell
from evoconn_cli.grid.ray_worker import run_on_node
from evoconn_cli.grid.scheduler import Scheduler
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.training.opening import create_run
from evoconn_cli.training.train import train

pytestmark = pytest.mark.xdist_group("ray")

LONG = """
base: smoke
sets:
  long: {algo.population: 32, network.num_neurons: 300, algo.generations: 150, checkpoint.every: 1000000}
seeds: [0]
launch: {retry_pause: 0, cores_per_run: 1, environment: {EVOCONN_TEST_PACE: 0.04}}
"""
"""One cell that lasts long enough to be interrupted."""


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    "launch, nodes, use_gpus, request_",
    [
        (LaunchConfig(), [node(CPU=16.0), node(CPU=2.0)], True, (4, 0)),
        (LaunchConfig(), [node(CPU=2.0), node(CPU=3.0), node(alive=False, CPU=64.0)], True, (3, 0)),
        (LaunchConfig(), [node(CPU=16.0), node(CPU=8.0, GPU=4.0)], True, (1, 1)),
        (LaunchConfig(runs_per_device=4), [node(CPU=8.0, GPU=1.0)], True, (1, 0.25)),
        (LaunchConfig(), [node(CPU=8.0, GPU=1.0)], False, (4, 0)),
        (LaunchConfig(), [node(CPU=8.0), node(alive=False, GPU=1.0)], True, (4, 0)),
    ],
)
def test_a_cell_asks_for_its_share_of_a_gpu_or_for_its_cores(launch, nodes, use_gpus, request_):
    assert request_of_a_cell(launch, nodes, use_gpus) == request_


def test_a_cluster_without_cores_is_refused_and_not_waited_for():
    with pytest.raises(GridError, match="--num-cpus"):
        request_of_a_cell(LaunchConfig(), [node(GPU=0.0)], use_gpus=True)


SEEN = "import os, sys; open(f'{sys.argv[2]}/seen', 'w').write(os.environ['XLA_PYTHON_CLIENT_MEM_FRACTION'])"


def test_runs_that_share_a_gpu_share_its_memory(tmp_path):
    _, cells = load(tmp_path, LONG)
    launch = LaunchConfig(runs_per_device=4)
    assert run_on_node(cells[0], launch, on_gpu=True, program=(sys.executable, "-c", SEEN)) == 0
    assert (cells[0].path / "seen").read_text() == "0.225"


@pytest.fixture(scope="module")
def address():
    """Two nodes with a core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="not installed: pip install ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = cluster_utils.Cluster()
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
            yield cluster.address
        finally:
            cluster.shutdown()


def load(folder, text):
    path = write_grid(folder, text)
    grid, cells = read_grid(str(path)), load_cells(path, folder / "grid")
    for cell in cells:
        prepare(cell, grid.name)
    return grid, cells


def launch(address, grid, cells, program=LIGHT, note=lambda message: None):
    left = [cell for cell in cells if read_status(cell).state is not State.FINISHED]
    Scheduler(RayExecutor(grid.launch, note, address, program), grid.launch, note).run(left)


@contextmanager
def meanwhile(act):
    """Runs a function in a thread, while Ray's connection needs the main one; its error is raised here."""
    errors = []

    def run():
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def wait_for_generation(cell):
    metrics = cell.path / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and len(generations_of(cell)) >= 1, "the first generation")


def parent_of(process):
    with open(f"/proc/{process}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def assert_like_a_single_run(cell, path, make_engine):
    run = create_run(cell.config, path)
    train(run, quiet())
    assert_same_run(path, cell.path, make_engine)
    assert generations_of(cell) == list(range(1, cell.config.algo.generations + 1))


@pytest.mark.slow
def test_a_cell_whose_worker_is_killed_saves_and_goes_on(address, tmp_path, light):
    grid, (cell,) = load(tmp_path, LONG)

    def kill_worker():
        wait_for_generation(cell)
        os.kill(parent_of(parent_of(read_attempts(cell.path).attempts[0].pid)), signal.SIGKILL)

    with meanwhile(kill_worker):
        launch(address, grid, [cell])
    assert read_status(cell).state is State.FINISHED
    assert [attempt.exit_code for attempt in read_attempts(cell.path).attempts] == [75, 0]
    assert starts_of(cell)[1] > 0
    assert_like_a_single_run(cell, tmp_path / "single", light)


@pytest.mark.slow
def test_a_cell_that_is_killed_begins_again_and_one_that_fails_stops_no_other(address, tmp_path, light):
    grid, cells = load(tmp_path, LONG.replace("seeds: [0]", "seeds: [0, 1]").replace("{retry", "{retries: 1, retry"))
    killed, bad = cells
    (bad.path / "metrics.jsonl").mkdir()

    def kill_cell():
        wait_for_generation(killed)
        os.kill(read_attempts(killed.path).attempts[0].pid, signal.SIGKILL)

    with meanwhile(kill_cell):
        launch(address, grid, cells)
    assert read_status(killed).state is State.FINISHED and starts_of(killed) == [0, 0]
    assert_like_a_single_run(killed, tmp_path / "single", light)
    assert read_status(bad).state is State.FAILED and read_status(bad).attempts == 2


@pytest.mark.slow
def test_a_launcher_that_is_asked_to_end_lets_its_cells_save_and_the_next_one_goes_on(address, tmp_path, light):
    grid, (cell,) = load(tmp_path, LONG)
    notes = []

    def ask_to_end():
        wait_for_generation(cell)
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(ask_to_end):
        launch(address, grid, [cell], note=notes.append)
    assert read_status(cell).state is State.SAVED and read_attempts(cell.path).attempts[0].exit_code == 75
    assert "finish their generation and save" in notes[-2] and "is saved at generation" in notes[-1]
    launch(address, grid, [cell])
    assert len(starts_of(cell)) == 2 and starts_of(cell)[1] > 0
    assert_like_a_single_run(cell, tmp_path / "single", light)


LAUNCHER = """
import sys
from pathlib import Path
from grids import LIGHT, load_cells
from evoconn_cli.config.grid import read_grid
from evoconn_cli.grid.ray_executor import RayExecutor
from evoconn_cli.grid.scheduler import Scheduler
path, directory, address = sys.argv[1:]
launch = read_grid(path).launch
Scheduler(RayExecutor(launch, print, address, LIGHT), launch, print).run(load_cells(Path(path), Path(directory)))
"""


@pytest.mark.slow
def test_a_launcher_that_is_killed_leaves_cells_that_save_and_the_next_one_goes_on(address, tmp_path):
    grid, (cell,) = load(tmp_path, LONG)
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path / "tiny.yaml"), str(tmp_path / "grid"), address],
        cwd=SUPPORT,
    )
    wait_for_generation(cell)
    launcher.kill()
    launcher.wait()
    launch(address, grid, [cell])
    assert read_status(cell).state is State.FINISHED
    assert [attempt.exit_code for attempt in read_attempts(cell.path).attempts] == [75, 0]
    assert len(starts_of(cell)) == 2 and starts_of(cell)[1] > 0


@pytest.mark.slow
def test_a_grid_of_two_sets_and_two_seeds_is_like_single_runs(address, tmp_path):
    """With the real engine, and the command line that users have, on both nodes."""
    grid, cells = load(tmp_path, ONE_TASK)
    launch(address, grid, cells, program=PROGRAM)
    launch(address, grid, cells, program=PROGRAM)
    for number, cell in enumerate(cells):
        assert len(starts_of(cell)) == 1
        run = create_run(cell.config, tmp_path / f"single{number}")
        train(run, quiet())
        assert_same_run(run.directory.path, cell.path)


@pytest.mark.parametrize("own", [False, True], ids=["a cluster", "a Ray of its own"])
@pytest.mark.slow
def test_what_is_in_the_working_directory_is_imported_by_no_cell(address, tmp_path, own):
    """Ray puts the working directory of the launcher on the path of its workers."""
    folder = tmp_path / "here"
    folder.mkdir()
    write_grid(
        folder,
        "{base: smoke, sets: {a: {algo.population: 16, algo.generations: 1}}, seeds: [0], launch: {cores_per_run: 1}}",
    )
    command = [*PROGRAM, "launch-grid", "tiny.yaml", "--grid-dir", "grid", "--on", "ray"]
    environment = {**os.environ, "RAY_ADDRESS": "" if own else address}
    process = start(command, cwd=fill_with_modules(folder), env=environment, stdout=subprocess.PIPE, text=True)
    shown = process.communicate(timeout=300)[0]
    assert process.returncode == 0, shown
    (cell,) = load_cells(folder / "tiny.yaml", folder / "grid")
    assert read_status(cell).state is State.FINISHED and read_status(cell).attempts == 1


def test_a_ray_that_is_not_there_is_named(tmp_path):
    grid, cells = load(tmp_path, LONG)
    with pytest.raises(GridError, match="no Ray can be reached at 127.0.0.1:1"):
        launch("127.0.0.1:1", grid, cells)
