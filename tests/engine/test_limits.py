"""What a container lets this process have of its machine, in control groups of both versions."""

from __future__ import annotations

import os

import pytest

from evoconn_cli import limits
from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.strategies import connectivity
from evoconn_cli.grid.devices import CoreGroups

GIB = 2**30
OWN_1 = "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n"
OWN_2 = "0::/a.slice/b.scope\n"

# own groups, files, cores' worth of time, bytes of memory
CASES = {
    "version 2": (
        OWN_2,
        {"a.slice/b.scope/cpu.max": "250000 100000", "a.slice/b.scope/memory.max": "1073741824"},
        2.5,
        GIB,
    ),
    "a group above": (OWN_2, {"a.slice/cpu.max": "300000 100000", "a.slice/b.scope/cpu.max": "max 100000"}, 3, None),
    "a namespace": ("0::/\n", {"cpu.max": "50000 100000", "memory.max": "1073741824"}, 0.5, GIB),
    "without limits": (OWN_2, {"a.slice/cpu.max": "max 100000", "a.slice/memory.max": "max"}, None, None),
    "version 1, only whose root the container sees": (
        OWN_1,
        {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
        | {"memory/memory.limit_in_bytes": "1073741824"},
        2,
        GIB,
    ),
    "version 1 without limits": (
        OWN_1,
        {"cpu/docker/abc/cpu.cfs_quota_us": "-1", "cpu/docker/abc/cpu.cfs_period_us": "100000"}
        | {"memory/docker/abc/memory.limit_in_bytes": "9223372036854771712"},
        None,
        None,
    ),
    "both": (
        "4:memory:/\n0::/x\n",
        {"unified/x/cpu.max": "100000 100000", "memory/memory.limit_in_bytes": str(GIB)},
        1,
        GIB,
    ),
    "nonsense": (
        OWN_2,
        {"a.slice/cpu.max": "", "a.slice/b.scope/cpu.max": "1 0", "a.slice/memory.max": "?"},
        None,
        None,
    ),
    "no control groups": ("", {}, None, None),
}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes control groups, on a machine of four cores and 64 GiB."""

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")

    monkeypatch.setattr(limits, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(limits, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 5, 6, 7}, raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**24}.get)
    return make


@pytest.mark.parametrize(("own", "files", "cpus", "memory"), CASES.values(), ids=CASES.keys())
def test_limits_are_those_of_the_narrowest_group(machine, own, files, cpus, memory):
    machine(own, files)
    assert limits.cpu_quota() == cpus
    assert limits.usable_memory() == (memory or 64 * GIB)
    assert len(limits.usable_cores()) == (4 if cpus is None else max(1, int(cpus)))


def test_cells_share_out_the_cores_of_the_quota(machine):
    machine(OWN_2, {"a.slice/cpu.max": "300000 100000"})
    assert [device.name for device in CoreGroups(1).all()] == ["core 4", "core 5", "core 6"]
    assert [device.name for device in CoreGroups(8).all()] == ["cores 4-6"]


@pytest.mark.parametrize(("memory", "held"), [(None, True), (GIB, False)])
def test_connections_are_held_where_there_is_memory_for_them(machine, monkeypatch, memory, held):
    """Half a GiB of them; what is not held is drawn again, and the run is the same."""
    machine(OWN_2, {"a.slice/memory.max": str(memory)} if memory else {})
    given = {}
    monkeypatch.setattr(connectivity, "make_connectivity", lambda config, **arguments: given.update(arguments))
    network = type("Network", (), {"shapes": {}, "num_parameters": 2**19, "wiring": 1.0})
    connectivity.make(load_config("paper", ["task.name=hopper", "algo.population=8192"]).algo, network)
    assert given["keeps_candidates"] is held
