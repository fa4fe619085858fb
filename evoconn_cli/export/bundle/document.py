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
    config = connectome.config
    connections = {name: int(layer.sum()) for name, layer in connectome.layers.items()}
    excitatory = int(excitatory_neurons(connectome).sum())
    files = "\n".join(f"| `{name}` | {what} |" for name, what in holds.items())
    update = "\n".join(f"    {line}" for line in UPDATE)
    arithmetic = "\n".join(f"- {line}" for line in _ARITHMETIC_RULES)
    constants = connectome.constants
    network_ms, task_ms = constants.num_substeps * constants.dt_ms, 1000 * episode.dt_s
    return f"""# A spiking network that was evolved for {config.task.name}

- {connectome.num_neurons} neurons: the first {excitatory} are excitatory, the others inhibitory.
- {connections["input"]} connections from {2 * connectome.observation_size} inputs, {connections["recurrent"]} among
  neurons, {connections["output"]} to {connectome.action_size} actions. A connection is there or not; none has a weight.
- Generation {connectome.generation}, {connectome.policy} connections; written by evoconn {__version__}.

    python run_network.py

replays the recorded episode of {episode.num_steps} steps with NumPy alone, and says where the first difference is, if
there is one. In a program of your own: `from run_network import Network`.

| file | holds |
|---|---|
{files}
| `checksums.json` | SHA-256 of each file |

Arrays have the names of the equations below. There are T steps of S = {constants.num_substeps} sub-steps,
O = {connectome.observation_size} observations, N = {connectome.num_neurons} neurons and
A = {connectome.action_size} actions.

| array | in | |
|---|---|---|
| `input` [2·O, N], `recurrent` [N, N], `output` [N, A] | `kernels.npz` | bits, packed along the last axis |
| the same | `csr/NAME.npz` | for `scipy.sparse.load_npz` |
| the same | `probabilities.npz` | float32, the evolved probability of each connection |
| `sign` [N] | `neurons.npz` | 1 excitatory, -1 inhibitory |
| `v`, `i_syn`, `rate` [N], `spikes` [N] bool | `neurons.npz` | state in which the episode begins |
| `mean`, `std` [O], `count` | `normalizer.npz` | of the observations so far; their number |
| `observation`, `x` [T, O], `i_in` [T, N] | `episode.npz` | of each step |
| `spikes` [T, S, ceil(N / 8)] | `episode.npz` | bits, packed along the last axis |
| `v`, `i_syn`, `rate` [T, N] | `episode.npz` | at the end of each step |
| `raw_action`, `action` [T, A], `reward` [T] | `episode.npz` | of each step |

Bits are those of `numpy.packbits`: `numpy.unpackbits(array, axis=-1, count=N)`, of `output` with `count=A`.

`network.json` has the constants with their units, also as hex floats; `float32` is the number that is computed with.

## The network

{update}

## To the last bit

{arithmetic}

## Time

A step is {constants.num_substeps} sub-steps of {constants.dt_ms:g} ms, {network_ms:g} ms for the network; the task
simulates {task_ms:g} ms meanwhile. Neither follows from the other: the network gets {constants.step_ms:g} ms per step,
rounded to whole sub-steps, in every task. Time constants and rates are in the time of the network: `rate` in
spikes per ms, `firing_rate` in `nodes.csv` in spikes/s. Potentials and currents have no unit.

## Tables

`weight` in `edges.csv` is the gain of the layer times the sign of the sender. In step 9 the sign is in `rate` already,
so the gain alone counts there. A connection exists where its probability is above 1/2, unless connections were
sampled. Row t of `episode.npz` has the observation before step t, what follows from it, and the state after it.

## Changing it

Add or remove connections in one form, `edges.csv`, `kernels.npz` or the files in `csr/`, and leave the others as they
are. A row of `edges.csv` needs `layer`, `pre` and `post` alone:

    evoconn evaluate THIS_DIRECTORY

says what was changed, and evaluates the network as it is now. `evoconn export-connectivity THIS_DIRECTORY --out NEW`
makes a bundle of it, with an episode of its own.
"""
