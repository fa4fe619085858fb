"""`evoconn launch-grid` as a user runs it: to the end, killed and run again, watched, reported."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from grids import GONE, LIGHT, ONE_TASK, TINY, generations_of, load_cells, starts_of, write_grid
from typer.testing import CliRunner
from whole_runs import assert_same_run

from evoconn_cli.app import app
from evoconn_cli.config.registry import grid_names
from evoconn_cli.errors import EvoconnError
from evoconn_cli.grid.attempts import record_end, record_start
from evoconn_cli.grid.cells import Grid, open_grid, prepare
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.training.opening import create_run
from evoconn_cli.training.train import train

TWO = ONE_TASK.replace("seeds: [0, 1]", "seeds: [0]")
"""Two sets, one task, one seed."""


@pytest.fixture
def launch(tmp_path):
    """Starts the program in a folder of its own, whose locks nobody else uses, with the light engine."""

    def launch(*arguments: str, program=LIGHT, **kwargs) -> subprocess.Popen:
        environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(
            subprocess.Popen(
                [*program, "launch-grid", *arguments], cwd=tmp_path, env=environment, **{**streams, **kwargs}
            )
        )
        return started[-1]

    started: list[subprocess.Popen] = []
    yield launch
    for process in started:  # those of a test that failed; a launcher that is asked to end ends its cells
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=100)


def output_of(process) -> str:
    output, _ = process.communicate(timeout=200)
    return output


def invoke(*arguments):
    return CliRunner().invoke(app, ["launch-grid", *map(str, arguments)], env={"COLUMNS": "160"})


def single_run(cell, path, make_engine):
    """Trains what the cell is, alone and in this process."""
    from whole_runs import quiet

    run = create_run(cell.config, path)
    assert train(run, quiet(), make_engine=make_engine).finished


def wait_until_saved(cells, process) -> None:
    """Waits until every cell has saved something."""
    pause = threading.Event()
    while not all(read_status(cell).saved for cell in cells):
        assert process.poll() is None
        pause.wait(0.02)


def states(cells):
    return [read_status(cell).state for cell in cells]


@pytest.mark.slow
def test_a_grid_runs_to_its_end_as_single_runs_would_and_then_no_cell_twice(launch, tmp_path, light):
    grid = write_grid(tmp_path)
    cells = load_cells(grid, tmp_path / "runs" / "tiny")
    process = launch("tiny.yaml")
    output = output_of(process)
    assert process.returncode == 0, output
    assert states(cells) == [State.FINISHED] * 8 and "8 cells: 8 finished" in output
    for number, cell in enumerate(cells):
        assert generations_of(cell) == [1, 2, 3, 4] and starts_of(cell) == [0]
        single_run(cell, tmp_path / f"single{number}", light)
        assert_same_run(tmp_path / f"single{number}", cell.path, light)
    grid.write_text(TWO.replace("seeds: [0]", "seeds: [0, 7]"))
    process = launch("tiny.yaml")
    output = output_of(process)
    assert process.returncode == 0 and "4 cells: 4 finished" in output
    assert [starts_of(cell) for cell in cells] == [[0]] * 8
    assert len(list((tmp_path / "runs" / "tiny").glob("*/*/attempts.jsonl"))) == 10, "two more, and none lost"


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again_it_completes(launch, tmp_path, light):
    """The launcher is killed, and one of its cells; the other one goes on alone, and the next launcher waits for it."""
    text = TWO.replace("algo.generations: [4]", "algo.generations: [400]").replace("every: [2]", "every: [10]")
    text = text.replace("retry_pause: 0", "retry_pause: 0, environment: {EVOCONN_TEST_PACE: 0.02}")
    cells = load_cells(write_grid(tmp_path, text), tmp_path / "runs" / "tiny")
    first = launch("tiny.yaml", stdout=subprocess.DEVNULL)
    wait_until_saved(cells, first)
    pids = [read_status(cell).last_attempt.pid for cell in cells]
    first.kill()
    first.wait()
    os.kill(pids[0], signal.SIGKILL)
    again = launch("tiny.yaml")
    output = output_of(again)
    assert again.returncode == 0 and "2 cells: 2 finished" in output
    for cell in cells:
        assert generations_of(cell) == list(range(1, 401))
    assert starts_of(cells[0])[1] > 0, "from a checkpoint"
    assert len(starts_of(cells[1])) == 1, "it was let alone"


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(launch, tmp_path):
    text = TWO.replace("algo.generations: [4]", "algo.generations: [1000000]")
    cells = load_cells(write_grid(tmp_path, text), tmp_path / "runs" / "tiny")
    process = launch("tiny.yaml")
    wait_until_saved(cells, process)
    process.send_signal(signal.SIGINT)
    output = output_of(process)
    assert process.returncode == 75 and states(cells) == [State.SAVED] * 2
    assert "2 cells: 2 saved" in output and "Ctrl-C again" in output


@pytest.mark.slow
def test_the_real_engine_gives_the_same_in_a_grid(launch, tmp_path):
    from evoconn_cli.engine.build import build_engine

    (cell, _) = load_cells(write_grid(tmp_path, TWO), tmp_path / "runs" / "tiny")
    process = launch("tiny.yaml", program=(sys.executable, "-m", "evoconn_cli"))
    assert process.wait() == 0, output_of(process)
    process.stdout.close()
    single_run(cell, tmp_path / "single", build_engine)
    assert_same_run(tmp_path / "single", cell.path)


# What is shown, from files alone


@pytest.fixture
def grid(tmp_path) -> Grid:
    """A grid of which some cells have got somewhere."""
    text = TINY + "published: {source: a paper, small: {probe_sign: 12.5}}\n"
    path = write_grid(tmp_path, text)
    opened = open_grid(str(path), tmp_path / "grid")
    for number, cell in enumerate(opened.cells[:5]):
        prepare(cell, "tiny")
        record_start(cell.path, f"gpu {number}", 0, GONE)
        lines = [
            {
                "generation": g,
                "eval_fitness": float(number + g),
                "env_steps": 10 * g,
                "seconds": 1.0,
                "elapsed": 36.0 * g,
            }
            for g in range(1, 5)
        ]
        (cell.path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        if number < 3:
            (cell.path / "checkpoints" / "4").mkdir(parents=True)
            record_end(cell.path, 0, GONE)
        elif number == 3:
            (cell.path / "log.txt").write_text("a line\n\nError: the disk is full\n")
            record_end(cell.path, 1, GONE)
    return opened


def options_of(grid, *more):
    return [str(grid.directory.parent / "tiny.yaml"), "--grid-dir", str(grid.directory), *more]


def test_status_shows_each_cell(grid):
    shown = invoke(*options_of(grid, "--status")).output
    rows = [line.split() for line in shown.splitlines()]
    assert [*rows[2][:3], rows[2][5], rows[2][6]] == [grid.cells[0].group, "0", "finished", "4/4", "4.0"]
    assert rows[5][2] == rows[6][2] == "failed" and rows[7][2] == "waiting"
    assert "8 cells: 3 finished, 2 failed, 3 waiting" in shown


def test_a_dry_run_shows_what_would_run_where_and_writes_nothing(grid):
    before = sorted(grid.directory.rglob("*"))
    shown = invoke(*options_of(grid, "--dry-run", "--devices", "cpu")).output
    assert "would run on" in shown and "core" in shown.splitlines()[5] and "core" not in shown.splitlines()[2]
    assert sorted(grid.directory.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", grid_names())
def test_published_grids_run_dry(name, tmp_path):
    done = invoke(name, "--dry-run", "--devices", "cpu", "--grid-dir", tmp_path)
    shown = "0 of 60 trials" if name == "ec_search" else " waiting"
    assert done.exit_code == 0 and shown in done.output and list(tmp_path.iterdir()) == []
    assert "Expected: at most about" in done.output or not name.startswith("ec_")


def test_cells_that_have_failed_too_often_end_the_command_with_their_last_words(grid):
    options = options_of(grid, "launch.retries=0", "--devices", "cpu")
    for cell in grid.cells:
        if read_status(cell).state is not State.FAILED:
            (cell.path / "checkpoints" / "4").mkdir(parents=True, exist_ok=True)
            prepare_config(cell)
    done = invoke(*options)
    assert done.exit_code == 1
    assert f"{grid.cells[3].name} has failed; {grid.cells[3].path / 'log.txt'} ends with:" in done.output
    assert "  Error: the disk is full" in done.output
    assert starts_of(grid.cells[3]) == [0]


FINISH = "import sys, pathlib; (pathlib.Path(sys.argv[2]) / 'checkpoints' / '4').mkdir(parents=True)"


@pytest.mark.slow
def test_what_has_failed_too_often_is_tried_again_when_asked(grid, tmp_path, monkeypatch):
    monkeypatch.setattr("evoconn_cli.grid.cell_process.PROGRAM", (sys.executable, "-c", FINISH))
    monkeypatch.setattr("evoconn_cli.grid.device_locks.lock_folder", lambda: tmp_path / "locks")
    options = options_of(grid, "launch.retries=0", "--devices", "cpu")
    done = invoke(*options)
    assert done.exit_code == 1 and "2 failed" in done.output and "6 finished" in done.output
    done = invoke(*options, "--retry-failed")
    assert done.exit_code == 0 and "8 cells: 8 finished" in done.output


def prepare_config(cell):
    from evoconn_cli.config.loading import write_config

    write_config(cell.config, cell.path / "config.yaml")


def test_a_report_has_a_table_curves_and_files(grid):
    done = invoke(*options_of(grid, "--report"))
    assert done.exit_code == 0, done.output
    text = (grid.directory / "REPORT.md").read_text()
    assert "| small | probe_sign | 2/2 | 3.0 | 2.5 to 3.5 | 12.5 | 5.0 | 40 | 2 min 24 s |" in text
    assert "| small | probe_bias | 1/2 | 5.0 | 4.5 to 5.5 | – | 7.0 |" in text
    assert "Published: a paper." in text and "3 of 8 runs are finished" in text
    assert f"- `{grid.cells[3].name}`, failures: 1;" in text and "![Learning curves](learning-curves.png)" in text
    assert (grid.directory / "learning-curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (grid.directory / "learning-curves.svg").read_text()
    rows = list(csv.DictReader((grid.directory / "results.csv").read_text().splitlines()))
    assert len(rows) == 8 and rows[1]["final_fitness"] == "3.5" and rows[1]["state"] == "finished"
    assert rows[7]["final_fitness"] == "" and rows[0]["algo.generations"] == "4"
    document = json.loads((grid.directory / "results.json").read_text())
    assert document["groups"][0]["iqm"] == 3.0 and document["groups"][0]["published"] == 12.5
    assert document["groups"][3]["iqm"] is None and len(document["groups"][0]["runs"]) == 2


def test_files_that_cannot_be_read_cost_a_report_no_other_cell(grid):
    (grid.cells[0].path / "metrics.jsonl").unlink()
    (grid.cells[0].path / "metrics.jsonl").mkdir()
    (grid.cells[1].path / "config.yaml").write_text("nothing: of ours\n")
    done = invoke(*options_of(grid, "--report"))
    assert done.exit_code == 0, done.output
    assert f"{grid.directory}/learning-curves.svg" in done.output
    rows = list(csv.DictReader((grid.directory / "results.csv").read_text().splitlines()))
    assert rows[0]["final_fitness"] == "" and rows[1]["final_fitness"] == "3.5"


def test_a_watched_grid_is_shown_until_all_cells_are_finished(grid):
    for cell in grid.cells:
        (cell.path / "checkpoints" / "4").mkdir(parents=True, exist_ok=True)
    assert "8 cells: 8 finished" in invoke(*options_of(grid, "--status", "--watch")).output


def test_a_report_of_nothing_says_so(tmp_path):
    done = invoke(write_grid(tmp_path), "--grid-dir", tmp_path / "grid", "--report")
    assert isinstance(done.exception, EvoconnError)
    assert "has an evaluation fitness yet" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    {
        ("--on", "slrm"): "'slrm' is not one of 'local', 'slurm', 'ray'",
        ("--watch",): "--watch goes with --status",
        ("--status", "--report"): "one at a time",
        ("--on", "ray", "--devices", "0"): "--devices goes with --on local",
        ("algo.eps=1",): "only keys of launch",
        ("--status", "--retry-failed"): "--retry-failed does nothing with --status",
        ("--dry-run", "--retry-failed"): "--retry-failed does nothing with --dry-run",
        ("--report", "--devices", "cpu"): "--devices does nothing with --report",
        ("--on", "slurm", "--runs-per-device", "2"): "--runs-per-device is for GPUs",
        ("--devices", "cpu", "--runs-per-device", "2"): "--runs-per-device is for GPUs",
        ("launch.retrys=1",): "'launch.retries'",
    }.items(),
)
def test_wrong_options_are_named(tmp_path, options, message):
    done = invoke(write_grid(tmp_path), "--grid-dir", tmp_path / "grid", *options)
    assert done.exit_code != 0 and message in f"{done.output} {done.exception}"
    assert not (tmp_path / "grid").exists()
