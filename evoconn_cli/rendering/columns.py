"""What a network did, on the video's clock: spikes, rates and rewards by columns of pixels, for the scrolling plots.

Columns cover equal spans of simulated time, a whole number of them for each frame, so that plots scroll evenly. The
spikes of an environment step are spread over its span by their sub-steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evoconn_cli.rendering.clock import Clock
from evoconn_cli.rendering.recording import Episode, Policy


@dataclass(frozen=True)
class SpikeColumns:
    """Spikes by row of the raster and column of pixels.

    Attributes:
        counts: `[rows, columns]` uint8, spikes of the neurons of a row, at most 255.
        num_excitatory_rows: the first so many rows hold the excitatory neurons; None where neurons have no types.
        rates: `[types, columns]` spikes of a neuron per second of network time [Hz], excitatory before inhibitory.
    """

    counts: np.ndarray
    num_excitatory_rows: int | None
    rates: np.ndarray


def row_of_neurons(policy: Policy, max_rows: int) -> tuple[np.ndarray, int | None]:
    """Returns `[N]` the row of every neuron, as few neurons a row as `max_rows` allow, and the excitatory rows.

    No row holds neurons of both types.
    """
    num, num_excitatory = policy.num_neurons, policy.num_excitatory
    types = [num] if num_excitatory is None else [num_excitatory, num - num_excitatory]
    together = 1
    while sum(-(-size // together) for size in types) > max(max_rows, len(types)):
        together += 1
    rows, start = [], 0
    for size in types:
        rows.append(start + np.arange(size) // together)
        start += -(-size // together)
    return np.concatenate(rows), None if num_excitatory is None else -(-num_excitatory // together)


def spike_columns(
    episodes: Sequence[Episode], policy: Policy, clock: Clock, *, per_frame: int, max_rows: int
) -> SpikeColumns:
    """Returns the spikes of all episodes by columns.

    Args:
        episodes: with spikes.
        policy: says which neurons there are.
        clock: of the video.
        per_frame: columns that a frame adds.
        max_rows: rows of pixels that there are.
    """
    row, num_excitatory_rows = row_of_neurons(policy, max_rows)
    boundaries = [0, *(np.flatnonzero(np.diff(row)) + 1)]
    num_excitatory = policy.num_excitatory
    types = [slice(None)] if num_excitatory is None else [slice(0, num_excitatory), slice(num_excitatory, None)]
    num_columns = clock.num_frames * per_frame
    counts = np.zeros((num_columns, len(boundaries)), np.int64)
    spikes_of = np.zeros((num_columns, len(types)), np.int64)
    substeps_in = np.zeros(num_columns, np.int64)
    for index, episode in enumerate(episodes):
        assert episode.spikes is not None
        num_substeps = episode.spikes.shape[1]
        for step, packed in enumerate(episode.spikes):
            spikes = np.unpackbits(packed, axis=-1, count=policy.num_neurons)
            time = clock.start_of(index) + (step + (np.arange(num_substeps) + 0.5) / num_substeps) * clock.dt
            column = _column(time, clock, per_frame, num_columns)
            np.add.at(counts, column, np.add.reduceat(spikes, boundaries, axis=1, dtype=np.int64))
            np.add.at(spikes_of, column, np.stack([spikes[:, part].sum(axis=1) for part in types], axis=-1))
            np.add.at(substeps_in, column, 1)
    sizes = np.array([max(1, len(row[part])) for part in types])
    seconds = np.maximum(substeps_in, 1)[:, None] * policy.substep_ms / 1000
    rates = _held(spikes_of / (sizes * seconds), substeps_in > 0)
    return SpikeColumns(np.minimum(counts, 255).astype(np.uint8).T, num_excitatory_rows, rates.T)


def reward_columns(episodes: Sequence[Episode], clock: Clock, *, per_frame: int) -> np.ndarray:
    """Returns `[columns]` the mean reward of the steps that end in a column; the one before where none does."""
    num_columns = clock.num_frames * per_frame
    total, count = np.zeros(num_columns), np.zeros(num_columns)
    for index, episode in enumerate(episodes):
        time = clock.start_of(index) + (np.arange(episode.num_steps) + 0.5) * clock.dt
        column = _column(time, clock, per_frame, num_columns)
        np.add.at(total, column, episode.rewards)
        np.add.at(count, column, 1)
    return _held((total / np.maximum(count, 1))[:, None], count > 0)[:, 0]


def _column(time: np.ndarray, clock: Clock, per_frame: int, num_columns: int) -> np.ndarray:
    column = (time / clock.speed * float(clock.fps) * per_frame).astype(int)
    return np.minimum(column, num_columns - 1)


def _held(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns `[columns, ...]` with the last known value where none is known."""
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
    return values[last]
