"""Where the files that tests read are."""

from __future__ import annotations

import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "evoconn_cli"
LIGHT_EVOCONN = (sys.executable, str(SUPPORT / "light_evoconn.py"))
"""The command line with an engine that need not be compiled."""
