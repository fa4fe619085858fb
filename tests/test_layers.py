"""The one way things flow: who may import whom, and what the command line must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "evoconn_cli"
LEAVES = {"config", "errors", "limits", "output"}
HEAVY = {"jax", "jaxlib", "brax", "wandb", "numpy", "orbax", "flax", "optax", "matplotlib", "mujoco", "PIL"} | {
    "scipy",
    "networkx",
    "pyarrow",
    "h5py",
    "nir",
    "ray",
    "pynvml",
}
MAY_IMPORT = {
    "app": {"commands", "runs", "engine", "__init__"} | LEAVES,
    "__main__": {"app"},
    "api": {"evaluation", "engine", "export", "networks", "runs", "tasks"} | LEAVES,
    "commands": {"commands", "grid", "training", "evaluation", "rendering", "export", "runs", "progress", "drawing"}
    | {"engine"}
    | LEAVES,
    "grid": {"grid", "evaluation", "runs", "progress", "drawing"} | LEAVES,
    "training": {"training", "runs", "progress", "engine"} | LEAVES,
    "evaluation": {"evaluation", "training", "export", "runs", "progress", "drawing", "engine", "networks", "tasks"}
    | LEAVES,
    "export": {"export", "drawing", "engine", "networks", "tasks"} | LEAVES,
    "rendering": {"rendering", "drawing", "engine", "networks", "tasks"} | LEAVES,
    "runs": {"runs"} | LEAVES,
    "progress": {"progress"} | LEAVES,
    "drawing": {"drawing"} | LEAVES,
    "engine": {"engine", "networks", "tasks"} | LEAVES,
    "networks": {"networks"} | LEAVES,
    "tasks": {"tasks"} | LEAVES,
    "config": LEAVES,
    "errors": set(),
    "limits": set(),
    "output": {"errors"},
    "__init__": {"api"},
}


def layer_of(module: str) -> str:
    return module.split(".")[1]


def all_imported_modules(path: Path) -> set[str]:
    """Returns the names of modules, and of what is imported from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_modules(path: Path) -> set[str]:
    return {name for name in all_imported_modules(path) if name.startswith("evoconn_cli.")}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    layers = {name for name in map(layer_of, imported_modules(path)) if name in MAY_IMPORT}
    assert layers <= MAY_IMPORT[layer], f"{layer} imports {layers - MAY_IMPORT[layer]}"


PURE = [path for path in modules() if path.relative_to(PACKAGE).parts[0] in ("engine", "networks", "tasks")]


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_engine_reads_no_file_and_no_clock_and_prints_nothing(path):
    tree = ast.parse(path.read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"print", "open", "input"}
    imported = {name.partition(".")[0] for name in all_imported_modules(path)}
    if path.name == "brax_compat.py":
        imported.remove("sys")  # it puts a module in `sys.modules` while Brax is imported
    if path.name == "devices.py":
        imported -= {"os", "pathlib"}  # it sets XLA_FLAGS before JAX starts
    assert not imported & {"time", "datetime", "os", "sys", "pathlib", "omegaconf"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *(
            [command, "--help"]
            for command in ("train", "resume", "evaluate", "render", "launch-grid", "run-cell", "export-connectivity")
        ),
    ],
    ids=str,
)
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from evoconn_cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as end: code = end.code\n"
        f"heavy = {HEAVY} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_launcher_of_grids_needs_nothing_heavy():
    names = sorted(path.stem for path in (PACKAGE / "grid").glob("*.py"))
    imports = "".join(f"import evoconn_cli.grid.{name}\n" for name in names if name != "__init__")
    code = f"import sys\n{imports}heavy = {HEAVY} & set(sys.modules)\nsys.exit(str(heavy) if heavy else 0)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_stays_light_until_it_is_used():
    code = (
        "import sys, evoconn_cli\n"
        "before = {'jax', 'numpy'} & set(sys.modules)\n"
        "evoconn_cli.load_run\n"
        "sys.exit(0 if not before and 'jax' in sys.modules else str(before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
