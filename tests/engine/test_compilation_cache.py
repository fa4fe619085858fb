"""Compiled programs that are kept: harm to them costs a compilation, never a run."""

from __future__ import annotations

import os
import sys

import pytest
from small_disk import Disk
from started import start

_PROGRAM = """
from evoconn_cli.commands.terminal import mend_compilation_cache
from evoconn_cli.engine.devices import start_jax

mend_compilation_cache()
start_jax(1)
import jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.removeprefix("/jax/compilation_cache/")))
for name in ("first", "second"):
    double = lambda x: x + x
    double.__name__ = name
    assert int(jax.jit(double)(21)) == 42
print("hits", events.count("cache_hits"))
"""


def run(directory) -> list[str]:
    """Returns what a process prints that compiles two programs, kept in `directory`, or has them from there."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(directory)}
    del environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]
    streams = {"stdout": -1, "stderr": -2, "text": True}
    process = start([sys.executable, "-c", _PROGRAM], env=environment, **streams)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output.splitlines()


def entries(directory, name):
    return list(directory.glob(f"jit_{name}-*-cache"))


@pytest.mark.slow
def test_small_programs_are_kept_too(tmp_path):
    assert run(tmp_path / "cache") == ["hits 0"]
    assert len(entries(tmp_path / "cache", "first")) == len(entries(tmp_path / "cache", "second")) == 1
    assert run(tmp_path / "cache") == ["hits 2"]


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 100])
def test_what_cannot_be_read_is_replaced_without_a_word(tmp_path, left):
    run(tmp_path)
    (entry,) = entries(tmp_path, "first")
    size = entry.stat().st_size
    os.truncate(entry, left)
    assert run(tmp_path) == ["hits 1"]
    assert entry.stat().st_size == size
    assert run(tmp_path) == ["hits 2"]


@pytest.mark.slow
def test_a_directory_that_cannot_be_is_said_once(tmp_path):
    (tmp_path / "cache").touch()
    notice, hits = run(tmp_path / "cache")
    assert notice.startswith(f"Notice: compiled programs cannot be kept in {tmp_path / 'cache'} (FileExistsError: ")
    assert notice.endswith("): each start compiles again.")
    assert hits == "hits 0"


@pytest.mark.slow
def test_a_full_disk_is_said_once_and_what_it_left_is_replaced(tmp_path):
    disk = Disk(tmp_path / "disk", "1m")
    try:
        disk.fill()
        for _ in range(2):
            notice, hits = run(disk.path)
            assert "No space left on device" in notice
            assert hits == "hits 0"
        disk.empty()
        run(disk.path)
        assert run(disk.path) == ["hits 2"]
    finally:
        disk.unmount()


def test_other_warnings_are_shown_as_ever(tmp_path):
    process = start(
        [
            sys.executable,
            "-c",
            "import warnings\nfrom evoconn_cli.commands.terminal import mend_compilation_cache\n"
            "mend_compilation_cache()\nwarnings.warn('something else', stacklevel=1)",
        ],
        stdout=-1,
        stderr=-2,
        text=True,
    )
    output, _ = process.communicate(timeout=60)
    assert "UserWarning: something else" in output
