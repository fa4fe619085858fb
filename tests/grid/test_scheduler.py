"""The scheduler on this machine: what starts where, signals, failures, and that nothing runs twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from grids import USABLE_CORES, load_cells, starts_of, write_grid
from started import start

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import EvoconnError
from evoconn_cli.grid import device_locks, local_executor
from evoconn_cli.grid.attempts import read_attempts
from evoconn_cli.grid.cells import prepare
from evoconn_cli.grid.device_locks import release, take_locks
from evoconn_cli.grid.devices import CoreGroups, LocalDevice
from evoconn_cli.grid.local_executor import LocalExecutor
from evoconn_cli.grid.scheduler import Ended, Executor, Scheduler
from evoconn_cli.grid.states import State, read_status

QUICK = LaunchConfig(retries=1, retry_pause=0.0, cores_per_run=1)

STAND_IN = """
import json, os, signal, sys, time
signal.alarm(60)
from pathlib import Path
cell = Path(sys.argv[2])
from evoconn_cli.errors import EvoconnError
from evoconn_cli.grid.attempts import record_end, record_start
saved = max((int(path.name) for path in (cell / "checkpoints").glob("*")), default=0)
record_start(cell, os.environ["EVOCONN_CELL_PLACE"], saved)
shown = ("CUDA_VISIBLE_DEVICES", "EVOCONN_CELL_CORES", "XLA_PYTHON_CLIENT_MEM_FRACTION", "OWN")
(cell / "seen.json").write_text(json.dumps({name: os.environ.get(name) for name in shown}))
def save(generation):
    (cell / "checkpoints" / str(generation)).mkdir(parents=True)
"""
"""A program in place of `evoconn`: what it does then, each test says. It ends after a minute at the latest."""


class FixedDevices:
    """Devices that are always idle."""

    def __init__(self, *devices: LocalDevice) -> None:
        self.devices = list(devices)

    def all(self):
        return self.devices

    def idle(self, held=frozenset()):
        return [device for device in self.devices if device not in held]


GPU = LocalDevice("gpu 7", ("GPU-7",), {"CUDA_VISIBLE_DEVICES": "GPU-7"}, capacity=2)


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    """Returns the folder of the locks, which belongs to the test."""
    folder = tmp_path / "locks"
    monkeypatch.setattr(device_locks, "lock_folder", lambda: folder)
    return folder


@pytest.fixture
def cells(tmp_path):
    cells = load_cells(write_grid(tmp_path), tmp_path / "grid")
    for cell in cells:
        prepare(cell, "tiny")
    return cells


def run_cells(cells, program, notes=None, launch=QUICK, devices=None):
    """Runs cells to their end; returns those that were left out."""
    note = [].append if notes is None else notes.append
    executor = LocalExecutor(launch, devices or FixedDevices(GPU), note, program)
    return Scheduler(executor, launch, note).run(cells)


@pytest.fixture
def run(tmp_path):
    """Runs cells with a program that goes on after `STAND_IN`; returns the notes."""

    def run(cells, program, launch=QUICK, devices=None):
        script = tmp_path / "program.py"
        script.write_text(STAND_IN + program)
        notes = []
        run_cells(cells, [sys.executable, str(script)], notes, launch, devices)
        return notes

    return run


def states(cells):
    return [read_status(cell).state for cell in cells]


def test_a_process_sees_its_device_and_the_grids_variables(cells, run):
    launch = LaunchConfig(environment={"OWN": "1", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".2"})
    run(cells[:1], "save(4)", launch)
    seen = json.loads((cells[0].path / "seen.json").read_text())
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-7" and seen["OWN"] == "1"
    assert seen["XLA_PYTHON_CLIENT_MEM_FRACTION"] == ".2", "the grid file has the last word"
    assert states(cells[:1]) == [State.FINISHED] and read_status(cells[0]).place == "gpu 7"


@pytest.mark.slow
def test_one_bad_cell_is_tried_again_and_never_stops_the_others(cells, run):
    notes = run(cells, f"sys.exit('no luck') if {cells[2].id!r} in str(cell) else save(4)")
    bad = [cell for cell in cells if cell.id == cells[2].id]
    assert [cell for cell in cells if read_status(cell).state is State.FINISHED] == [c for c in cells if c not in bad]
    for cell in bad:
        assert read_status(cell).attempts == 2, "as often as retries allow"
        assert sum(cell.name in note and "no luck" in note for note in notes) == 2
    assert sum("not retried" in note for note in notes) == len(bad)


def test_a_program_that_cannot_even_start_is_a_failure_too(cells):
    run_cells(cells[:1], [sys.executable, "-c", "import nowhere"])
    status = read_status(cells[0])
    assert (status.state, status.attempts) == (State.FAILED, 2)
    assert "nowhere" in status.log.read_text()


def test_a_cell_whose_directory_is_gone_does_not_stop_the_others(cells, run):
    shutil.rmtree(cells[0].path)
    notes = run(cells[:2], "save(4)")
    assert states(cells[:2]) == [State.WAITING, State.FINISHED]
    assert any("cannot be started" in note and "No such file" in note for note in notes)


def test_a_cell_whose_attempts_cannot_be_recorded_does_not_stop_the_others(cells, tmp_path):
    (cells[0].path / "attempts.jsonl").mkdir()
    script = tmp_path / "program.py"
    script.write_text(STAND_IN + "save(4)")
    left_out = run_cells(cells[:2], [sys.executable, str(script)])
    assert list(left_out) == [cells[0]] and "cannot write" in left_out[cells[0]]
    assert states(cells[:2]) == [State.WAITING, State.FINISHED]


def test_what_another_launcher_has_finished_is_not_started(cells, run):
    (cells[0].path / "checkpoints" / "4").mkdir(parents=True)
    run(cells[:2], "save(4)")
    assert [starts_of(cell) for cell in cells[:2]] == [[], [0]]


class FailingDevices(FixedDevices):
    """Devices of which the first can be had, and then none can be looked for any more."""

    def idle(self, held=frozenset()):
        if held:
            raise EvoconnError("no more")
        return self.devices


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nobody waits for the process
def test_an_error_of_the_launcher_leaves_its_cells_running(cells, run, monkeypatch):
    monkeypatch.setattr(local_executor, "_LOOK_AGAIN", 0.1)
    one = LocalDevice("gpu 7", ("GPU-7",))
    with pytest.raises(EvoconnError, match="no more"):
        run(cells[:2], "while not (cell / 'go').exists(): time.sleep(0.01)\nsave(4)", devices=FailingDevices(one))
    (cells[0].path / "go").touch()
    os.wait()  # init does that once a launcher has ended; until then the cell's number is taken
    assert read_status(cells[0]).state is State.FINISHED


class CountingDevices(FixedDevices):
    """Devices that count how often they were taken."""

    taken = 0

    def idle(self, held=frozenset()):
        found = super().idle(held)
        self.taken += bool(found)
        return found


def test_a_device_on_which_a_failed_cell_was_is_given_back_until_that_is_tried_again(cells, run):
    devices = CountingDevices(GPU)
    run(cells[:1], "sys.exit(1)", LaunchConfig(retries=1, retry_pause=0.3), devices)
    assert devices.taken == 2 and starts_of(cells[0]) == [0, 0]


def test_all_users_can_lock_a_device_whatever_their_umask(locks):
    before = os.umask(0o077)
    try:
        files = take_locks(["GPU-1"])
    finally:
        os.umask(before)
    assert files is not None
    release(files)
    assert (locks / "GPU-1.lock").stat().st_mode & 0o777 == 0o644
    assert locks.stat().st_mode & 0o7777 == 0o1777


def test_where_locks_cannot_be_made_nothing_waits_for_ever(locks):
    locks.write_text("a file in the way")
    with pytest.raises(EvoconnError, match="TMPDIR"):
        take_locks(["GPU-1"])


def test_what_ends_with_75_goes_on(cells, run):
    run(cells[:2], "save(saved + 1)\nif saved < 3: record_end(cell, 75); sys.exit(75)")
    for cell in cells[:2]:
        assert starts_of(cell) == [0, 1, 2, 3] and read_status(cell).state is State.FINISHED


def test_killed_workers_are_started_again_as_long_as_they_get_further(cells, run):
    run(cells[:1], "save(saved + 1)\nif saved < 3: os.kill(os.getpid(), 9)", LaunchConfig(retries=0, retry_pause=0))
    assert starts_of(cells[0]) == [0, 1, 2, 3] and states(cells[:1]) == [State.FINISHED]


WAIT_FOR_ANOTHER = """
(cell / "here").touch()
others = [cell.parent / "seed0" / "here", cell.parent / "seed1" / "here"]
while not all(other.exists() for other in others): time.sleep(0.01)
save(4)
"""


def test_runs_share_a_device_as_far_as_it_has_room(cells, run):
    run(cells[:2], WAIT_FOR_ANOTHER)
    assert states(cells[:2]) == [State.FINISHED] * 2


def test_a_device_with_room_for_one_runs_one_at_a_time(cells, run):
    run(cells[:4], "save(4)\nrecord_end(cell, 0)", devices=CoreGroups(1, cores=USABLE_CORES[:1]))
    (first, second, third, fourth) = [read_attempts(cell.path).attempts[0] for cell in cells[:4]]
    assert first.ended < second.started and second.ended < third.started and third.ended < fourth.started


UNTIL_TOLD = """
def end(*_):
    save(3)
    record_end(cell, 75)
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
(cell / "here").touch()
while True: time.sleep(0.01)
"""


def signal_when(cell, file, *numbers):
    """Sends signals to this process once a file is there, and after each other once the first has an effect."""

    def send_when(file, number):
        pause = threading.Event()
        for _ in range(6000):  # no longer than the programs last
            if (cell.path / file).exists():
                return os.kill(os.getpid(), number)
            pause.wait(0.01)

    def wait():
        send_when(file, numbers[0])
        for number in numbers[1:]:
            send_when("told", number)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_one_signal_lets_the_running_cells_save_and_starts_no_others(cells, run, number):
    signal_when(cells[0], "here", number)
    notes = run(cells, UNTIL_TOLD, devices=CoreGroups(1, cores=USABLE_CORES[:1]))
    assert states(cells) == [State.SAVED] + [State.WAITING] * 7
    assert any("Ctrl-C again" in note for note in notes)


DEAF = """
signal.signal(signal.SIGTERM, lambda *_: (cell / "told").touch())
(cell / "here").touch()
while True: time.sleep(0.01)
"""


def test_a_second_ctrl_c_quits_and_that_is_no_failure(cells, run):
    signal_when(cells[0], "here", signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(cells[:1], DEAF)
    status = read_status(cells[0])
    assert (status.state, status.failures, status.attempts) == (State.WAITING, 0, 1)


class SlowStartExecutor(Executor):
    """A process that fails before it has begun its attempt, because it is asked to end meanwhile."""

    def __init__(self):
        self.cells, self.asked = [], False

    def plan(self, cells):
        return ["here"] * len(cells)

    def start(self, cell, saved):
        self.cells.append(cell)
        os.kill(os.getpid(), signal.SIGTERM)
        return "here"

    def wait(self):
        return [Ended(self.cells.pop(), 1)] if self.asked and self.cells else []

    def ask_to_end(self, cell):
        self.asked = True


def test_a_cell_that_is_asked_to_end_before_it_has_begun_has_not_failed(cells):
    assert Scheduler(SlowStartExecutor(), QUICK, print).run(cells[:2]) == {}
    status = read_status(cells[0])
    assert (status.state, status.failures, status.last_attempt.exit_code) == (State.WAITING, 0, 130)
    assert read_status(cells[1]).attempts == 0


def test_two_launchers_do_not_use_a_device_at_the_same_time(cells):
    notes = []
    files = take_locks(GPU.locks)
    assert files is not None
    assert not LocalExecutor(QUICK, FixedDevices(GPU), notes.append).has_room() and "no idle device" in notes[0]
    release(files)
    executor = LocalExecutor(QUICK, FixedDevices(GPU), notes.append, [sys.executable, "-c", "pass"])
    for cell in cells[:2]:
        assert executor.has_room() and executor.start(cell, 0) == "gpu 7"
    assert not executor.has_room()
    ended = executor.wait()
    while not ended:
        ended = executor.wait()
    assert executor.has_room() and take_locks(GPU.locks) is None
    while len(ended) < 2:
        ended += executor.wait()
    executor.release_unused()
    files = take_locks(GPU.locks)
    assert files is not None
    release(files)


def test_all_locks_of_a_device_are_taken_or_none():
    one = take_locks(["core-1"])
    assert one is not None and take_locks(["core-0", "core-1"]) is None
    zero = take_locks(["core-0"])
    assert zero is not None
    release([*one, *zero])


def test_the_lock_of_a_device_lasts_as_long_as_the_cell_that_runs_on_it():
    files = take_locks(["GPU-1"])
    assert files is not None
    orphan = start([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=files)
    release(files)
    assert take_locks(["GPU-1"]) is None
    orphan.communicate(b"\n")
    files = take_locks(["GPU-1"])
    assert files is not None
    release(files)
