"""`kill -9` at random moments: what is on the disk is always a run that goes on as if nothing had happened."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SOAK
from light_engine import make_light_engine
from paths import SUPPORT
from whole_runs import SMALL, assert_same_run, evoconn, run_small


@pytest.mark.slow
def test_fifty_kills_leave_the_run_as_it_would_have_been(tmp_path):
    kills = 500 if SOAK else 50
    script = SUPPORT / "kill_many.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "killed"), str(kills), "0"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looks) > 0.8 * kills, "most were killed when there was something to lose"
    assert len({look["latest"] for look in looks}) > 0.5 * kills, "most had saved something before"
    for what in (".saving", ".deleting"):
        assert any(what in look["remains"] for look in looks), f"some were killed while {what}"
    assert_same_run(tmp_path / "straight", tmp_path / "killed", make_light_engine)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["conn_snn", "dense_snn", "gru", "lstm", "mlp"] if SOAK else ["conn_snn"])
def test_the_program_itself_killed_at_any_moment_goes_on_exactly(tmp_path, network):
    """As above with the engine of each network, which takes seconds to start: fifty times in a soak only."""
    kills = 50 if SOAK else 3
    overrides = [*SMALL, f"network.name={network}", "checkpoint.every=1", f"algo.generations={40 * kills}"]
    run_small(tmp_path / "straight", *overrides)
    dice = random.Random(0)
    process = evoconn("train", "--config", "smoke", "--run-dir", "killed", *overrides, cwd=tmp_path)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    for _ in range(kills):
        wait_for_lines(metrics, lines_in(metrics) + dice.randrange(1, 20), process)
        # From here the process writes checkpoints all the time; where it dies is up to the scheduler.
        process.kill()
        process.wait()
        process = evoconn("resume", "killed", cwd=tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_run(tmp_path / "straight", tmp_path / "killed")


def lines_in(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_for_lines(path: Path, number: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while lines_in(path) < number:
        assert process.poll() is None and time.monotonic() < end, "the run ended before, or stands still"
        time.sleep(0.01)
