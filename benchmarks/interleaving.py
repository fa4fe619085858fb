"""Times functions in turns, because the speed of a shared machine changes from minute to minute."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Interleaved(NamedTuple):
    """A subject and what it is compared with, in the unit that each of them was given in."""

    subject: float  # median
    beside: dict[str, float]  # medians
    ratios: dict[str, float]  # median over subjects of subject / mean of what ran right before and right after


def interleave(
    subject: Callable[[], float], beside: Mapping[str, Callable[[], float]], repetitions: int
) -> Interleaved:
    """Returns the times of `subject` and of all in `beside`, which run before the first, between, and after the last.

    Args:
        subject: runs once and returns its time.
        beside: by name; each runs once and returns its time.
        repetitions: of the subject.
    """
    times: list[float] = []
    around = {name: [measure()] for name, measure in beside.items()}
    for _ in range(repetitions):
        times.append(subject())
        for name, measure in beside.items():
            around[name].append(measure())
    ratios = {
        name: statistics.median(
            2 * time / (before + after) for time, before, after in zip(times, taken, taken[1:], strict=False)
        )
        for name, taken in around.items()
    }
    medians = {name: statistics.median(taken) for name, taken in around.items()}
    return Interleaved(statistics.median(times), medians, ratios)
