"""An engine without physics: whole trainings in milliseconds, for tests of everything around the arithmetic.

Its generations are a fixed function of the state before, in NumPy, so two runs are equal if and only if what was
saved, restored and recorded is.
"""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np

from evoconn_cli.engine.kernel_choice import KernelChoice
from evoconn_cli.engine.normalizer import NormalizerState
from evoconn_cli.engine.state import RunState, StepCounter

OBSERVATION_SIZE = 3

POSES = None
"""What the task draws: nothing."""


def make_light_engine(config, workers):
    """Stands in for `build_engine`."""

    def initial_state() -> RunState:
        random = np.random.default_rng(config.seed)
        size = config.network.num_neurons
        zero, zeros = np.zeros((), np.float32), np.zeros(OBSERVATION_SIZE, np.float32)
        return RunState(
            strategy={"probs": random.random((size, size), np.float32)},
            normalizer=NormalizerState(zero, zeros, zeros, zeros + 1),
            generation=np.zeros((), np.int32),
            env_steps=StepCounter(np.uint32(0), np.uint32(0)),
            key=np.array([0, config.seed], np.uint32),
        )

    def step(state: RunState) -> tuple[RunState, dict[str, np.ndarray]]:
        probs = np.asarray(state.strategy["probs"])
        probs = np.modf(probs * np.float32(1.3) + np.roll(probs, 1, axis=0))[0]  # chaotic: one bit changes all
        new = state._replace(
            strategy={"probs": probs},
            normalizer=state.normalizer._replace(count=np.asarray(state.normalizer.count) + np.float32(1)),
            generation=np.asarray(state.generation) + np.int32(1),
            env_steps=state.env_steps._replace(low=np.asarray(state.env_steps.low) + np.uint32(7)),
        )
        metrics = {
            "fitness_mean": probs.mean(),
            "eval_fitness": probs[0, 0],
            "failed_members": np.int32(0),
            "steps_simulated": np.int32(9),
        }
        return jax.device_put(new, workers.first_device), metrics

    return SimpleNamespace(
        kernel=KernelChoice("xla"),
        task=SimpleNamespace(poses=POSES),
        network=SimpleNamespace(num_parameters=config.network.num_neurons**2),
        initial_state=initial_state,
        compile=lambda state: step,
    )
