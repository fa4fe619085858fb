"""Why a training ended: for run.json, for the terminal, and for those who resume the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from evoconn_cli.config.schema import AlgoConfig
from evoconn_cli.errors import printable

ENDING_KEYS = ("algo.target_fitness", "algo.patience", "algo.max_env_steps")
"""Keys with which a run ends by itself before its last generation."""

_MOST_CHARACTERS = 200
"""A longer text of run.json is cut."""


class Ending(NamedTuple):
    """Why a training ended."""

    by: str  # key or option, such as `algo.patience` or `--max-time`; else `signal`, `callback`, `quit` or `error`
    reason: str

    @property
    def is_of_run(self) -> bool:
        """Whether the run is finished, not merely this training of it."""
        return self.by.startswith("algo.")


class Best(NamedTuple):
    """The best network of a run so far."""

    generation: int  # of its checkpoint
    fitness: float  # smoothed evaluation fitness


def read_best(facts: Mapping[str, Any]) -> Best | None:
    """Returns the best network according to the facts of a checkpoint; None if they name none."""
    match facts.get("best"):
        case {"generation": int(generation), "fitness": int(fitness) | float(fitness)}:
            return Best(generation, float(fitness))
    return None


def ends_by_itself(algo: AlgoConfig, generation: int, env_steps: int, best: Best | None) -> Ending | None:
    """Returns why no generation follows `generation`; None if one does.

    Args:
        algo: Keys of the strategy.
        generation: Generations done.
        env_steps: Environment steps that counted.
        best: Best network so far; None counts as the initial one. A network is evaluated in the generation after its
            own.
    """
    target, patience, most = algo.target_fitness, algo.patience, algo.max_env_steps
    if generation >= algo.generations:
        return Ending("algo.generations", f"all {algo.generations:,} generations are done")
    if target is not None and best is not None and best.fitness >= target:
        return Ending("algo.target_fitness", f"algo.target_fitness={target:g} is reached")
    if patience is not None and generation - (best.generation if best else 0) - 1 >= patience:
        return Ending("algo.patience", f"no better network in {patience:,} generations (algo.patience={patience})")
    if most is not None and env_steps >= most:
        return Ending("algo.max_env_steps", f"algo.max_env_steps={most} is reached")
    return None


def read_ending(facts: Mapping[str, Any], done: int) -> Ending | None:
    """Returns why a run is finished according to run.json; None if it is not.

    Args:
        facts: Content of run.json.
        done: Newest saved generation.
    """
    ended = facts.get("ended")
    if facts.get("status") != "finished" or not isinstance(ended, dict) or ended.get("generation") != done:
        return None
    by, reason = (printable(str(ended.get(key))[:_MOST_CHARACTERS]) for key in ("by", "reason"))
    ending = Ending(by, reason)
    return ending if ending.is_of_run else None


def what_to_change(by: str, algo: AlgoConfig) -> str:
    """Returns the arguments of `evoconn resume` that train a finished run further.

    Args:
        by: Key with which it ended.
        algo: Keys of its strategy.
    """
    return f"{by}=null" if by in ENDING_KEYS else f"--generations {2 * algo.generations}"
