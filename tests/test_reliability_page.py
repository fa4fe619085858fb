"""docs/reliability.md: every test that it names exists, and so does every option."""

from __future__ import annotations

import ast
import re

import pytest
from paths import DOCS, TESTS
from typer.testing import CliRunner

from evoconn_cli.app import app

PAGE = (DOCS / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE)))


def test_each_promise_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_that_are_named_exist(file, name):
    tree = ast.parse(next(TESTS.rglob(file)).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_options_that_are_named_exist():
    shown = CliRunner().invoke(app, ["resume", "--help"], env={"COLUMNS": "200"}).output
    for option in re.findall(r"(?<=[ `])--[a-z-]+(?=[ `])", PAGE.split("## Weights & Biases")[0]):
        assert option in shown or option in ("--requeue",), option
