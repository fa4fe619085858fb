"""How decided the probabilities of connections are."""

from __future__ import annotations

import dataclasses

import numpy as np

from evoconn_cli.config.schema import EcConfig
from evoconn_cli.engine.strategies.connectivity import saturated_from
from evoconn_cli.export.connectome import Connectome


@dataclasses.dataclass(frozen=True)
class Certainty:
    """How decided probabilities are.

    Attributes:
        entropy: mean over connections [bits]; 1 is undecided.
        saturated: share of probabilities within 2·eps of a bound, or a tenth of the way to 1/2 where that is less.
    """

    entropy: float
    saturated: float


def certainty_by_kernel(connectome: Connectome) -> dict[str, Certainty]:
    """Returns how decided the probabilities are, by kernel and for `all` of them."""
    algo = connectome.config.algo
    assert isinstance(algo, EcConfig)
    every = np.concatenate([values.ravel() for values in connectome.probs.values()])
    return {name: certainty(probs, algo.eps) for name, probs in {"all": every, **connectome.probs}.items()}


def certainty(probs: np.ndarray, eps: float) -> Certainty:
    """Returns how decided probabilities of any shape are, which are within [eps, 1 - eps]."""
    entropy = -(probs * np.log2(probs) + (1 - probs) * np.log2(1 - probs))
    near_bound = (probs <= np.float32(saturated_from(eps))) | (probs >= np.float32(1 - saturated_from(eps)))
    return Certainty(float(entropy.mean(dtype=np.float64)), float(near_bound.mean()))
