"""What `evoconn render` shows of a saved run, and where the file goes if nothing else is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evoconn_cli.rendering.episodes import Subject
    from evoconn_cli.runs.opened import OpenedRun


def make_subject(opened: OpenedRun, *, policy: str, seed: int) -> Subject:
    """Returns what is rendered.

    Args:
        opened: the run.
        policy: `deterministic`, or `sampled`: other connections in each episode, the same as in an evaluation.
        seed: of what is sampled.
    """
    from evoconn_cli.rendering.episodes import Subject
    from evoconn_cli.rendering.recording import PolicyParams, make_policy, policy_params
    from evoconn_cli.runs.candidates import candidates_of

    config = opened.config

    def params_of(episode: int) -> PolicyParams:
        candidates = candidates_of(opened, policy, seed, episode)
        return policy_params(opened.network, candidates, opened.state.normalizer)

    about = [config.network.name, f"{config.network.num_neurons} neurons", f"generation {opened.generation}"]
    if opened.bundle is not None:
        about.append("edited bundle" if opened.bundle.edit else "bundle")
    if policy == "sampled":
        about.append("sampled")
    return Subject(
        task=opened.task,
        policy=make_policy(opened.network, config.network),
        params_of=params_of,
        about=", ".join(about),
        warmup_steps=config.rollout.warmup_steps,
    )


def default_target(opened: OpenedRun, *, policy: str, seed: int, episode: int) -> Path:
    """Returns the file in the run that shows this policy from this episode of this seed on."""
    parts = [f"generation-{opened.generation}", f"seed-{seed}"]
    if policy == "sampled":
        parts.append("sampled")
    if episode:
        parts.append(f"episode-{episode}")
    return opened.directory.path / "videos" / f"{'-'.join(parts)}.mp4"
