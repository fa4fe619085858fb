"""A small network to export, which no training made."""

from __future__ import annotations

import dataclasses

import numpy as np
from connectome_cases import random_connectome

from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.source import ExportSource
from evoconn_cli.networks import Gains


def small_connectome() -> Connectome:
    """Returns 6 neurons, 3 observations and 2 actions, with gains and a normaliser that are no round numbers."""
    random = np.random.default_rng(0)
    return dataclasses.replace(
        random_connectome(6),
        gains=Gains(input=0.1 / 3, recurrent=1.7, output=0.3),
        obs_mean=random.random(3, dtype=np.float32),
        obs_std=random.random(3, dtype=np.float32) + 0.5,
    )


def unplayed_source(connectome: Connectome | None = None) -> ExportSource:
    """Returns a source whose episode must not be asked for."""

    def record():
        raise AssertionError("this format has no use for an episode")

    return ExportSource([connectome or small_connectome()], record, provenance={"run": "r", "generation": 7})


def without_probs(connectome: Connectome) -> Connectome:
    """Returns a network whose probabilities are not known."""
    return dataclasses.replace(connectome, probs={})
