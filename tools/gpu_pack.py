"""Packs a folder for PYTHONPATH with what `benchmarks.gpu_check` needs on a machine without a network.

    python -m tools.gpu_pack [--present NAMES.txt] [--python 3.12] [--out build/gpu-pack]

`--present` is a file that lists the packages of that machine, one name per line. Pure Python packages are copied from
this environment; compiled ones are fetched by pip, in the same version, for Linux on x86-64.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from evoconn_cli import __version__

_ROOT = Path(__file__).parents[1]
_LARGEST_MB = 60
_PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 26, 27, 28)) + ("manylinux2014_x86_64",)

_LEFT_OUT = {
    # Brax depends on them and does not import them for its tasks.
    *("dm-tree", "flask", "flask-cors", "grpcio", "jaxopt", "jinja2", "pytinyrenderer", "setuptools"),
    # evoconn trains and evaluates without them.
    *("imageio-ffmpeg", "matplotlib", "mujoco", "nvidia-ml-py", "tensorboardx", "wandb"),
}
_README = """Put this folder on PYTHONPATH, on the machine with the GPU:

    PYTHONPATH={out} python3 -m benchmarks.gpu_check --out gpu-check

evoconn {version}, packed for Python {python} with: {packages}.
"""


def main() -> None:
    """Parses the arguments and packs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--present", type=Path, help="names of packages; by default JAX and what it depends on")
    parser.add_argument("--python", default="3.12", help="version of Python on the machine, 3.12 by default")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-pack"), help="folder to write or replace")
    options = parser.parse_args()
    present = options.present.read_text().split() if options.present else [*needed(["jax"], (), options.python)]
    packages = needed(["evoconn"], present, options.python)
    pack(packages, options.out, options.python)
    megabytes = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file()) / 1e6
    print(f"{options.out}: {megabytes:.0f} MB; {options.out / 'README.txt'} says how to use it")
    if megabytes > _LARGEST_MB:
        sys.exit(f"{options.out} is larger than {_LARGEST_MB} MB. Name in --present what the machine has.")


def needed(names: Iterable[str], present: Iterable[str], python: str) -> dict[str, metadata.Distribution]:
    """Returns what the packages `names` depend on, themselves included, by name; without those `present`.

    Args:
        names: Packages that are installed here.
        present: All packages on the machine.
        python: Version of Python on the machine, such as `3.12`.
    """
    target = {"extra": "", "python_version": python, "python_full_version": f"{python}.0"}
    passed_over = {canonicalize_name(name) for name in present} | _LEFT_OUT
    found: dict[str, metadata.Distribution] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in passed_over:
            continue
        found[name] = metadata.distribution(name)
        for requirement in map(Requirement, found[name].requires or []):
            if requirement.marker is None or requirement.marker.evaluate(target):
                waiting.append(canonicalize_name(requirement.name))
    return found


def pack(packages: dict[str, metadata.Distribution], out: Path, python: str) -> None:
    """Writes evoconn, its presets, its benchmarks and `packages` into the folder `out`.

    Raises:
        SystemExit: there is such a folder, and it is no pack.
    """
    readme = out / "README.txt"
    if out.exists() and any(out.iterdir()) and not readme.exists():
        sys.exit(f"{out} is no pack, and is left alone. Choose another --out.")
    shutil.rmtree(out, ignore_errors=True)
    caches = shutil.ignore_patterns("__pycache__")
    for source, target in {"evoconn_cli": "", "configs": "evoconn_cli/presets", "benchmarks": ""}.items():
        shutil.copytree(_ROOT / source, out / (target or source), ignore=caches)
    described = out / f"evoconn-{__version__}.dist-info" / "METADATA"
    described.parent.mkdir()
    described.write_text(f"Metadata-Version: 2.1\nName: evoconn\nVersion: {__version__}\n")
    others = {name: package for name, package in packages.items() if name != "evoconn"}
    compiled = [f"{name}=={package.version}" for name, package in others.items() if not _is_pure(package)]
    if compiled:
        fetched = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
        platforms = [argument for platform in _PLATFORMS for argument in ("--platform", platform)]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *fetched, *platforms, "--target", str(out), *compiled], check=True)
    for package in others.values():
        if _is_pure(package):
            _copy(package, out)
    names = ", ".join(f"{name} {package.version}" for name, package in sorted(others.items())) or "nothing else"
    readme.write_text(_README.format(out=out, version=__version__, python=python, packages=names))


def _is_pure(package: metadata.Distribution) -> bool:
    return "Root-Is-Purelib: true" in (package.read_text("WHEEL") or "")


def _copy(package: metadata.Distribution, out: Path) -> None:
    for file in package.files or []:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # programs in bin/
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), out / file)


if __name__ == "__main__":
    main()
