"""Checking a bundle where evoconn plays no part: its own simulator, in a process that has NumPy alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.bundle import run_network
from evoconn_cli.export.bundle.checksums import changed_files

_REPLAY = """
import runpy, sys

class OnlyNumPy:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top != "numpy" and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{top} is blocked: a bundle needs NumPy alone", name=name)

sys.meta_path.insert(0, OnlyNumPy())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def verify_bundle(folder: Path) -> str:
    """Returns what the simulator of a bundle says when it has replayed the recorded episode.

    Raises:
        EvoconnError: a file is not what was exported, or the replay differs; the message says where.
    """
    for name, holds in changed_files(folder).items():
        raise EvoconnError(f"{folder} is not what was exported: {name} ({holds}) was changed or is missing.")
    script = folder / "run_network.py"
    if script.read_bytes() != Path(run_network.__file__).read_bytes():
        raise EvoconnError(
            f"{script} is not the simulator of this version of evoconn, and is not run unseen. If you trust it: "
            f"python {script}"
        )
    command = [sys.executable, "-I", "-c", _REPLAY, str(script.absolute())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"it ended with the code {done.returncode}"]
        raise EvoconnError(f"{folder} does not verify: {lines[-1]}")
    return " ".join(done.stdout.split())
