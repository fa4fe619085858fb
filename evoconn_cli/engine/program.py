"""A generation compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from evoconn_cli.engine.generation import Generation
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.engine.strategies import Metrics


def compile_generation(
    generation: Generation, workers: WorkerMesh, state: RunState
) -> Callable[[RunState], tuple[RunState, Metrics]]:
    """Returns `step(state) -> (state, metrics)`, compiled for the shapes of `state`.

    A `step` consumes its argument, unless the simulation fails.

    The state lives on the first device, and all that is not sharded is compiled for that one. Of several processes
    each has the state and learns for itself: what they all need is gathered on every device as it is simulated.

    Args:
        generation: the functions to compile.
        workers: the devices.
        state: a state of the run, or its shapes.
    """
    whole, sharded = workers.whole, workers.sharded
    one_device = SingleDeviceSharding(workers.first_device)

    def compile_single(fn: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Callable:
        program = jax.jit(fn, in_shardings=one_device, out_shardings=one_device, donate_argnums=donate)
        return program.lower(*args).compile()

    def compile_sharded(fn: Callable, *args: Any, in_shardings: Any, out_shardings: Any) -> Callable:
        program = jax.jit(fn, in_shardings=in_shardings, out_shardings=out_shardings)
        return program.lower(*args).compile()

    members = workers.put_sharded(generation.members)
    shapes = jax.eval_shape(lambda x: x, state)
    carries = warm_up = learn_observations = None
    if generation.warm_up is not None:
        carries, sums = jax.eval_shape(generation.warm_up, shapes, members)
        warm_up = compile_sharded(
            generation.warm_up, shapes, members, in_shardings=(whole, sharded), out_shardings=(sharded, whole)
        )
        learn_observations = compile_single(generation.learn_observations, shapes.normalizer, sums)
    simulate = compile_sharded(
        generation.simulate,
        shapes,
        members,
        carries,
        in_shardings=(whole, sharded, sharded),
        out_shardings=whole,
    )
    result = jax.eval_shape(generation.simulate, shapes, members, carries)
    learn = compile_single(generation.learn, shapes, result, donate=(0,))

    def step(state: RunState) -> tuple[RunState, Metrics]:
        carries = None
        if warm_up is not None and learn_observations is not None:
            carries, sums = warm_up(workers.put_whole(state), members)
            normalizer = learn_observations(state.normalizer, workers.take_whole(sums))
            state = state._replace(normalizer=normalizer)
        # What `learn` is called with is consumed, even where the simulation has failed and left nothing to learn from.
        result = jax.block_until_ready(simulate(workers.put_whole(state), members, carries))
        return learn(state, workers.take_whole(result))

    return step
