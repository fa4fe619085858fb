"""How commands print: paths as they are, tables unfolded, and no character that ends the command."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from evoconn_cli.commands.terminal import make_console
from evoconn_cli.progress.formatting import say


def test_a_path_is_printed_as_it_is():
    file = io.StringIO()
    path = "/data/sweep[v2]/:100:/[/bold].png" + "/a" * 100
    say(Console(file=file, width=40), f"Written: {path}")
    assert file.getvalue() == f"Written: {path}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_table_in_a_pipe_is_whole_in_every_encoding(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    table = Table("returns")
    table.add_row("1,102 ± 122 – " + "4.5 × " * 20)
    make_console().print(table)
    sys.stdout.flush()
    (row,) = (line for line in raw.getvalue().decode(encoding).splitlines() if "1,102" in line)
    assert row.count("4.5") == 20
    assert "\\u2013" in row
