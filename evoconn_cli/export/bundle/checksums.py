"""Checksums of the files of a bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from evoconn_cli.errors import EvoconnError

CHECKSUMS_FILE = "checksums.json"


def write_checksums(folder: Path, holds: Mapping[str, str]) -> None:
    """Writes the SHA-256 of every file, and that of the list itself.

    Args:
        folder: of the files.
        holds: what each file holds, in words.
    """
    files = {name: [_digest((folder / name).read_bytes()), what] for name, what in holds.items()}
    document = {"files": files, "checksum": _digest_of_list(files)}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def changed_files(folder: Path) -> dict[str, str]:
    """Returns the files that are not what was exported, missing ones included, and what each holds.

    Raises:
        EvoconnError: a file or the checksums cannot be read, or these were changed themselves.
    """
    path = folder / CHECKSUMS_FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        files, own = listed["files"], listed["checksum"]
        entries = [(name, digest, what) for name, (digest, what) in files.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvoconnError(f"{path} cannot be read ({error}). Export the bundle again.") from None
    if _digest_of_list(files) != own:
        raise EvoconnError(f"{path} was changed: its own checksum is another one. Export the bundle again.")
    return {name: what for name, digest, what in entries if not _is(folder / name, digest)}


def _is(file: Path, digest: str) -> bool:
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
