"""Reads and verifies bundles, including hand-edited ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse

from evoconn_cli.config.formats import PROVENANCE_FILE, bundle_config
from evoconn_cli.config.registry import find
from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.bundle import run_network
from evoconn_cli.export.bundle.document import changed_files, listed_files, read_document
from evoconn_cli.export.bundle.writing import EDGES_FILE, PACKED_FILE
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.edges import layers_from_edges
from evoconn_cli.export.text_files import read_table
from evoconn_cli.networks import Gains, Network

Layers: TypeAlias = dict[str, np.ndarray]
"""`[pre, post]` bool by name."""

Read: TypeAlias = Callable[[Path, Connectome], Layers]
"""Reads one form of the connections of a connectome."""

_NO_MATTER = ("README.md", "run_network.py", "episode.npz")
"""Files that do not affect the evaluated network."""


_REPLAY = """
import pathlib, runpy, sys

class OnlyNumPy:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top != "numpy" and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{top} is blocked: a bundle needs NumPy alone", name=name)

sys.meta_path.insert(0, OnlyNumPy())
simulator = runpy.run_path(sys.argv[1])
try:
    simulator["main"](pathlib.Path(sys.argv[2]))
except ValueError as error:
    sys.exit(f"not as recorded: {error}")
"""


class Edit(NamedTuple):
    """Changes made by hand."""

    form: str  # edited file or directory
    added: int  # connections
    removed: int  # connections

    def __str__(self) -> str:
        return f"edited in {self.form}: {self.removed} connections removed, {self.added} added"


@dataclass(frozen=True)
class Bundle:
    """A bundle.

    Attributes:
        path: Directory of the bundle.
        connectome: Connectome with the current connections.
        edit: Changes since the export, or None.
        provenance: Content of provenance.json.
    """

    path: Path
    connectome: Connectome
    edit: Edit | None
    provenance: dict[str, Any]

    def __str__(self) -> str:
        before = {"sampled": "sampled connections, ", "edited": "edited before, "}.get(self.provenance["policy"], "")
        return f"bundle, {before}{self.edit or 'as exported'}"


def read_bundle(path: Path) -> Bundle:
    """Returns the bundle at `path`.

    Raises:
        EvoconnError: A file that must not change was changed, edits cannot be read or contradict each other, or the
            bundle has another version.
    """
    changed = changed_files(path)
    fixed = [name for name in changed if _form_of(name) is None and name not in _NO_MATTER]
    if fixed:
        raise EvoconnError(
            f"{path / fixed[0]} was changed or is missing. In a bundle, only connections can be edited, in "
            f"{' or '.join(_FORMS)}; put {fixed[0]} back."
        )
    check_finite(path)
    document = read_document(path)
    provenance = json.loads((path / PROVENANCE_FILE).read_text(encoding="utf-8"))
    held, touched = ({_form_of(name) for name in names} for names in (listed_files(path), changed))
    edited = [form for form in _FORMS if form in touched]
    untouched = [form for form in _FORMS if form in held - touched]
    if not untouched and len(edited) < len(_FORMS):
        raise EvoconnError(
            f"{path} is a compact bundle, in which nothing can be edited, and {edited[0]} was changed: put it back. "
            "evoconn export-connectivity makes a bundle of it that can be edited."
        )
    if not untouched:
        raise EvoconnError(
            f"{path}: {', '.join(edited)} were all changed, so the exported connections are unknown. Edit one of them, "
            "and put the others back."
        )
    exported = _read_connectome(path, document, provenance, _FORMS[untouched[0]])
    layers, edit = _read_edits(path, exported, edited)
    policy = "edited" if edit else exported.policy
    return Bundle(path, dataclasses.replace(exported, layers=layers, policy=policy), edit, provenance)


def check_finite(path: Path) -> None:
    """Checks that the bundle at `path` is not of a run that had diverged.

    Raises:
        EvoconnError: A probability or the normaliser is not finite, or cannot be read.
    """
    for name in ("probabilities.npz", "normalizer.npz"):
        with _reading(path / name) as opened, np.load(opened) as arrays:
            for array in arrays:
                if not np.isfinite(arrays[array]).all():
                    raise EvoconnError(
                        f"{path / name}: {array} holds numbers that are not finite, so the run had diverged when it "
                        "was exported. Export an older step."
                    )


def _read_connectome(path: Path, document: dict[str, Any], provenance: dict[str, Any], read: Read) -> Connectome:
    """Returns the connectome as it was exported.

    Args:
        path: Directory of the bundle.
        document: Content of network.json.
        provenance: Content of provenance.json.
        read: Reads a form that was not edited.
    """
    config = bundle_config(path)
    sizes, constants = document["sizes"], document["constants"]
    network = find("network", config.network.name).made(
        Network, config.network, observation_size=sizes["observations"], action_size=sizes["actions"], on_cpu=True
    )
    assert network.neurons is not None
    gains = Gains(*(constants[f"gain_{layer}"]["value"] for layer in Gains._fields))
    with np.load(path / "normalizer.npz") as normalizer, np.load(path / "probabilities.npz") as probs:
        connectome = Connectome(
            config=config,
            generation=provenance["generation"],
            policy=provenance["policy"],
            layers={},
            biases={},
            probs={name: p.astype(np.float32) for name, p in probs.items()},  # in a compact bundle they are float16
            neurons=network.neurons._replace(gains=gains),
            obs_mean=normalizer["mean"],
            obs_std=normalizer["std"],
            obs_count=float(normalizer.get("count", 0)),
            action_size=sizes["actions"],
        )
    return dataclasses.replace(connectome, layers=read(path, connectome))


def _read_edits(path: Path, exported: Connectome, edited: list[str]) -> tuple[Layers, Edit | None]:
    """Returns the current connections, and the changes; a form that was only saved again is not edited.

    Args:
        path: Directory of the bundle.
        exported: Connectome as it was exported.
        edited: Forms whose files differ from the exported ones.
    """
    before = exported.layers
    found = {form: _FORMS[form](path, exported) for form in edited}
    found = {form: layers for form, layers in found.items() if any(_changes(before, layers))}
    if not found:
        return before, None
    first, now = next(iter(found.items()))
    for form, layers in found.items():
        if any(_changes(now, layers)):
            raise EvoconnError(
                f"{path}: {first} and {form} were both edited, and contradict each other. Edit one of them, and put "
                "the other back."
            )
    return now, Edit(" and ".join(found), *_changes(before, now))


def _changes(before: Layers, after: Layers) -> tuple[int, int]:
    """Returns the numbers of added and of removed connections."""
    added = sum(int((layer & ~before[name]).sum()) for name, layer in after.items())
    removed = sum(int((layer & ~after[name]).sum()) for name, layer in before.items())
    return added, removed


def _read_packed(path: Path, connectome: Connectome) -> Layers:
    """Returns the connections of kernels.npz; after an edit they may also be booleans `[pre, post]`."""
    file, layers = path / PACKED_FILE, {}
    with _reading(file) as opened, np.load(opened) as arrays:
        found = {name: arrays[name] for name in connectome.probs}
    for name, layer in found.items():
        pre, post = connectome.probs[name].shape
        if layer.dtype == np.uint8 and layer.shape == (pre, -(-post // 8)):
            layers[name] = np.unpackbits(layer, axis=1, count=post).astype(bool)
        elif layer.dtype == bool and layer.shape == (pre, post):
            layers[name] = layer
        else:
            raise EvoconnError(
                f"{file}: {name} is {layer.dtype} {list(layer.shape)}. Expected: bool [{pre}, {post}], or these "
                "packed along the second axis by numpy.packbits."
            )
    return layers


def _read_sparse(path: Path, connectome: Connectome) -> Layers:
    """Returns the connections of the SciPy files, the entries that are not zero."""
    layers = {}
    for name, probs in connectome.probs.items():
        file = path / "csr" / f"{name}.npz"
        with _reading(file) as opened:
            sparse = scipy.sparse.load_npz(opened)
            if sparse.shape != probs.shape:
                raise EvoconnError(f"{file} is {list(sparse.shape)}. Expected: {list(probs.shape)}.")
            layers[name] = sparse.toarray() != 0
    return layers


def _read_edges(path: Path, connectome: Connectome) -> Layers:
    """Returns the connections of edges.csv, one line each."""
    return layers_from_edges(read_table(path / EDGES_FILE), connectome, str(path / EDGES_FILE))


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    """Opens a file, and turns the exceptions of any type that damaged files raise into EvoconnErrors."""
    try:
        with file.open("rb") as opened:
            yield opened
    except EvoconnError:
        raise
    except Exception as error:
        raise EvoconnError(f"{file} cannot be read: {error}. Edit it again from a fresh export.") from None


_FORMS: dict[str, Read] = {PACKED_FILE: _read_packed, "csr": _read_sparse, EDGES_FILE: _read_edges}
"""Forms of the connections, fastest to read first."""


def _form_of(name: str) -> str | None:
    """Returns the form to which a file belongs."""
    return next((form for form in _FORMS if name == form or name.startswith(f"{form}/")), None)


def verify_bundle(folder: Path) -> str:
    """Returns the report of the simulator after replaying the recorded episode of a bundle.

    The simulator is the one of this version of evoconn, which replays bundles of all versions with its format; scripts
    in the bundle are not run.

    Raises:
        EvoconnError: A file was changed, or the replay differs; the message says where.
    """
    for name, holds in changed_files(folder).items():
        raise EvoconnError(f"{folder} is not what was exported: {name} ({holds}) was changed or is missing.")
    read_document(folder)  # refuses another format version
    check_finite(folder)
    simulator = Path(run_network.__file__)
    command = [sys.executable, "-I", "-c", _REPLAY, str(simulator), str(folder.absolute())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"it ended with the code {done.returncode}"]
        raise EvoconnError(f"{folder} does not verify: {lines[-1]}")
    said = " ".join(done.stdout.split())
    own = folder / simulator.name
    if not own.exists() or own.read_bytes() == simulator.read_bytes():
        return said
    return f"{said} Replayed by the simulator of this version of evoconn; the bundle has that of another one."
