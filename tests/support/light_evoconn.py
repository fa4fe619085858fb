"""The command line with the light engine: `python light_evoconn.py train ...`.

The environment may slow its generations down (EVOCONN_TEST_PACE [s]) as long as nothing is saved, so that there is time
to interrupt it, and name a process that computes something else (EVOCONN_TEST_ODD_PROCESS).
"""

import os
import sys
import time

import jax
import numpy as np
from light_engine import make_light_engine

from evoconn_cli.app import main
from evoconn_cli.grid import cell_process
from evoconn_cli.training import train as training


def make_engine(config, workers):
    """The light engine, as slow as the environment asks for."""
    engine = make_odd_engine(config, workers)
    pace = float(os.environ.get("EVOCONN_TEST_PACE", "0"))
    compile_fast = engine.compile

    def compile_slow(state):
        step = compile_fast(state)
        if int(state.generation):
            return step

        def slow_step(state):
            time.sleep(pace)
            return step(state)

        return slow_step

    if pace:
        engine.compile = compile_slow
    return engine


def make_odd_engine(config, workers):
    """The light engine with a bit changed in every generation, in the process that the environment names."""
    engine = make_light_engine(config, workers)
    if str(jax.process_index()) != os.environ.get("EVOCONN_TEST_ODD_PROCESS"):
        return engine
    compile_right = engine.compile

    def compile_odd(state):
        step = compile_right(state)

        def odd_step(state):
            state, metrics = step(state)
            probs = np.nextafter(np.asarray(state.strategy["probs"]), np.float32(1))
            return state._replace(strategy={"probs": jax.device_put(probs, workers.first_device)}), metrics

        return odd_step

    engine.compile = compile_odd
    return engine


if __name__ == "__main__":
    training.build_engine = make_engine
    cell_process.PROGRAM = (sys.executable, __file__)
    main()
