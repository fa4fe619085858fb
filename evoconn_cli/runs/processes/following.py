"""Training a run that another process writes."""

from __future__ import annotations

import jax

from evoconn_cli.runs.build import build_engine
from evoconn_cli.runs.checkpoints.store import HostFacts
from evoconn_cli.runs.processes.protocol import Processes
from evoconn_cli.runs.processes.sharing import share_state
from evoconn_cli.runs.training.deadline import Deadline
from evoconn_cli.runs.training.interrupts import Interrupts
from evoconn_cli.runs.training.loop import Session
from evoconn_cli.runs.training.opening import join_run
from evoconn_cli.runs.training.recorder import NoRecorder


def follow(processes: Processes, *, interrupts: Interrupts, deadline: Deadline) -> bool:
    """Returns whether the run is finished, after this process has computed its share of it.

    The configuration and the state come from the writer: nothing is read from a disk here.

    Args:
        processes: that train the run; this is not their writer.
        interrupts: ends the training early, in all processes.
        deadline: does so too.

    Raises:
        ProcessLostError: another process is gone or has failed.
        TrainingError: the training cannot go on.
        KeyboardInterrupt: the user quit.
    """
    config, workers = join_run(processes)
    engine = build_engine(config, workers)
    processes.check_same(engine.kernel.name, "the kernel of engine.kernel=auto")
    initial = jax.device_put(engine.initial_state(), workers.first_device)
    state = share_state(initial, processes, workers)
    session = Session(config, NoRecorder(), interrupts, deadline, processes)
    state = session.train(engine, workers, state, HostFacts())
    return int(state.generation) >= config.algo.generations
