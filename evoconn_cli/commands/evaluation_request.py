"""What `evoconn evaluate` is asked for, checked before any work."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from evoconn_cli.commands.options import check_policy
from evoconn_cli.config.perturbations import KINDS, parse_perturbations
from evoconn_cli.errors import ConfigError, unknown_name


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of `evoconn evaluate`, as its help describes them."""

    runs: list[str]
    step: str | None
    episodes: int
    seed: int
    policy: str
    perturb: list[str]
    curve: Path | None
    energy: str | None
    reference: list[str]
    json: str | None
    csv: Path | None
    plot: Path | None
    plot_x: str
    devices: int | None

    def checked(self) -> Request:
        """Returns the request with `NAME=VALUE` arguments taken for what they are: more of `--perturb`.

        Raises:
            ConfigError: an option that cannot be followed.
        """
        request = _with_perturbations_among_runs(self)
        _check(request)
        return request

    def described(self) -> dict[str, Any]:
        """Returns what is said about all episodes beside their results."""
        return {"policy": self.policy, "seed": self.seed, "energy": self.energy}


def _with_perturbations_among_runs(request: Request) -> Request:
    def is_perturbation(text: str) -> bool:
        return "=" in text and text.partition("=")[0] in KINDS and not Path(text).exists()

    more = [text for text in request.runs if is_perturbation(text)]
    runs = [text for text in request.runs if not is_perturbation(text)]
    if not runs:
        raise ConfigError("no run is named. Add a run directory, or a directory of checkpoints.")
    return dataclasses.replace(request, runs=runs, perturb=[*request.perturb, *more])


def _check(request: Request) -> None:
    from evoconn_cli.output import check_output
    from evoconn_cli.runs.evaluation.comparison import parse_references
    from evoconn_cli.runs.evaluation.neurobench import ENERGY_PJ

    check_policy(request.policy)
    if request.energy is not None and request.energy not in ENERGY_PJ:
        raise unknown_name("technology of --energy", request.energy, ENERGY_PJ)
    if request.episodes == 0:
        _check_only_plot(request)
    parse_references(request.reference)
    settings = parse_perturbations(request.perturb)
    if request.plot or request.curve or len(settings) > 1:
        from evoconn_cli.drawing.canvas import FORMATS

        for option, path in (("--plot", request.plot), ("--curve", request.curve)):
            if path is not None:
                check_output(path, option, FORMATS)
    for option, path in (("--csv", request.csv), ("--json", None if request.json == "-" else request.json)):
        if path is not None:
            check_output(Path(path), option)


def _check_only_plot(request: Request) -> None:
    if request.plot is None:
        raise ConfigError("--episodes 0 without --plot leaves nothing to do.")
    of_episodes = {
        "--json": request.json,
        "--csv": request.csv,
        "--curve": request.curve,
        "--perturb": request.perturb,
        "--energy": request.energy,
        "--reference": request.reference,
    }
    if asked := [option for option, value in of_episodes.items() if value]:
        raise ConfigError(f"--episodes 0 only draws --plot: leave {' and '.join(asked)} out, or ask for episodes.")
