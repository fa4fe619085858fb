"""`python -m tools.zoo`: adds a trained network to the zoo, and writes the table of its results into the documentation.

python -m tools.zoo add humanoid runs/humanoid-ec --step best     a new network, or a better one in its place
python -m tools.zoo table                                         README.md and docs/zoo.md from zoo/*/zoo.json
python -m tools.zoo picture                                       docs/zoo.png, a still of each
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.curves import thin
from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.config.registry import zoo_dir, zoo_names
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.runs.metrics import read_metrics
from tools.reference.markdown import table

RECORD = "zoo.json"
"""File of a network of the zoo with its results, their origin, and the learning curve."""

HOLDS = ("network.json", "kernels.npz", "neurons.npz", "normalizer.npz", "probabilities.npz", "episode.npz")
"""Files of a bundle that are kept, besides the provenance; the others have the connections in other forms."""

_RECORDED = ("observation", "spikes", "raw_action")
"""Arrays of the recorded episode that are kept: all others follow from them, and the replay computes them."""

_LEVELS = 255
"""Steps between 0 and 1 to which probabilities are rounded."""

_STILL = 280, 200
"""Width and height of a still of the picture [pixels]."""

_PUBLISHED = {"hopper": 2450, "walker2d": 4610, "humanoid": 12200}
"""Final returns of the paper's `conn_snn` by `ec`; see docs/reproducing.md."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the tool with the arguments of its command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.zoo", description=(__doc__ or "").partition(":")[2])
    commands = parser.add_subparsers(dest="command", required=True)
    adds = commands.add_parser("add", help="export, verify and evaluate a network, and write its record")
    adds.add_argument("name", help="name in the zoo, usually that of the task")
    adds.add_argument("run", type=Path, help="directory of the run")
    adds.add_argument("--step", default="best", help="checkpoint: a generation, latest or best (default)")
    adds.add_argument("--episode-steps", type=int, default=30, help="steps of the recorded episode (30)")
    adds.add_argument("--episodes", type=int, default=128, help="episodes of the evaluation (128)")
    adds.add_argument(
        "--trained-by",
        metavar="COMMAND",
        help="command of the training, without --generations; by default that in run.json",
    )
    adds.add_argument("--machine", help="machine of the training; by default the devices in run.json")
    adds.add_argument("--force", action="store_true", help="replace a network of this name")
    commands.add_parser("table", help="write the table of the results into the documentation")
    commands.add_parser("picture", help="draw a still of each network for the documentation")
    given = parser.parse_args(arguments)
    try:
        if given.command == "add":
            add(
                given.name,
                given.run,
                given.step,
                episode_steps=given.episode_steps,
                episodes=given.episodes,
                trained_by=given.trained_by,
                machine=given.machine,
                force=given.force,
            )
        if given.command == "picture":
            draw_picture()
        else:
            write_pages()
    except EvoconnError as error:
        sys.exit(f"Error: {error}")


def add(
    name: str,
    run: Path,
    step: str = "best",
    *,
    episode_steps: int = 30,
    episodes: int = 128,
    trained_by: str | None = None,
    machine: str | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Returns the new directory in the zoo, with a verified compact bundle and the record of its evaluation.

    Args:
        name: Name in the zoo.
        run: Directory of the run.
        step: Checkpoint: a generation, `latest` or `best`.
        episode_steps: Steps of the recorded episode.
        episodes: Episodes of the evaluation, with the random seed 0.
        trained_by: Command of the training, to which the generation is added; by default those in run.json.
        machine: Machine of the training; by default its devices in run.json.
        force: Whether to replace a network of this name.
        say: Called with what is done, in words.

    Raises:
        EvoconnError: The name is taken, or the network cannot be exported, replayed or evaluated.
    """
    from evoconn_cli.api import load_run
    from evoconn_cli.evaluation.exporting import make_source, open_steps
    from evoconn_cli.export.bundle.reading import verify_bundle
    from evoconn_cli.export.bundle.writing import write_bundle

    target = zoo_dir() / name
    if target.exists() and not force:
        raise ConfigError(f"{target} exists already. Choose another name, or replace it with --force.")
    opened = open_steps(run, step, say)
    source = make_source(
        opened, policy="deterministic", seed=0, max_steps=episode_steps, options=ExportOptions(), progress=say
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / name
        write_bundle(source, bundle)
        compact(bundle)
        say(f"verified: {verify_bundle(bundle)}")
        evaluated = load_run(bundle).evaluate(episodes)
        record = _record(run, opened[0].generation, trained_by=trained_by, machine=machine)
        record["evaluation"] = {"episodes": episodes, "seed": 0, **evaluated.summary._asdict()}
        record["evaluation"]["mean_length"] = float(np.mean(evaluated.lengths))
        (bundle / RECORD).write_text(_to_json(record), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(bundle, target)
    size = sum(file.stat().st_size for file in target.iterdir())
    say(f"{target}: {evaluated.summary.mean:,.0f} ({evaluated.summary.std:,.0f}), {size / 1000:.0f} kB")
    return target


def compact(bundle: Path) -> None:
    """Leaves only what replays, evaluates and exports a bundle, in as few bytes as that takes.

    Probabilities are rounded to multiples of 1/255, but stay on their side of 1/2 and within their bounds.
    """
    from evoconn_cli.export.bundle.document import write_checksums
    from evoconn_cli.export.bundle.writing import HOLDS as DESCRIPTIONS
    from evoconn_cli.export.bundle.writing import PROVENANCE_FILE

    with np.load(bundle / "probabilities.npz") as probs:
        rounded = {name: _rounded(p) for name, p in probs.items()}
    np.savez_compressed(bundle / "probabilities.npz", allow_pickle=False, **rounded)
    with np.load(bundle / "episode.npz") as episode:
        kept = {name: episode[name] for name in _RECORDED}
    np.savez_compressed(bundle / "episode.npz", allow_pickle=False, **kept)
    held = {name: DESCRIPTIONS[name] for name in (*HOLDS, PROVENANCE_FILE)}
    for name in DESCRIPTIONS.keys() - held.keys():
        (bundle / name).unlink()
    (bundle / "csr").rmdir()
    write_checksums(bundle, held)


def _rounded(probs: np.ndarray) -> np.ndarray:
    """Returns float16 probabilities that take few bytes: multiples of 1/255, of which none is 1/2, or a bound.

    Connections that cannot form keep a probability of 0, and only they have it.
    """
    levels = np.ceil(probs.astype(np.float64) * _LEVELS - 0.5) / _LEVELS
    lowest = np.min(probs, where=probs > 0, initial=1)
    return np.where(probs > 0, np.clip(levels, lowest, probs.max()), 0).astype(np.float16)


def _record(run: Path, generation: int, *, trained_by: str | None, machine: str | None) -> dict[str, Any]:
    """Returns what is known of the training up to a generation."""
    from evoconn_cli.runs.directory import RunDirectory

    directory = RunDirectory.open(run)
    config, facts = directory.read_config(), directory.read_facts()
    lines = [line for line in read_metrics(directory.metrics_file) if (line.get("generation") or 0) <= generation]
    if not lines:
        raise EvoconnError(f"{directory.metrics_file} has no line up to generation {generation}: restore it.")
    resumed = [start.get("command") for start in facts.get("resumed") or [] if isinstance(start, dict)]
    return {
        "task": config.task.name,
        "network": f"{config.network.name}, {config.network.num_neurons} neurons",
        "strategy": config.algo.name,
        "evaluation": {},
        "published": _PUBLISHED.get(config.task.name),
        "seed": config.seed,
        "generation": generation,
        "env_steps": lines[-1]["env_steps"],
        "seconds": round(float(lines[-1]["elapsed"] or 0)),
        "machine": machine or facts.get("devices"),
        "commands": [f"{trained_by} --generations {generation}"]
        if trained_by
        else list(dict.fromkeys([facts.get("command"), *resumed])),
        "git_commit": facts.get("git_commit"),
        "curve": thin(lines),
    }


def _to_json(record: dict[str, Any]) -> str:
    """Returns a record with one line per entry."""
    nested = {"evaluation", "curve"}
    lines = []
    for key, value in record.items():
        if key in nested:
            inner = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in value.items())
            lines.append(f"  {json.dumps(key)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_records() -> dict[str, dict[str, Any]]:
    """Returns the records of all networks of the zoo, by name."""
    return {name: json.loads((zoo_dir() / name / RECORD).read_text(encoding="utf-8")) for name in zoo_names()}


def results() -> str:
    """Returns the table of the zoo: returns beside the published ones, and what they took."""
    titles = ("network", "return", "published", "environment steps", "training", "seed")
    rows = []
    for name, record in read_records().items():
        found, published = record["evaluation"], record["published"]
        rows.append(
            (
                f"`zoo:{name}`",
                f"**{found['mean']:,.0f}** ± {found['std']:,.0f}",
                f"{published:,}" if published else "",
                f"{record['env_steps'] / 1e6:,.0f} million",
                f"{_duration(record['seconds'])} on {record['machine']}",
                str(record["seed"]),
            )
        )
    return table(titles, rows)


def commands() -> str:
    """Returns the commands that trained the networks of the zoo, for a shell."""
    lines = [f"# zoo:{name}\n" + "\n".join(record["commands"]) for name, record in read_records().items()]
    return "```\n" + "\n\n".join(lines) + "\n```\n"


def draw_picture() -> None:
    """Writes docs/zoo.png, with a still of each network of the zoo in the middle of its first episode."""
    from PIL import Image, ImageDraw, ImageFont

    from tools.reference.figures import ROOT

    names, (width, height), columns = zoo_names(), _STILL, 3
    picture = Image.new("RGB", (columns * width, -(-len(names) // columns) * height), "white")
    draw = ImageDraw.Draw(picture)
    with tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(names):
            still = Path(folder) / f"{name}.png"
            options = ["--no-overlay", "--size", f"{width}x{height}", "--out", str(still)]
            subprocess.run([sys.executable, "-m", "evoconn_cli", "render", f"zoo:{name}", *options], check=True)
            place = index % columns * width, index // columns * height
            picture.paste(Image.open(still), place)
            draw.text((place[0] + 8, place[1] + 6), name, font=ImageFont.load_default(14), fill="white")
    picture.save(ROOT / "docs" / "zoo.png", optimize=True)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def write_pages() -> None:
    """Writes README.md and the pages of docs/ that have figures, this table among them."""
    from tools.reference.figures import ROOT, pages_with_figures

    for name, text in pages_with_figures().items():
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
