"""What all tests share. It runs before JAX starts: JAX reads its settings once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_HERE = Path(__file__).parent
os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Kept between sessions, and shared with the processes that tests start: a compiled Brax step costs seconds, and the
# hundred small programs of a test a few more.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_HERE / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from started import kill_what_is_left  # noqa: E402

from evoconn_cli.engine.devices import set_xla_flags  # noqa: E402

set_xla_flags()
NUM_DEVICES = 4
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)

SOAK = os.environ.get("EVOCONN_SOAK") == "1"
"""Whether tests take their long form: `make soak`."""

ALL = os.environ.get("EVOCONN_ALL") == "1"
"""Whether a test that is skipped has failed: continuous integration has all that tests need, but for norse."""

# The same examples in every session: a test that fails on one machine fails on all of them. A soak looks for new ones.
hypothesis.settings.register_profile("evoconn", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("soak" if SOAK else "evoconn")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, though EVOCONN_ALL=1: {call.excinfo.value}"
    return report


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    kill_what_is_left()


@pytest.fixture
def light(monkeypatch):
    """Trainings in this process take the light engine, which need not be compiled."""
    from light_engine import make_light_engine

    monkeypatch.setattr("evoconn_cli.training.train.build_engine", make_light_engine)
    return make_light_engine


@pytest.fixture(scope="session")
def golden():
    """Loads the arrays of `tests/golden/NAME.npz`."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(_HERE / "golden" / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def brax_task():
    """Makes a Brax task without an episode limit, once a session."""
    from evoconn_cli.tasks.brax_v1 import make_brax_v1_task

    return make_brax_v1_task


@pytest.fixture
def evoconn(monkeypatch, capsys):
    """Runs `evoconn` in this process; returns exit code, standard output and standard error."""
    from evoconn_cli.app import main

    def run(*arguments: str | Path):
        monkeypatch.setattr(sys, "argv", ["evoconn", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return run


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """Hides the W&B account and settings of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
