"""The one way things flow: who may import whom, and what the command line must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from paths import PACKAGE

LEAVES = {"config", "errors", "limits", "output"}
HEAVY = {"jax", "jaxlib", "brax", "wandb", "numpy", "orbax", "flax", "optax", "matplotlib", "mujoco", "PIL"} | {
    "scipy",
    "networkx",
    "pyarrow",
    "h5py",
    "nir",
    "onnx",
    "onnxruntime",
    "ray",
    "pynvml",
    "gymnasium",
    "optuna",
    "cmaes",
}
MAY_IMPORT = {
    "app": {"commands", "runs", "engine", "__init__"} | LEAVES,
    "__main__": {"app"},
    "api": {"evaluation", "training", "engine", "export", "networks", "progress", "runs", "tasks"} | LEAVES,
    "commands": {"commands", "grid", "training", "evaluation", "rendering", "export", "runs", "progress", "drawing"}
    | {"engine"}
    | LEAVES,
    "grid": {"grid", "search", "evaluation", "runs", "progress", "drawing"} | LEAVES,
    "search": {"search", "drawing"} | LEAVES,
    "training": {"training", "runs", "progress", "engine"} | LEAVES,
    "evaluation": {"evaluation", "training", "export", "runs", "progress", "drawing", "engine", "networks", "tasks"}
    | LEAVES,
    "export": {"export", "drawing", "engine", "networks", "tasks"} | LEAVES,
    "gymnasium": {"gymnasium", "rendering", "engine", "tasks"} | LEAVES,
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
    "__init__": {"api", "engine", "gymnasium", "networks", "tasks"} | LEAVES,
}


LIGHT = ("app", "commands", "config", "errors", "grid", "limits", "output", "progress", "runs")
PURE = ("engine", "networks", "tasks")
NOT_PURE = {"brax_compat.py": {"sys"}, "devices.py": {"os", "pathlib"}}
"""Brax needs a module in `sys.modules` while it is imported; XLA_FLAGS are set before JAX starts."""
UNPICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def modules() -> list[tuple[str, Path]]:
    """Returns `(layer, path)` of all modules."""
    return [(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in sorted(PACKAGE.rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Returns the names of modules, and of what is imported from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_imports_point_downward():
    wrong = []
    for layer, path in modules():
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("evoconn_cli.")}
        wrong += [(str(path), one) for one in ours & MAY_IMPORT.keys() - MAY_IMPORT[layer]]
    assert wrong == []


def test_the_engine_reads_no_file_and_no_clock_and_prints_nothing():
    for layer, path in modules():
        if layer in PURE:
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not {call.id for call in calls if isinstance(call, ast.Name)} & {"print", "open", "input"}, path
            imported = {name.partition(".")[0] for name in imports(path)} - NOT_PURE.get(path.name, set())
            assert not imported & {"time", "datetime", "os", "sys", "pathlib", "omegaconf"}, path


def test_nothing_is_unpickled():
    """What else may not be called, such as `eval`, Ruff refuses."""
    for _, path in modules():
        assert not {name.partition(".")[0] for name in imports(path)} & UNPICKLING, path
        assert "allow_pickle=True" not in path.read_text(), path


def run(code: str) -> None:
    """Runs code in an interpreter of its own, which exits with the heavy packages that it has imported."""
    code = f"import sys\n{code}heavy = {HEAVY} & set(sys.modules)\nsys.exit(str(heavy) if heavy else 0)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_light_packages_import_nothing_heavy():
    paths = [path.relative_to(PACKAGE).with_suffix("") for layer, path in modules() if layer in LIGHT]
    names = [".".join(("evoconn_cli", *path.parts)).removesuffix(".__init__") for path in paths]
    assert len(names) > 50
    run("".join(f"import {name}\n" for name in names))


def test_help_and_version_import_nothing_heavy():
    commands = ("train", "resume", "evaluate", "render", "launch-grid", "run-cell", "export-connectivity", "runs")
    arguments = [["--help"], ["--version"], ["runs"], *([command, "--help"] for command in commands)]
    run(
        "from evoconn_cli.app import app\n"
        f"for arguments in {arguments}:\n"
        "    try: app(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
    )


def test_importing_the_package_stays_light_until_it_is_used():
    code = (
        "import sys, evoconn_cli\n"
        "before = {'jax', 'numpy'} & set(sys.modules)\n"
        "evoconn_cli.load_run\n"
        "sys.exit(0 if not before and 'jax' in sys.modules else str(before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
