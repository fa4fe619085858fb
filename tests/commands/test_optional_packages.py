"""Commands where packages that only some of them need are not installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from saved_runs import save_run

from evoconn_cli.errors import first_line, missing_package

HIDE = """
import importlib.machinery
hidden = {"wandb", "tensorboardX", "mujoco", "matplotlib", "imageio_ffmpeg"}
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None if name.partition(".")[0] in hidden else find(name, path, target)
)
"""
"""Python runs a file `sitecustomize.py` on its path before anything else, in each process that a command starts too."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of a probe and of a Brax task."""
    folder = tmp_path_factory.mktemp("saved")
    save_run(folder / "probe")
    save_run(folder / "brax", "task.name=inverted_pendulum")
    return folder


@pytest.fixture
def bare(tmp_path):
    """Returns what `evoconn` says without these packages; its exit code comes first."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDE)
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}

    def evoconn(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "evoconn_cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return evoconn


@pytest.mark.slow
def test_a_training_says_once_what_it_does_without(bare, tmp_path):
    options = ["--config", "smoke", "--population", "16", "--generations", "2", "tracking.tensorboard=true"]
    code, said = bare("train", *options, "tracking.wandb=auto", "--run-dir", tmp_path / "run")
    assert code == 0, said
    assert said.count("wandb is not installed here: pip install wandb") == 1
    assert said.count("tensorboardX is not installed here: pip install tensorboardX") == 1
    assert not list((tmp_path / "run").glob("tensorboard/*"))


@pytest.mark.slow
def test_an_evaluation_needs_none_of_them(bare, runs, tmp_path):
    code, said = bare("evaluate", runs / "probe", "--episodes", "2", "--csv", tmp_path / "a.csv")
    assert code == 0, said
    assert (tmp_path / "a.csv").exists()


@pytest.mark.slow
def test_a_page_needs_none_of_them(bare, runs, tmp_path):
    code, said = bare("render", runs / "brax", "--steps", "3", "--out", tmp_path / "a.html")
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        ("evaluate probe --plot a.png --episodes 0", "matplotlib"),
        ("evaluate probe --perturb obs-noise=0,0.1 --curve a.png", "matplotlib"),
        ("export-connectivity probe --format png --out a.png", "matplotlib"),
        ("render brax --out a.png", "mujoco"),
        ("render brax --out a.mp4", "imageio-ffmpeg"),
    ],
)
def test_what_needs_one_says_how_to_install_it_before_it_begins(bare, runs, tmp_path, arguments, package):
    command, run, *options = arguments.split()
    code, said = bare(command, runs / run, *options)
    assert code == 1, said
    remedies = (f"pip install {package}", "pip install '.[export]'")
    assert "not installed" in said and package in said and any(remedy in said for remedy in remedies)
    assert "episode" not in said and not list(tmp_path.glob("a.*"))


def test_only_a_package_that_may_be_missing_is_one_that_is_missing():
    absent = ModuleNotFoundError("No module named 'matplotlib.figure'", name="matplotlib.figure")
    assert missing_package(absent) == first_line(absent) == "matplotlib is not installed here: pip install matplotlib"
    ours = ModuleNotFoundError("No module named 'evoconn_cli.drawing.canvsa'", name="evoconn_cli.drawing.canvsa")
    assert missing_package(ours) is None and "canvsa" in first_line(ours)
    assert missing_package(ImportError("libcuda.so.1 cannot be opened")) is None
    assert missing_package(ValueError("matplotlib")) is None
