"""Tables as parquet files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from evoconn_cli.export.edges import EDGE_COLUMNS, edge_table
from evoconn_cli.export.source import ExportSource
from evoconn_cli.export.units import NODE_COLUMNS, Table, node_table


def write_parquet(source: ExportSource, out: Path) -> None:
    """Writes a directory with `edges.parquet` and `nodes.parquet`.

    Text columns are dictionary-encoded. Every column has its `description` in the metadata of its field; the schema
    has `provenance` as JSON.

    Args:
        source: a boolean network.
        out: the directory, which is made.
    """
    out.mkdir()
    connectome, provenance = source.connectome, source.provenance
    parquet.write_table(_arrow(edge_table(connectome), EDGE_COLUMNS, provenance), out / "edges.parquet")
    parquet.write_table(_arrow(node_table(connectome), NODE_COLUMNS, provenance), out / "nodes.parquet")


def _arrow(table: Table, descriptions: Mapping[str, str], provenance: Mapping[str, Any]) -> pa.Table:
    fields, arrays = [], []
    for name, values in table.items():
        array = pa.array(values)
        array = array.dictionary_encode() if values.dtype.kind == "U" else array
        fields.append(pa.field(name, array.type, metadata={"description": descriptions[name]}))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, {"provenance": json.dumps(provenance)}))
