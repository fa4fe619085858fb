"""The results of an evaluation as a JSON document, and as CSV with one line per episode."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from evoconn_cli import __version__
from evoconn_cli.evaluation.comparison import Aggregate
from evoconn_cli.evaluation.evaluating import Evaluated
from evoconn_cli.evaluation.neurobench import energy_nj
from evoconn_cli.output import finite_json


def to_json(
    evaluated: Sequence[Evaluated], aggregates: Sequence[Aggregate], *, policy: str, seed: int, energy: str | None
) -> str:
    """Returns the document that docs/evaluate.md describes, with null for numbers that are not finite.

    Args:
        evaluated: Results of all runs and settings.
        aggregates: Results of groups of runs.
        policy: `deterministic` or `sampled`.
        seed: Random seed of the episodes.
        energy: Technology of the energy estimate, or None.
    """
    document = {
        "evoconn": __version__,
        "policy": policy,
        "seed": seed,
        "evaluations": [_evaluation(one, energy) for one in evaluated],
        "aggregates": [one._asdict() for one in aggregates],
    }
    return json.dumps(finite_json(document), indent=2, allow_nan=False) + "\n"


def to_csv(evaluated: Sequence[Evaluated], *, policy: str, seed: int) -> str:
    """Returns one line per episode, with a column per perturbation."""
    perturbations = list(evaluated[0].perturbations)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    facts = ["run", "generation", "task", "algo", "network", "run_seed"]
    rows.writerow([*facts, "policy", "seed", *perturbations, "episode", "return", "length", "ended_early"])
    for one in evaluated:
        results = one.results
        before = [*(_facts(one)[name] for name in facts), policy, seed, *one.perturbations.values()]
        for episode, (gained, length, early) in enumerate(
            zip(results.returns.tolist(), results.lengths.tolist(), results.ended_early.tolist(), strict=True)
        ):
            rows.writerow([*before, episode, gained, length, int(early)])
    return text.getvalue()


def _facts(one: Evaluated) -> dict[str, Any]:
    config = one.opened.config
    return {
        "run": one.opened.directory.short_path(),
        "generation": one.opened.generation,
        "task": config.task.name,
        "algo": config.algo.name,
        "network": config.network.name,
        "num_neurons": config.network.num_neurons,
        "run_seed": config.seed,
    }


def _evaluation(one: Evaluated, energy: str | None) -> dict[str, Any]:
    returns, lengths, figures, task = one.returns, one.results.lengths, one.figures, one.opened.config.task
    per_step = {**figures._asdict(), "footprint": figures.footprint._asdict()}
    if energy is not None:
        per_step["energy_nj"] = energy_nj(figures, energy)
        per_step["energy_technology"] = energy
    return {
        **_facts(one),
        "edited": one.opened.edit._asdict() if one.opened.edit else None,
        "episodes": len(lengths),
        "perturbations": one.perturbations,
        "return": returns._asdict(),
        "length": {
            "mean": float(lengths.mean()),
            "minimum": int(lengths.min()),
            "maximum": int(lengths.max()),
            "limit": -(-task.episode_length // task.action_repeat),  # in actions
        },
        "ended_early": int(one.results.ended_early.sum()),
        "per_step": per_step,
    }
