"""The NIR graph, run by norse as the docs say. Neither torch nor norse is a dependency: pip install norse."""

from __future__ import annotations

import re

import pytest
from export_runs import recorded_source
from paths import DOCS

from evoconn_cli.export.nir_graph import write_nir

pytestmark = pytest.mark.filterwarnings("ignore")
for package, version in (("torch", None), ("nirtorch", "2.6"), ("norse.torch", None)):
    pytest.importorskip(package, minversion=version, reason=f"{package} is not installed", exc_type=ImportError)


def test_norse_gives_the_recorded_spikes_and_actions_with_the_lines_in_the_docs(tmp_path, monkeypatch):
    page = (DOCS / "export.md").read_text(encoding="utf-8")
    lines = page.split("### Running it in norse\n")[1].split("```python\n")[1].split("```")[0]
    (stem,) = set(re.findall(r'"([^"]*)(?:-recording\.h5|\.nir)"', lines))
    write_nir(recorded_source(tmp_path / "run", nir_tau="euler"), tmp_path / f"{stem}.nir")
    monkeypatch.chdir(tmp_path)
    seen = {}
    exec(lines, seen)
    assert len(seen["spikes"]) == 20 * 33 and sum(spikes.sum() for spikes in seen["spikes"]) > 100
