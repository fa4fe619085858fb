"""Replays a recorded episode with an ONNX model in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.connectome import ExportSource


def verify_onnx(source: ExportSource, path: Path) -> str:
    """Returns a report, after the model at `path` has replayed the recorded episode of `source`.

    With boolean connections, the model goes on from its own carry, and must give the recorded spikes and carry to the
    last bit. With real weights, whose sums are rounded differently, each step begins with the recorded carry, and
    steps may have other spikes: a potential within rounding of the threshold decides them.

    Raises:
        EvoconnError: The replay differs, or other spikes are in more than half of the steps; the message says where.
    """
    episode = source.episode
    exact = source.connectome.neuron_types is not None
    tolerance = 1e-5 if exact else 1e-4
    session = onnxruntime.InferenceSession(path)
    outputs = [output.name for output in session.get_outputs()]
    carry, differing = episode.initial, []
    for step, observation in enumerate(episode.observations):
        feed = {name: array[None] for name, array in {"observation": observation, **carry}.items()}
        given = dict(zip(outputs, map(np.asarray, session.run(outputs, feed)), strict=True))
        recorded = {name: array[step] for name, array in episode.states.items()}
        others = (
            np.argwhere(given["spike_train"][:, 0] != episode.spikes[step]) if episode.spikes.size else np.zeros((0, 2))
        )
        if len(others):
            substep, neuron = others[0]
            differing.append(f"step {step}, sub-step {substep}, neuron {neuron}")
            if exact or 2 * len(differing) > episode.num_steps:
                raise EvoconnError(f"{path} does not verify: {differing[0]}: another spike than recorded.")
        else:
            where = f"{path} does not verify: step {step}"
            _check(f"{where}, action", given["action"][0], episode.actions[step], tolerance)
            for name, array in recorded.items():
                _check(f"{where}, next_{name}", given[f"next_{name}"][0], array, 0.0 if exact else tolerance)
        carry = {name: given[f"next_{name}"][0] for name in carry} if exact else recorded
    compared = f"actions {'' if exact or not carry else 'and carry '}agree to {tolerance:g}"
    if exact:
        compared += ", and the carry to the last bit"
    run = f"{episode.num_steps} steps in onnxruntime"
    if carry and not exact:
        run += ", each from the recorded carry"
    if not episode.spikes.size:
        return f"{run}: {compared}."
    if not differing:
        return f"{run}: all {int(episode.spikes.sum())} spikes are as recorded; {compared}."
    return (
        f"{run}: in {episode.num_steps - len(differing)} of them all spikes are as recorded, and {compared}. In the "
        f"others, rounding can have moved a potential across the threshold; the first other spike is in {differing[0]}."
    )


def _check(where: str, given: np.ndarray, recorded: np.ndarray, tolerance: float) -> None:
    """Checks that an array is the recorded one, up to an absolute and relative tolerance."""
    close = np.isclose(given, recorded, rtol=tolerance, atol=tolerance)
    if not close.all():
        index = int(np.argmin(close))
        raise EvoconnError(f"{where} {index} is {given[index]}, and {recorded[index]} was recorded.")
