"""Tables as parquet files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from evoconn_cli.export.equations import CONSTANTS_FILE, constants_document, write_json
from evoconn_cli.export.source import ExportSource
from evoconn_cli.export.tables import tables_of
from evoconn_cli.export.units import Table


def write_parquet(source: ExportSource, out: Path) -> None:
    """Writes a directory with a file for each table, such as `edges.parquet`, and `constants.json`.

    Text columns are dictionary-encoded. Every column has its `description` in the metadata of its field; the schema
    has `provenance` as JSON.

    Args:
        source: a boolean network.
        out: the directory, which is made.
    """
    out.mkdir()
    for name, (table, columns) in tables_of(source).items():
        parquet.write_table(_arrow(table, columns, source.provenance), out / f"{name}.parquet")
    write_json(out / CONSTANTS_FILE, constants_document(source.connectome))


def _arrow(table: Table, descriptions: Mapping[str, str], provenance: Mapping[str, Any]) -> pa.Table:
    fields, arrays = [], []
    for name, values in table.items():
        array = pa.array(values)
        array = array.dictionary_encode() if values.dtype.kind == "U" else array
        fields.append(pa.field(name, array.type, metadata={"description": descriptions[name]}))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, {"provenance": json.dumps(provenance)}))
