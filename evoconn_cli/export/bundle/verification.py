"""Checking a bundle where nothing else of evoconn plays a part: its simulator, in a process that has NumPy alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.bundle import run_network
from evoconn_cli.export.bundle.checksums import changed_files
from evoconn_cli.export.bundle.document import read_document
from evoconn_cli.export.bundle.reading import check_finite

_REPLAY = """
import pathlib, runpy, sys

class OnlyNumPy:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top != "numpy" and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{top} is blocked: a bundle needs NumPy alone", name=name)

sys.meta_path.insert(0, OnlyNumPy())
simulator = runpy.run_path(sys.argv[1])
try:
    simulator["main"](pathlib.Path(sys.argv[2]))
except ValueError as error:
    sys.exit(f"not as recorded: {error}")
"""


def verify_bundle(folder: Path) -> str:
    """Returns what the simulator says when it has replayed the recorded episode of a bundle.

    The simulator is that of this version of evoconn, which replays the bundles of every version that have its format:
    what lies in the bundle is not run unseen.

    Raises:
        EvoconnError: a file is not what was exported, or the replay differs; the message says where.
    """
    for name, holds in changed_files(folder).items():
        raise EvoconnError(f"{folder} is not what was exported: {name} ({holds}) was changed or is missing.")
    read_document(folder)  # refuses another format version
    check_finite(folder)
    simulator = Path(run_network.__file__)
    command = [sys.executable, "-I", "-c", _REPLAY, str(simulator), str(folder.absolute())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"it ended with the code {done.returncode}"]
        raise EvoconnError(f"{folder} does not verify: {lines[-1]}")
    said = " ".join(done.stdout.split())
    if (folder / "run_network.py").read_bytes() == simulator.read_bytes():
        return said
    return f"{said} Replayed by the simulator of this version of evoconn; the bundle has that of another one."
