"""What a network did, on the video's clock: spikes, rates and rewards by columns of pixels, for the scrolling plots.

Columns cover equal spans of simulated time, a whole number of them for each frame, so that plots scroll evenly. The
spikes of an environment step are spread over its span by their sub-steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evoconn_cli.rendering.clock import Clock
from evoconn_cli.rendering.recording import Motion, Neurons


class SpikeColumns(NamedTuple):
    """Spikes by row of the raster and column of pixels."""

    counts: np.ndarray  # [rows, columns] uint8, spikes of the neurons of a row, at most 255
    rates: np.ndarray  # [types, columns] of a neuron, in network time [spikes/s], excitatory before inhibitory


class RasterRows(NamedTuple):
    """Which neuron is in which row of the raster."""

    row: np.ndarray  # [N]
    num: int  # rows
    num_excitatory: int | None  # the first so many hold the excitatory neurons; None where neurons have no types
    zoom: int  # height of a row [pixels]


def fit_rows(neurons: Neurons, max_height: int) -> RasterRows:
    """Returns the rows of a raster of at most `max_height` pixels: few neurons a row, and never of two types."""
    types = [neurons.num]
    if neurons.num_excitatory is not None:
        types = [neurons.num_excitatory, neurons.num - neurons.num_excitatory]
    together = 1
    while sum(-(-size // together) for size in types) > max(max_height, len(types)):
        together += 1
    row = np.concatenate([np.arange(size) // together for size in types])
    heights = [-(-size // together) for size in types]
    row[types[0] :] += heights[0]
    return RasterRows(
        row, sum(heights), None if neurons.num_excitatory is None else heights[0], max(1, max_height // sum(heights))
    )


def spike_columns(
    episodes: Sequence[Motion], neurons: Neurons, rows: RasterRows, clock: Clock, *, per_frame: int
) -> SpikeColumns:
    """Returns the spikes of all episodes by columns.

    Args:
        episodes: with spikes.
        neurons: which there are.
        rows: of the raster.
        clock: of the video.
        per_frame: columns that a frame adds.
    """
    boundaries = [0, *(np.flatnonzero(np.diff(rows.row)) + 1)]
    num_excitatory = neurons.num_excitatory
    types = [slice(None)] if num_excitatory is None else [slice(0, num_excitatory), slice(num_excitatory, None)]
    num_columns = clock.num_frames * per_frame
    counts = np.zeros((num_columns, len(boundaries)), np.uint32)
    spikes_of = np.zeros((num_columns, len(types)), np.int64)
    substeps_in = np.zeros(num_columns, np.int64)
    for index, episode in enumerate(episodes):
        assert episode.spikes is not None
        num_substeps = episode.spikes.shape[1]
        for step, packed in enumerate(episode.spikes):
            spikes = np.unpackbits(packed, axis=-1, count=neurons.num)
            time = clock.start_of(index) + (step + (np.arange(num_substeps) + 0.5) / num_substeps) * clock.dt
            column = _column(time, clock, per_frame, num_columns)
            np.add.at(counts, column, np.add.reduceat(spikes, boundaries, axis=1, dtype=np.uint32))
            np.add.at(spikes_of, column, np.stack([spikes[:, part].sum(axis=1) for part in types], axis=-1))
            np.add.at(substeps_in, column, 1)
    sizes = np.array([max(1, len(rows.row[part])) for part in types])
    seconds = np.maximum(substeps_in, 1)[:, None] * neurons.substep_ms / 1000
    rates = _held(spikes_of / (sizes * seconds), substeps_in > 0)
    return SpikeColumns(np.minimum(counts, 255).astype(np.uint8).T, rates.T)


def reward_columns(episodes: Sequence[Motion], clock: Clock, *, per_frame: int) -> np.ndarray:
    """Returns `[columns]` the mean reward of the steps that end in a column; the one before it where none does."""
    num_columns = clock.num_frames * per_frame
    total, count = np.zeros(num_columns), np.zeros(num_columns)
    for index, episode in enumerate(episodes):
        # A step that ends where a column does belongs to it, and not to the next one.
        time = clock.start_of(index) + (np.arange(episode.num_steps) + 1 - 1e-3) * clock.dt
        column = _column(time, clock, per_frame, num_columns)
        np.add.at(total, column, episode.rewards)
        np.add.at(count, column, 1)
    return _held((total / np.maximum(count, 1))[:, None], count > 0)[:, 0]


def _column(time: np.ndarray, clock: Clock, per_frame: int, num_columns: int) -> np.ndarray:
    column = (time / clock.speed * float(clock.fps) * per_frame).astype(int)
    return np.minimum(column, num_columns - 1)


def _held(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns `[columns, ...]` with the last known value where none is known; before them all, the first one."""
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), known.argmax()))
    return values[last]
