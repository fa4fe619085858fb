"""Reading a bundle, also one whose connections were edited by hand.

The connections are in a bundle in three forms, of which one may be edited; the others then say what was there before.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse
from omegaconf import OmegaConf

from evoconn_cli.config.loading import resolve_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.bundle import EDGES_FILE, KERNELS_FILE, NETWORK_FILE, PROVENANCE_FILE
from evoconn_cli.export.bundle_document import FORMAT, VERSION
from evoconn_cli.export.checksums import changed_files

Kernels: TypeAlias = dict[str, np.ndarray]
"""`[pre, post]` bool by name."""

Shapes: TypeAlias = dict[str, tuple[int, int]]

_NO_MATTER = ("README.md", "run_network.py", "episode.npz")
"""Files that say nothing about the network that is evaluated."""


class Edit(NamedTuple):
    """What was changed by hand."""

    form: str  # the file or directory that was edited
    added: int  # connections
    removed: int  # connections

    def __str__(self) -> str:
        return f"edited in {self.form}: {self.removed} connections removed, {self.added} added"


@dataclass(frozen=True)
class Bundle:
    """A bundle.

    Attributes:
        path: of the directory.
        config: of the run that the network comes from.
        generation: of the checkpoint.
        policy: `deterministic` or `sampled`, how the connections were drawn before they were edited.
        kernels: `[pre, post]` bool by name, edits included.
        probs: `[pre, post]` float32 evolved probabilities by kernel.
        obs_mean: `[O]` float32 of the normaliser.
        obs_std: `[O]` float32 of the normaliser.
        edit: None where the connections are as exported.
        provenance: what provenance.json holds.
    """

    path: Path
    config: RunConfig
    generation: int
    policy: str
    kernels: Kernels
    probs: Kernels
    obs_mean: np.ndarray
    obs_std: np.ndarray
    edit: Edit | None
    provenance: dict[str, Any]


def is_bundle(path: Path) -> bool:
    """Returns whether the directory `path` is a bundle."""
    return (path / NETWORK_FILE).is_file() and (path / PROVENANCE_FILE).is_file()


def read_bundle(path: Path) -> Bundle:
    """Returns the bundle at `path`.

    Raises:
        EvoconnError: a file that must not be changed was, edits that cannot be read or that contradict each other.
    """
    changed = changed_files(path)
    fixed = [name for name in changed if _form_of(name) is None and name not in _NO_MATTER]
    if fixed:
        raise EvoconnError(
            f"{path / fixed[0]} was changed or is missing. In a bundle, connections alone can be edited, in "
            f"{' or '.join(_FORMS)}; put {fixed[0]} back."
        )
    document, provenance = _read_json(path / NETWORK_FILE), _read_json(path / PROVENANCE_FILE)
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise EvoconnError(
            f"{path} is a bundle of version {document.get('version')}; this version of evoconn reads {VERSION}."
        )
    sizes = document["sizes"]
    inputs, neurons, actions = sizes["inputs"], sizes["neurons"], sizes["actions"]
    shapes = {"input": (inputs, neurons), "recurrent": (neurons, neurons), "output": (neurons, actions)}
    kernels, edit = _read_kernels(path, shapes, changed)
    with np.load(path / "normalizer.npz") as normalizer, np.load(path / "probabilities.npz") as probs:
        return Bundle(
            path=path,
            config=resolve_config(OmegaConf.create(provenance["config"])),
            generation=provenance["generation"],
            policy=provenance["policy"],
            kernels=kernels,
            probs=dict(probs),
            obs_mean=normalizer["mean"],
            obs_std=normalizer["std"],
            edit=edit,
            provenance=provenance,
        )


def _read_kernels(path: Path, shapes: Shapes, changed: list[str]) -> tuple[Kernels, Edit | None]:
    """Returns the connections as they are now, and what was edited."""
    edited = [form for form in _FORMS if form in {_form_of(name) for name in changed}]
    untouched = [form for form in _FORMS if form not in edited]
    if not untouched:
        raise EvoconnError(
            f"{path}: {', '.join(edited)} were all changed, so nothing says what was exported. Edit one of them, and "
            "put the others back."
        )
    before = _FORMS[untouched[0]](path, shapes)
    now = before
    for index, form in enumerate(edited):
        found = _FORMS[form](path, shapes)
        if index > 0 and _num_connections(now, found):
            raise EvoconnError(
                f"{path}: {edited[0]} and {form} were both edited, and do not say the same. Edit one of them, and put "
                "the other back."
            )
        now = found
    edit = Edit(" and ".join(edited), _num_connections(now, before), _num_connections(before, now))
    return now, edit if edit.added or edit.removed else None


def _num_connections(of: Kernels, without: Kernels) -> int:
    """Returns how many connections there are that are not in `without`."""
    return sum(int((kernel & ~without[name]).sum()) for name, kernel in of.items())


def _read_packed(path: Path, shapes: Shapes) -> Kernels:
    """Returns the connections of kernels.npz; after an edit they may also be there as booleans `[pre, post]`."""
    with _reading(path / KERNELS_FILE), np.load(path / KERNELS_FILE) as arrays:
        found = {name: arrays[name] for name in shapes}
    for name, kernel in found.items():
        pre, post = shapes[name]
        if kernel.dtype == np.uint8 and kernel.shape == (pre, -(-post // 8)):
            found[name] = np.unpackbits(kernel, axis=1, count=post).astype(bool)
        elif kernel.dtype != bool or kernel.shape != shapes[name]:
            raise EvoconnError(
                f"{path / KERNELS_FILE}: {name} is {kernel.dtype} {list(kernel.shape)}. Expected: bool [{pre}, {post}], or "
                f"these packed along the second axis by numpy.packbits."
            )
    return found


def _read_sparse(path: Path, shapes: Shapes) -> Kernels:
    """Returns the connections of the SciPy files; what is not zero is a connection."""
    found = {}
    for name, shape in shapes.items():
        file = path / "csr" / f"{name}.npz"
        with _reading(file):
            found[name] = scipy.sparse.load_npz(file).toarray() != 0
        if found[name].shape != shape:
            raise EvoconnError(f"{file} is {list(found[name].shape)}. Expected: {list(shape)}.")
    return found


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turns what NumPy and SciPy raise about a file into an error that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EvoconnError(f"{file} cannot be read: {error}. Edit it again from a fresh export.") from None


_FORMS: dict[str, Callable[[Path, Shapes], Kernels]] = {KERNELS_FILE: _read_packed, "csr": _read_sparse}
"""The forms of the connections."""


def _form_of(name: str) -> str | None:
    """Returns the form that a file belongs to."""
    return next((form for form in _FORMS if name == form or name.startswith(f"{form}/")), None)


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))
