"""Which GPUs a launcher finds, may use, and finds idle: on an NVML of eight GPUs that is not there."""

from __future__ import annotations

import sys

import pytest
from fake_nvml import FakeNvml
from grids import load_cells, write_grid

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.grid import device_locks, devices
from evoconn_cli.grid.attempts import read_attempts
from evoconn_cli.grid.cells import prepare
from evoconn_cli.grid.devices import CoreGroups, IdleGpus, choose_devices
from evoconn_cli.grid.local_executor import LocalExecutor
from evoconn_cli.grid.scheduler import Scheduler


@pytest.fixture
def nvml():
    return FakeNvml()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def choose(nvml, notes, monkeypatch):
    monkeypatch.setattr(devices, "_BETWEEN_SAMPLES", 0)

    def choose(names=None, *, runs=1, has_jax=True, has_driver=True, **environment):
        for variable in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(devices, "has_jax_for_gpus", lambda: has_jax)
        launch = LaunchConfig(runs_per_device=runs, cores_per_run=1)
        return choose_devices(launch, names, nvml if has_driver else None, notes.append)

    return choose


def names(devices):
    return [device.name for device in devices]


def numbers(devices):
    return [int(device.name.split()[1]) for device in devices]


def test_a_gpu_with_a_process_or_much_memory_in_use_is_not_idle(nvml, choose, notes):
    nvml.processes = {"GPU-1": [1], "GPU-4": [2]}
    nvml.memory = {"GPU-2": 40 * 2**30, "GPU-3": 600 * 2**20}
    gpus = choose()
    assert numbers(gpus.all()) == list(range(8))
    assert numbers(gpus.idle()) == [0, 3, 5, 6, 7] and notes == []


def test_what_a_driver_reserves_is_not_in_use(nvml, choose):
    nvml.reserved, nvml.memory = 2**30, {"GPU-1": 2**30}
    assert numbers(choose("0,1,2").idle()) == [0, 2]


def test_one_that_was_busy_becomes_idle_and_one_that_is_held_is_not_asked(nvml, choose, notes):
    nvml.processes = {"GPU-1": [1, 0]}
    gpus = choose("0,1,2")
    assert numbers(gpus.idle()) == [0, 2]
    assert numbers(gpus.idle({gpus.all()[0]})) == [1, 2]


def test_several_samples_must_agree(nvml, choose, notes):
    nvml.processes = {"GPU-5": [0, 0, 1, 0]}
    gpus = choose()
    assert 5 not in numbers(gpus.idle()) and nvml.samples == 24
    assert 5 in numbers(gpus.idle())


def test_failing_gpus_are_skipped_with_a_notice(nvml, choose, notes):
    nvml.failing = {"GPU-0"}
    gpus = choose()
    assert numbers(gpus.all()) == [1, 2, 3, 4, 5, 6, 7] and notes == ["gpu 0 is left out: GPU is lost."]
    nvml.failing = {"GPU-3"}
    assert 3 not in numbers(gpus.idle()) and 3 not in numbers(gpus.idle())
    assert notes[1:] == ["gpu 3 is left out: GPU is lost."], "once"
    nvml.failing = set()
    assert 3 in numbers(gpus.idle())


def test_instances_of_mig_are_devices_of_their_own(nvml, choose, notes):
    nvml.mig = {2: [0, 3], 6: []}
    nvml.processes = {"MIG-20": [1]}
    gpus = choose()
    assert names(gpus.all())[2:4] == ["gpu 2 mig 0", "gpu 2 mig 3"] and len(gpus.all()) == 8
    assert names(gpus.idle())[2:3] == ["gpu 2 mig 3"]
    assert gpus.all()[3].environment["CUDA_VISIBLE_DEVICES"] == "MIG-23"


@pytest.mark.parametrize(
    ("variable", "shown"),
    {
        "3,1": [3, 1],
        "GPU-5,0": [5, 0],
        "0,0": [0],
        "1,-1,2": [1],
        "1,9,2": [1],
        "MIG-23": [2],
        "GPU-2": [2, 2],
        "2": [2, 2],
    }.items(),
)
def test_an_inherited_cuda_visible_devices_is_respected(nvml, choose, variable, shown):
    nvml.mig = {2: [0, 3]}
    assert numbers(choose(CUDA_VISIBLE_DEVICES=variable).all()) == shown


def test_devices_are_named_by_number_or_uuid_among_those_that_are_visible(choose):
    assert numbers(choose("4,GPU-1").all()) == [4, 1]
    assert numbers(choose("4", CUDA_VISIBLE_DEVICES="GPU-4,GPU-5").all()) == [4]
    with pytest.raises(ConfigError, match=r"no GPU '4'; visible are: 5"):
        choose("4", CUDA_VISIBLE_DEVICES="5")
    with pytest.raises(ConfigError, match=r"no GPU 'x'"):
        choose("x")


def test_cores_are_used_where_no_gpu_can_be(nvml, choose, notes):
    assert isinstance(choose(CUDA_VISIBLE_DEVICES=""), CoreGroups)
    assert isinstance(choose("cpu"), CoreGroups) and notes == []
    assert isinstance(choose(has_jax=False), CoreGroups) and "pip install 'jax[cuda13]'" in notes[0]
    with pytest.raises(ConfigError, match="pip install"):
        choose("0", has_jax=False)
    nvml.count = 0
    assert isinstance(choose(), CoreGroups)
    with pytest.raises(ConfigError, match="no GPU '0'"):
        choose("0", has_driver=False)


def test_runs_that_share_a_gpu_share_its_memory(choose):
    device = choose(runs=3).all()[0]
    assert device.capacity == 3 and device.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.300"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in choose().all()[0].environment


def test_cores_are_dealt_in_groups():
    assert names(CoreGroups(4, cores=[0, 1, 2, 3, 8, 9, 10, 12, 14]).all()) == ["cores 0-3", "cores 8-10,12"]
    assert names(CoreGroups(4, cores=[5, 6]).all()) == ["cores 5-6"]
    assert [device.cores for device in CoreGroups(1, cores=[5, 6]).all()] == [(5,), (6,)]


SAVES = """
import os, sys
from pathlib import Path
from evoconn_cli.grid.attempts import record_end, record_start
cell = Path(sys.argv[2])
record_start(cell, os.environ["EVOCONN_CELL_PLACE"] + " " + os.environ["CUDA_VISIBLE_DEVICES"], 0)
(cell / "checkpoints" / "4").mkdir(parents=True)
record_end(cell, 0)
"""


def test_the_pool_uses_what_is_idle_and_nothing_else(nvml, choose, notes, tmp_path, monkeypatch):
    nvml.processes = {"GPU-0": [1], "GPU-3": [1]}
    nvml.failing = {"GPU-1"}
    nvml.mig = {2: [0]}
    nvml.memory = {f"GPU-{index}": 2**34 for index in (4, 5, 6)}
    gpus = choose()
    assert isinstance(gpus, IdleGpus)
    cells = load_cells(write_grid(tmp_path), tmp_path / "grid")
    for cell in cells:
        prepare(cell, "tiny")
    monkeypatch.setattr(device_locks, "lock_folder", lambda: tmp_path / "locks")
    executor = LocalExecutor(LaunchConfig(), gpus, notes.append, [sys.executable, "-c", SAVES])
    scheduler = Scheduler(executor, LaunchConfig(), notes.append)
    assert scheduler.plan(cells) == ["gpu 2 mig 0", "gpu 7"] + ["next free"] * 6
    scheduler.run(cells)
    used = {read_attempts(cell.path).attempts[0].place for cell in cells}
    assert used == {"gpu 2 mig 0 MIG-20", "gpu 7 GPU-7"}
