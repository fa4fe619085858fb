"""The steps of `benchmarks.gpu_check` that train through the command line; their own process does not run JAX."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_findings import part_of_step, report
from evoconn_cli.runs.metrics import read_metrics

_GOAL, _TINY_GOAL = 1500.0, 1.0
"""Mean fitness that the first training is for."""

_LEARNING = ("--config", "laptop", "--population", "1024", "--generations", "1000")
_TINY_LEARNING = ("--config", "smoke", "--population", "32", "--generations", "1000", "network.num_neurons=32")
_LARGE = ("--task", "humanoid", "--population", "10240", "--generations", "100000")
_TINY_LARGE = ("--config", "smoke", "--population", "32", "--generations", "3", "network.num_neurons=32")

_SHARE_OF_TRAINING = 0.7
"""Share of the time that training may take; resuming and opening on a CPU take the rest."""

_ENDING_SECONDS = 20.0
"""Time to save and to end, with whatever the last generation takes [s]."""


def check_training(tiny: bool, seconds: float) -> None:
    """Trains to a fitness, goes on, and opens the checkpoint on a CPU."""
    run = Path(tempfile.mkdtemp(prefix="learning-")) / "run"
    _train(run, _TINY_LEARNING if tiny else _LEARNING, seconds * _SHARE_OF_TRAINING, _TINY_GOAL if tiny else _GOAL)
    with part_of_step("resumed"):
        done = _lines(run)[-1]["generation"]
        _evoconn("resume", str(run), "--generations", str(done + 2))
        report("resumed", generation_before=done, generation_after=_lines(run)[-1]["generation"])
    with part_of_step("checkpoint on a CPU"):
        results = run.parent / "evaluated.csv"
        _evoconn("evaluate", str(run), "--episodes", "4", "--csv", str(results), JAX_PLATFORMS="cpu")
        report("checkpoint on a CPU", episodes=len(results.read_text().splitlines()) - 1)


def check_large_training(tiny: bool, seconds: float) -> None:
    """Trains humanoid for as long as there is time."""
    run = Path(tempfile.mkdtemp(prefix="large-")) / "run"
    _train(run, _TINY_LARGE if tiny else _LARGE, seconds - _ENDING_SECONDS, None)


def _train(run: Path, options: tuple[str, ...], seconds: float, goal: float | None) -> None:
    """Trains until the mean fitness reaches `goal` or the time is over."""
    limit = ["--max-time", f"{max(10, int(seconds))}s", "--wandb", "disabled", "--run-dir", str(run)]
    command = [sys.executable, "-m", "evoconn_cli", "train", *options, *limit]
    reached = False
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if goal is not None and not reached and any((line["fitness_mean"] or 0.0) >= goal for line in _lines(run)):
                reached = True
                process.send_signal(signal.SIGINT)  # saves and ends
            time.sleep(0.2)
    lines = _lines(run)
    if not lines:
        raise RuntimeError(f"the training ended with exit code {process.returncode} before its first generation did")
    report(
        " ".join(options),
        exit_code=process.returncode,
        generations=len(lines),
        fitness_mean=lines[-1]["fitness_mean"],
        eval_fitness=lines[-1]["eval_fitness"],
        elapsed_s=lines[-1]["elapsed"],
        median_generation_s=statistics.median(line["seconds"] for line in lines),
        env_steps=lines[-1]["env_steps"],
        **({} if goal is None else {"goal": goal, "reached": reached}),
    )


def _lines(run: Path) -> list[dict[str, Any]]:
    return list(read_metrics(run / "metrics.jsonl"))


def _evoconn(*arguments: str, **environment: str) -> None:
    subprocess.run([sys.executable, "-m", "evoconn_cli", *arguments], check=True, env={**os.environ, **environment})
