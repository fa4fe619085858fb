"""The command line with the light engine: `python light_evoconn.py train ...`."""

import os
import sys

import jax
import numpy as np
from light_engine import make_light_engine

from evoconn_cli.app import main
from evoconn_cli.grid import places
from evoconn_cli.runs.processes import following
from evoconn_cli.runs.training import training


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
    training.build_engine = following.build_engine = make_odd_engine
    places.PROGRAM = (sys.executable, __file__)
    main()
