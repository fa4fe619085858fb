"""Samplers and pruners of a search, and its space as Optuna's distributions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from evoconn_cli.config.search import Range, Search
from evoconn_cli.errors import EvoconnError

Numeric: TypeAlias = FloatDistribution | IntDistribution

_REDUCTION = 3
"""Of this many trials that reach a rung of successive halving, one is promoted. Source: Hyperband (Li et al., 2018)."""

GENERATION = "cmaes_generation"
"""User attribute of a trial: generation of CMA-ES from which it was drawn."""


def distributions_of(search: Search) -> dict[str, BaseDistribution]:
    """Returns the distribution of each key of the space."""
    return {key: _distribution(choice) for key, choice in search.space.items()}


def _distribution(choice: list[Any] | Range) -> BaseDistribution:
    if not isinstance(choice, Range):
        return CategoricalDistribution(choice)
    is_log = choice.scale == "log"
    if choice.is_whole:
        return IntDistribution(int(choice.low), int(choice.high), log=is_log)
    return FloatDistribution(choice.low, choice.high, log=is_log)


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Returns the sampler of one trial.

    Its random numbers follow from the seed and the number of the trial alone, so a search that was interrupted
    continues as if it had not been.

    Args:
        search: Keys of the search.
        number: Number of the trial.
    """
    seed = int.from_bytes(hashlib.sha256(f"{search.seed} {number}".encode()).digest()[:4])
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    if search.sampler == "grid":
        return optuna.samplers.GridSampler(search.space, search.seed)
    return optuna.samplers.TPESampler(seed=seed) if search.sampler == "tpe" else ReplayedCmaEs(search, seed)


def make_pruner(search: Search, every: int, most_steps: int) -> optuna.pruners.BasePruner:
    """Returns the pruner of a study, whose steps are environment steps.

    Args:
        search: Keys of the search.
        every: Environment steps between two reports.
        most_steps: Most environment steps that a run can take.
    """
    if search.pruner == "median":
        return optuna.pruners.MedianPruner()
    if search.pruner == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(every, _REDUCTION)
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(every, max(every, most_steps), _REDUCTION)
    return optuna.pruners.NopPruner()


class ReplayedCmaEs(optuna.samplers.BaseSampler):
    """CMA-ES over the ranges of a space; values of lists are drawn at random.

    Optuna's own sampler keeps its state pickled in the study. A study may come from anyone, so here the state is
    computed from the trials each time.

    Args:
        search: Keys of the search.
        seed: Random seed of the trial that is asked for.

    Attributes:
        generation: Generation from which the trial was drawn; None until then.
    """

    def __init__(self, search: Search, seed: int) -> None:
        self.generation: int | None = None
        self._seed = seed
        self._random = optuna.samplers.RandomSampler(seed)
        self._ranges: dict[str, Numeric] = {
            key: distribution
            for key, distribution in distributions_of(search).items()
            if isinstance(distribution, (FloatDistribution, IntDistribution))
        }

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """Returns the ranges."""
        return dict(self._ranges)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, Any]) -> dict:
        """Returns values of the ranges."""
        optimizer = self._replay(study)
        self.generation = optimizer.generation
        drawn = optimizer.ask()
        return {key: _from_unit(x, d) for x, (key, d) in zip(drawn, self._ranges.items(), strict=True)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Returns a random value of a list."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _replay(self, study: optuna.Study) -> Any:
        """Returns the optimizer after all generations whose trials have ended."""
        cmaes = import_cmaes()
        size = len(self._ranges)
        bounds = np.tile([0.0, 1.0], (size, 1))
        optimizer = cmaes.CMA(
            mean=np.full(size, 0.5), sigma=1 / 6, bounds=bounds, seed=self._seed, n_max_resampling=10 * size
        )
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        while True:
            drawn = [one for one in ended if one.user_attrs.get(GENERATION) == optimizer.generation]
            if len(drawn) < optimizer.population_size:
                return optimizer
            told = drawn[: optimizer.population_size]
            optimizer.tell([(self._to_unit(one.params), -(one.value or 0.0)) for one in told])

    def _to_unit(self, params: Mapping[str, Any]) -> np.ndarray:
        scaled = []
        for key, distribution in self._ranges.items():
            low, high = _bounds(distribution)
            scaled.append(((math.log(params[key]) if distribution.log else params[key]) - low) / (high - low))
        return np.clip(scaled, 0.0, 1.0)


def import_cmaes() -> Any:
    """Returns the module `cmaes`.

    Raises:
        EvoconnError: It is not installed.
    """
    try:
        import cmaes
    except ModuleNotFoundError:
        raise EvoconnError("search.sampler=cmaes needs the package cmaes: pip install 'evoconn[search]'.") from None
    return cmaes


def _bounds(distribution: Numeric) -> tuple[float, float]:
    """Returns the bounds of a range, or their logarithms; each whole number has the same room."""
    margin = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - margin, distribution.high + margin
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def _from_unit(x: float, distribution: Numeric) -> float | int:
    low, high = _bounds(distribution)
    value = low + float(x) * (high - low)
    value = math.exp(value) if distribution.log else value
    if isinstance(distribution, IntDistribution):
        value = round(value)
    return min(max(value, distribution.low), distribution.high)
