"""The process between a worker of Ray and its cell: `python -m evoconn_cli.grid.ray_guard WORKER_PID COMMAND...`.

A worker that Ray ends, as when the launcher is gone, kills its children at once. This process is such a child. The cell
is a child of this process, and outlives it for as long as it takes to save.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from evoconn_cli.grid.cell_process import PARENT_VARIABLE, signal_at_death_of


def main(arguments: Sequence[str]) -> int:
    """Runs the command, and returns its exit code."""
    worker, *command = arguments
    signal_at_death_of(int(worker), signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: None)  # it is for the cell, which is in the same group of processes
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    return subprocess.call(command, env=environment, close_fds=False)  # the locks of its cores go to the cell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
