"""The folder that a machine without a network is given."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools import gpu_pack

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
INSTALLED = "jax flax optax orbax-checkpoint scipy PyYAML rich typer pillow networkx protobuf cloudpickle packaging"
PRESENT = [name.replace("-", "_").title() for name in gpu_pack.needed(INSTALLED.split(), (), VERSION)]
"""Written as nobody has to write them."""

USE_THE_PACK = """
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from packaging.utils import canonicalize_name

folder, present = sys.argv[1], {canonicalize_name(name) for name in sys.argv[2].split()}
names = packages_distributions()

class Bare(MetaPathFinder):
    # Hides what is installed here and not on the machine.
    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, [folder]) if "." not in name else None
        owners = {canonicalize_name(owner) for owner in names.get(name, [])}
        if spec is None and path is None and owners and not owners & present:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec

sys.meta_path.insert(0, Bare())
import benchmarks.gpu_check
import evoconn_cli
from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.devices import start_jax

assert evoconn_cli.__file__.startswith(folder) and benchmarks.__file__.startswith(folder)
engine = build_engine(load_config("laptop", ["engine.block=8"]), start_jax(1))
import brax
assert brax.__file__.startswith(folder)
print(engine.task.name, engine.task.observation_size)
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack") / "gpu-pack"
    gpu_pack.pack(gpu_pack.needed(["evoconn"], PRESENT, VERSION), folder, VERSION)
    return folder


def test_the_pack_has_what_the_machine_lacks_and_nothing_that_it_has(pack):
    packed = {path.name.partition("-")[0] for path in pack.glob("*.dist-info")}
    assert {"evoconn", "brax", "omegaconf", "gym", "trimesh"} <= packed
    assert not packed & {"jax", "numpy", "flax", "wandb", "mujoco", "matplotlib", "grpcio"}
    assert (pack / "evoconn_cli" / "presets" / "laptop.yaml").exists()
    assert sum(file.stat().st_size for file in pack.rglob("*")) < 60e6
    assert "PYTHONPATH=" in (pack / "README.txt").read_text()
    assert not list(pack.rglob("__pycache__"))


@pytest.mark.slow
def test_a_machine_that_has_only_the_rest_builds_an_engine_from_the_pack(pack, tmp_path):
    command = [sys.executable, "-P", "-c", USE_THE_PACK, str(pack), " ".join(PRESENT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["hopper", "11"], done.stderr


def test_a_folder_that_is_no_pack_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="is no pack"):
        gpu_pack.pack({}, tmp_path, VERSION)
    assert (tmp_path / "thesis.tex").exists()
