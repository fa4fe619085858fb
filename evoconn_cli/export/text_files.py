"""Reads and writes the text files of exports: JSON and csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.units import Table


def write_json(path: Path, value: Any, *, ascii_only: bool = False) -> None:
    """Writes a JSON file, indented for people to read; `ascii_only` escapes all other characters."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=ascii_only) + "\n", encoding="utf-8")


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a csv file with a header line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_table(path: Path, table: Table) -> None:
    """Writes a table as csv; floating-point numbers are read back to the last bit."""
    columns = [values.astype(str) if values.dtype.kind == "f" else values for values in table.values()]
    write_rows(path, table, zip(*(values.tolist() for values in columns), strict=True))


def read_table(path: Path) -> Table:
    """Returns the columns of a csv file as text; row 0 is line 2 of the file.

    Raises:
        EvoconnError: The file cannot be read, or a line has more or fewer fields than the first one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvoconnError(f"{path} cannot be read: {error}. Write it as comma-separated UTF-8 text.") from None
    while rows and not any(rows[-1]):
        rows.pop()
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise EvoconnError(
                f"{path}, line {number}: {len(row)} fields, but the first line names {len(header)}. Separate fields by "
                "commas, and leave no empty lines between others."
            )
    names = [name.strip() for name in header]
    return {name: np.array([row[i].strip() for row in rows], dtype=str) for i, name in enumerate(names)}
