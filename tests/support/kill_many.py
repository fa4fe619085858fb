"""Trains one run in process after process, each killed at a random moment, and looks at what is on the disk each time.

Run as `python kill_many.py RUN_DIR KILLS SEED`. Processes are forked from one that has imported everything and started
nothing of JAX, so that a start costs a tenth of a second. A process is killed up to some hundredths of a second after
a random one of its operations on files: by its progress and not by the clock, since machines differ. Every tenth is
killed while it deletes a checkpoint, which few are by chance. Prints a line of JSON for each kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from light_engine import make_light_engine

from evoconn_cli.config.loading import load_config
from evoconn_cli.progress.display import Progress
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.checkpoints import CheckpointStore
from evoconn_cli.training.opening import create_run, reopen_run
from evoconn_cli.training.train import train

OVERRIDES = ["algo.population=16", "network.num_neurons=8", "engine.block=8", "checkpoint.keep_every=25"]
FOREVER = 10**6
LAST = 2000  # operations on files
DELAY = 0.03  # [s]
DELETING = ".deleting"  # in the name of a checkpoint that is being deleted
BEFORE_FILES, BEFORE_DIRECTORY = 2, 3  # operations on such a name: it is renamed, opened, and removed when it is empty


def train_to(path: Path, generations: int, every: int) -> None:
    overrides = [f"algo.generations={generations}", f"checkpoint.every={every}"]
    if path.exists():
        run = reopen_run(path, overrides)
    else:
        run = create_run(load_config("smoke", [*OVERRIDES, *overrides]), path)
    train(run, Progress(), make_engine=make_light_engine)


def in_child(work: Callable[[], None]) -> int:
    """Returns the process that does `work`."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(code)
    return pid


def kill_after(work: Callable[[], None], operations: int, delay: float, name: str = "") -> None:
    """Starts a process that does `work`, and kills it `delay` seconds after so many operations on files of a `name`.

    Of a `name` it is killed right before the operation, for which it waits.
    """
    ours, theirs = os.pipe()
    count = 0

    def watch(event: str, arguments: object) -> None:
        nonlocal count
        if (event == "open" or event.startswith("os.")) and name in str(arguments):
            count += 1
            if count == operations:
                os.write(theirs, b"!")
                if name:
                    time.sleep(60)

    def watched() -> None:
        sys.addaudithook(watch)
        work()

    pid = in_child(watched)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def wait_for(work: Callable[[], None]) -> None:
    _, status = os.waitpid(in_child(work), 0)
    if status:
        sys.exit(f"failed with {status}")


def check(path: Path) -> None:
    """Checks that every checkpoint is, to the last bit, the state of its generation."""
    run = reopen_run(path, [])
    engine = make_light_engine(run.config, run.workers)
    state, step = engine.initial_state(), engine.compile(None)
    store = CheckpointStore(run.directory.checkpoints)
    saved = store.generations()
    for generation in range(1, max(saved, default=0) + 1):
        state, _ = step(state)
        if generation in saved:
            restored, _ = store.restore(generation, state, jax.devices()[0], run.config)
            for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
                np.testing.assert_array_equal(a, b)
    done = [line["generation"] for line in read_metrics(run.directory.metrics_file)]
    assert done == list(range(1, len(done) + 1))
    assert len(done) >= max(saved, default=0)


def saved_in(path: Path) -> list[int]:
    """Returns the generations that look saved; without the store, which would start JAX in the parent."""
    return sorted(int(entry.name) for entry in (path / "checkpoints").glob("[0-9]*"))


def main() -> None:
    path, kills, dice = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    before: list[int] = []
    for number in range(kills):
        at_random = dice.randrange(1, LAST), dice.uniform(0, DELAY)
        in_a_deletion = dice.choice([BEFORE_FILES, BEFORE_DIRECTORY]), 0.0, DELETING
        kill_after(lambda: train_to(path, FOREVER, every=1), *(in_a_deletion if number % 10 == 9 else at_random))
        if not path.exists():
            continue
        remains = sorted(entry.name.split("-")[0] for entry in (path / "checkpoints").glob(".*"))
        wait_for(lambda: check(path))
        after = saved_in(path)
        assert max(after, default=0) >= max(before, default=0), "the newest was lost"
        assert {g for g in before if g % 25 == 0} <= set(after), "one that is kept for good was lost"
        print(json.dumps({"latest": max(after, default=0), "remains": remains}), flush=True)
        before = after
    generations = max(before) + 5
    wait_for(lambda: train_to(path, generations, every=1))
    wait_for(lambda: train_to(path.with_name("straight"), generations, every=FOREVER))


if __name__ == "__main__":
    main()
