"""The documents of a bundle: network.json, README.md and checksums.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli import __version__
from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.equations import UPDATE, constants_with_units, sizes
from evoconn_cli.export.text_files import write_json
from evoconn_cli.export.units import excitatory_neurons, unit_names

CHECKSUMS_FILE = "checksums.json"


_FORMAT = "evoconn-bundle"

_VERSION = 2

_READABLE = (1, 2)
"""Versions that can be read; in version 1 arrays had other names, see `run_network.load`."""

NETWORK_FILE = "network.json"

_ARITHMETIC_RULES = (
    "All numbers are float32: each operation that is written above is rounded to the nearest float32, one by one. "
    "Constants are the numbers under `float32`.",
    "fma(a, b, c) is a · b + c, rounded once. If `arithmetic.fused` is false: a · b is rounded, and then the sum. The "
    "product gain_recurrent · arrived in step 4 is rounded before.",
    "A rounded result, or an observation, whose magnitude is below 2^-126 is subnormal, and replaced by 0 of the same "
    "sign; the product within an fma is no result.",
    "Sums add up their terms one after the other, from +0. Terms that are 0 may be left out in step 2. In step 9 they "
    "may not, since places decide which terms are added first.",
    "S(N terms): as long as there are more than 32 terms, these are made a multiple of 32 by zeros at both ends, of m "
    "missing ones floor(m / 2) in front and the others behind; the sums of each 32 neighbours are the new terms. What "
    "is left is added up. 75 terms, for example: 10 zeros in front, 11 behind, three sums, and the sum of these.",
    "If `arithmetic.exact_actions` is false, raw_action and action agree with the recording to 1e-5, and all else to "
    "the last bit.",
)


def write_checksums(folder: Path, holds: Mapping[str, str]) -> None:
    """Writes the SHA-256 of every file, and of the list itself.

    Args:
        folder: Directory of the bundle.
        holds: Description of each file by name.
    """
    files = {name: [_digest((folder / name).read_bytes()), what] for name, what in holds.items()}
    write_json(folder / CHECKSUMS_FILE, {"files": files, "checksum": _digest_of_list(files)})


def changed_files(folder: Path) -> dict[str, str]:
    """Returns the changed and missing files of a bundle with their descriptions.

    Raises:
        EvoconnError: A file or the checksums cannot be read, or the checksums themselves were changed.
    """
    entries = listed_files(folder)
    return {name: what for name, (digest, what) in entries.items() if not _has_digest(folder / name, digest)}


def listed_files(folder: Path) -> dict[str, tuple[str, str]]:
    """Returns digest and description of each file that a bundle was written with, by name.

    A compact bundle, as in the zoo, has only the files that it needs.

    Raises:
        EvoconnError: The checksums cannot be read, or were changed.
    """
    path = folder / CHECKSUMS_FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        files, own = listed["files"], listed["checksum"]
        entries = {name: (digest, what) for name, (digest, what) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvoconnError(f"{path} cannot be read ({error}). Export the bundle again.") from None
    if _digest_of_list(files) != own:
        raise EvoconnError(f"{path} was changed: its own checksum is another one. Export the bundle again.")
    return entries


def _has_digest(file: Path, digest: str) -> bool:
    try:
        return _digest(file.read_bytes()) == digest
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError as error:
        raise EvoconnError(f"{file} cannot be read: {error.strerror}. Make it readable.") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of_list(files: Mapping[str, list[str]]) -> str:
    return _digest(json.dumps(files, sort_keys=True).encode())


def read_document(folder: Path) -> dict[str, Any]:
    """Returns the content of network.json in a bundle.

    Raises:
        EvoconnError: This version of evoconn does not read the format of the bundle.
    """
    document = json.loads((folder / NETWORK_FILE).read_text(encoding="utf-8"))
    if document.get("format") != _FORMAT or document.get("version") not in _READABLE:
        known = " and ".join(map(str, _READABLE))
        raise EvoconnError(
            f"{folder} is a bundle of version {document.get('version')}; this version of evoconn reads {known}."
        )
    return document


def network_document(connectome: Connectome, episode: Episode, *, fused: bool, exact_actions: bool) -> dict[str, Any]:
    """Returns the content of network.json.

    Args:
        connectome: Connectome of a boolean network.
        episode: Recorded episode of the network.
        fused: Whether the recording rounds a · b + c once, not twice.
        exact_actions: Whether its read-out sums are replayed to the last bit, not only to 1e-5.
    """
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "network": connectome.network.name,
        "task": connectome.config.task.name,
        "sizes": sizes(connectome),
        "names": unit_names(connectome),
        "constants": constants_with_units(connectome),
        "update": list(UPDATE),
        "arithmetic": {
            "type": "float32",
            "fused": fused,
            "exact_actions": exact_actions,
            "rules": list(_ARITHMETIC_RULES),
        },
        "kernels": "[pre, post]; in kernels.npz packed along post as by numpy.packbits",
        "episode": {
            "steps": episode.num_steps,
            "step_seconds": episode.dt_s,
            "ended": episode.ended,
            "return": float(np.sum(episode.rewards, dtype=np.float64)),
            "spikes": int(episode.spikes.sum()),
            "steps_equal_to_the_program_of_training": episode.steps_as_trained,
        },
    }


def readme(connectome: Connectome, episode: Episode, holds: Mapping[str, str]) -> str:
    """Returns the text of README.md.

    Args:
        connectome: Connectome of a boolean network.
        episode: Recorded episode of the network.
        holds: Description of each file by name.
    """
    connections = {name: int(layer.sum()) for name, layer in connectome.layers.items()}
    excitatory = int(excitatory_neurons(connectome).sum())
    files = "\n".join(f"| `{name}` | {what} |" for name, what in holds.items())
    update = "\n".join(f"    {line}" for line in UPDATE)
    arithmetic = "\n".join(f"- {line}" for line in _ARITHMETIC_RULES)
    constants = connectome.constants
    template = Path(__file__).with_name("readme.md").read_text(encoding="utf-8")
    return template.format(
        connectome=connectome,
        constants=constants,
        episode=episode,
        excitatory=excitatory,
        connections=connections,
        num_inputs=2 * connectome.observation_size,
        network_ms=constants.num_substeps * constants.dt_ms,
        task_ms=1000 * episode.dt_s,
        files=files,
        update=update,
        arithmetic=arithmetic,
        version=__version__,
    )
