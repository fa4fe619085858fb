"""What a wheel holds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_a_wheel_has_every_file_of_the_package_every_preset_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for file in (ROOT / "evoconn_cli").rglob("*"):
        assert file.is_dir() or "__pycache__" in file.parts or str(file.relative_to(ROOT)) in names
    for preset in (ROOT / "configs").rglob("*.yaml"):
        assert f"evoconn_cli/presets/{preset.relative_to(ROOT / 'configs')}" in names
    for file in (ROOT / "zoo").glob("*/*"):
        assert f"evoconn_cli/{file.relative_to(ROOT)}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "configs", "zoo"))]


@pytest.mark.slow
def test_presets_and_the_zoo_are_found_in_an_installed_package(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "from evoconn_cli.config.loading import load_config\n"
        "from evoconn_cli.config.registry import config_dir\n"
        "print(config_dir())\n"
        "print(load_config('laptop').task.name)\n"
        "from pathlib import Path\n"
        "from evoconn_cli.export.bundle.reading import read_bundle, verify_bundle\n"
        "from evoconn_cli.runs.listing import named_run\n"
        "hopper = named_run(Path('zoo:hopper'))\n"
        "print(hopper, read_bundle(hopper).connectome.config.task.name, 'spikes in' in verify_bundle(hopper))\n"
    )
    # -P keeps the current directory, the checkout, out of the path.
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    package = tmp_path / "evoconn_cli"
    expected = [str(package / "presets"), "hopper", str(package / "zoo" / "hopper"), "hopper", "True"]
    assert done.stdout.split() == expected, done.stderr
