"""The distribution of degrees over neurons."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Degrees:
    """The distribution of a degree over neurons.

    Attributes:
        mean: of the degree.
        std: over neurons.
        skewness: third standardised moment; NaN where all are equal.
        kurtosis: fourth standardised moment less 3; NaN where all are equal.
        entropy: of the distribution [bits].
        independent_std: that connections drawn independently with the same density would have.
    """

    mean: float
    std: float
    skewness: float
    kurtosis: float
    entropy: float
    independent_std: float


def degree_statistics(degrees: np.ndarray, density: float) -> Degrees:
    """Returns the distribution of the `degrees` `[N]`, among connections of which the share `density` exists."""
    mean, std = float(degrees.mean()), float(degrees.std())
    standardised = (degrees - mean) / std if std > 0 else np.full(len(degrees), np.nan)
    return Degrees(
        mean=mean,
        std=std,
        skewness=float((standardised**3).mean()),
        kurtosis=float((standardised**4).mean() - 3),
        entropy=degree_entropy(degrees),
        independent_std=float(np.sqrt(len(degrees) * density * (1 - density))),
    )


def degree_entropy(degrees: np.ndarray) -> float:
    """Returns the Shannon entropy of the distribution of degrees over nodes [bits].

    Source: Solé and Valverde, Lecture Notes in Physics 650, 2004, without their "remaining" degree.
    """
    _, counts = np.unique(degrees, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum() + 0.0)
