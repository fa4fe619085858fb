"""Tables as csv files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.equations import CONSTANTS_FILE, constants_document, write_json
from evoconn_cli.export.source import ExportSource
from evoconn_cli.export.tables import tables_of
from evoconn_cli.export.units import Table


def write_csv(source: ExportSource, out: Path) -> None:
    """Writes a directory with a file for each table, `columns.json`, which explains them, and `constants.json`.

    Args:
        source: a boolean network.
        out: the directory, which is made.
    """
    out.mkdir()
    facts: dict[str, Any] = {}
    for name, (table, columns) in tables_of(source).items():
        write_table(out / f"{name}.csv", table)
        facts[f"{name}.csv"] = columns
    facts["provenance"] = source.provenance
    write_json(out / "columns.json", facts)
    write_json(out / CONSTANTS_FILE, constants_document(source.connectome))


def write_table(path: Path, table: Table) -> None:
    """Writes a table with a line of names first; numbers so that they are read back to the last bit."""
    columns = [values.astype(str) if values.dtype.kind == "f" else values for values in table.values()]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*(values.tolist() for values in columns), strict=True))


def read_table(path: Path) -> Table:
    """Returns the columns of a csv file as text; row 0 is line 2 of the file.

    Raises:
        EvoconnError: the file cannot be read, or a line has more or fewer fields than the first one.
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
