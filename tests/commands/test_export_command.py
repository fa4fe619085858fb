"""`evoconn export-connectivity` as a user types it: which files there are, and how it says what is wrong."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from saved_runs import files_of, save_run

from evoconn_cli.config.formats import FORMATS, Format
from evoconn_cli.export.connectome import ExportSource


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = {name: save_run(folder / name, f"network.name={name}") for name in ("conn_snn", "dense_snn", "gru")}
    return {name: str(path) for name, path in made.items()}


@pytest.fixture
def evoconn(evoconn, monkeypatch, tmp_path):
    """Runs the command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(evoconn, "export-connectivity")


@pytest.mark.slow
def test_a_bundle_is_written_into_the_run_when_nothing_is_asked_for(evoconn, tmp_path):
    run = save_run(tmp_path / "run")
    before = files_of(run)
    code, out, _ = evoconn("run")
    assert code == 0 and out == "bundle: run/exports/generation-6-bundle\n"
    (written,) = (run / "exports").iterdir()
    assert (written / "README.md").is_file()
    assert {name: fact for name, fact in files_of(run).items() if not name.startswith("exports")} == before


@pytest.mark.slow
def test_several_formats_and_steps_at_once(evoconn, runs, tmp_path):
    code, out, _ = evoconn(
        runs["conn_snn"], "--format", "npz,csv", "--format", "graphml", "--format", "npz", "--out", "deep/all",
        "--step", "4,latest",
    )  # fmt: skip
    assert code == 0
    names = [f"generation-{n}{end}" for n in (4, 6) for end in ("-csv", ".graphml", ".npz")]
    assert sorted(path.name for path in Path("deep/all").iterdir()) == sorted(names)
    assert sorted(line.split("/")[-1] for line in out.splitlines()) == sorted(names)


@pytest.mark.slow
def test_all_steps(evoconn, runs):
    assert evoconn(runs["conn_snn"], "--format", "npz", "--out", "all", "--step", "all")[0] == 0
    assert {path.name for path in Path("all").iterdir()} == {f"generation-{n}.npz" for n in (4, 6)}


@pytest.mark.slow
def test_a_step_in_the_path(evoconn, runs):
    assert evoconn(f"{runs['conn_snn']}/checkpoints/4", "--format", "npz", "--out", "one.npz")[0] == 0
    assert Path("one.npz").is_file()
    code, _, err = evoconn(f"{runs['conn_snn']}/checkpoints/4", "--step", "6")
    assert code == 2 and "leave one out" in err


@pytest.mark.slow
def test_sampled_connections_depend_on_the_seed_and_have_names_of_their_own(evoconn, runs):
    for seed in ("1", "2"):
        assert evoconn(
            runs["conn_snn"], "--format", "bundle,npz", "--out", "s", "--policy", "sampled", "--seed", seed
        )[0] == 0  # fmt: skip
    kernels = [np.load(f"s/generation-6-sampled-{seed}-bundle/kernels.npz")["recurrent"] for seed in (1, 2)]
    assert (kernels[0] != kernels[1]).any()
    provenance = json.loads(Path("s/generation-6-sampled-2-bundle/provenance.json").read_text())
    assert (provenance["policy"], provenance["seed"]) == ("sampled", 2)


@pytest.mark.slow
def test_what_exists_is_replaced_only_when_asked(evoconn, runs):
    assert evoconn(runs["conn_snn"], "--out", "bundle", "--episode-steps", "2")[0] == 0
    Path("bundle/edges.csv").write_text("mine")
    Path("bundle/notes.txt").write_text("mine too")
    before = files_of(Path("bundle"))
    code, _, err = evoconn(runs["conn_snn"], "--out", "bundle")
    assert code == 2 and "bundle exists already" in err and "--force" in err and files_of(Path("bundle")) == before
    assert evoconn(runs["conn_snn"], "--out", "bundle", "--force", "--verify", "--episode-steps", "2")[0] == 0
    assert Path("bundle/notes.txt").read_text() == "mine too"


@pytest.mark.slow
def test_both_forms_of_nir_fit_in_a_directory_and_every_file_is_looked_at_before_the_work(evoconn, runs, monkeypatch):
    for tau in ("continuous", "euler"):
        assert evoconn(
            runs["conn_snn"], "--format", "nir", "--nir-tau", tau, "--out", "d", "--step", "all", "--episode-steps", "2"
        )[0] == 0  # fmt: skip
    ends = (".nir", "-recording.h5", "-euler.nir", "-euler-recording.h5")
    assert {path.name for path in Path("d").iterdir()} == {f"generation-{n}{end}" for n in (4, 6) for end in ends}
    Path("d/generation-6.nir").unlink()
    monkeypatch.setattr("evoconn_cli.evaluation.exporting.record_episode", None)
    code, _, err = evoconn(runs["conn_snn"], "--format", "nir", "--out", "d/generation-6.nir")
    assert code == 2 and "d/generation-6-recording.h5 exists already" in err


@pytest.mark.slow
def test_nothing_is_left_where_writing_fails(evoconn, runs, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evoconn_cli.export.bundle.writing.write_checksums", fail)
    code, _, err = evoconn(runs["conn_snn"], "--out", "there/bundle", "--episode-steps", "2")
    assert code == 1 and "there/bundle cannot be written: No space left on device" in err
    assert list(Path("there").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "kinds"), [("dense_snn", {"any", "built in", "spikes"}), ("gru", {"any", "built in"})]
)
def test_a_format_that_does_not_hold_a_network_says_why(evoconn, runs, network, kinds):
    held = [name for name, one in FORMATS.items() if one.holds in kinds]
    for name, one in FORMATS.items():
        if one.holds not in kinds:
            code, _, err = evoconn(runs[network], "--format", name)
            assert code == 2 and f"{name} does not hold {network}: {one.refusal}" in err
            assert f"Formats for {network}: {', '.join(held)}." in err
    assert not (Path(runs[network]) / "exports").exists()


def test_formats_say_all_that_the_command_needs():
    for name, one in FORMATS.items():
        assert one.name == name and one.summary
        assert one.suffix == "" or one.suffix.startswith(".")
        module, function = one.writer.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(f"evoconn_cli.export.{module}"), function))


@pytest.mark.slow
def test_long_work_and_large_files_are_announced_before_they_begin(evoconn, runs, tmp_path, monkeypatch):
    """Without doing them: what writes is told what was said before."""
    large = save_run(tmp_path / "large", "network.num_neurons=1024", eval_fitness={2: 1.0})
    written = []

    def load_writer(one):
        return lambda source, out: (written.append(one.name), out.touch())

    monkeypatch.setattr(Format, "load_writer", load_writer)
    monkeypatch.setattr("evoconn_cli.export.analysis.reports.statistics_table", lambda statistics: "")
    monkeypatch.setattr(ExportSource, "statistics", [])
    code, _, err = evoconn(str(large), "--format", "png,graphml,html", "--out", "big")
    assert code == 0 and written == ["png", "graphml", "html"]
    assert re.search(r"statistics of a network of 1024 neurons, beside 20 random graphs, take about 30 s", err)
    assert re.search(r"generation-2\.graphml takes about a minute and becomes 12\d MB large", err)
    code, _, err = evoconn(runs["conn_snn"], "--format", "png,graphml", "--out", "small")
    assert code == 0 and "Notice" not in err


@pytest.mark.slow
def test_a_missing_package_keeps_only_its_own_format_from_being_written(evoconn, runs, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "pyarrow" else real(name, *a))
    code, out, err = evoconn(runs["conn_snn"], "--format", "parquet,csv,npz", "--step", "all", "--out", "all")
    written = {f"generation-{n}{end}" for n in (4, 6) for end in ("-csv", ".npz")}
    assert {path.name for path in Path("all").iterdir()} == written and len(out.splitlines()) == 4
    assert code == 1 and err.count("parquet was not written: it needs pyarrow (not installed).") == 1
    assert "pip install 'evoconn[export]'" in err
    assert evoconn(runs["conn_snn"], "--format", "parquet", "--out", "one")[0] == 1
    assert not Path("one").exists()


def test_a_package_that_is_too_old_is_named_with_what_is_needed(evoconn, runs, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0.7")
    code, _, err = evoconn(runs["conn_snn"], "--format", "nir")
    assert code == 1 and "nir was not written: it needs nir 1.0.8 (installed: 1.0.7)" in err


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_is_missing_too(evoconn, runs, monkeypatch):
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow.lib", None)
    code, _, err = evoconn(runs["conn_snn"], "--format", "parquet,npz", "--out", "both")
    assert code == 1 and "parquet was not written: it needs pyarrow (import of pyarrow.lib" in err
    assert [path.name for path in Path("both").iterdir()] == ["generation-6.npz"]


def test_the_extra_installs_what_the_formats_need():
    extra = " ".join(importlib.metadata.requires("evoconn") or [])
    for one in FORMATS.values():
        for package, least in one.needs.items():
            assert f"{package}>={least}" in extra


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "cvs"], "unknown format 'cvs'. Did you mean 'csv'?"),
        (["--format", "npz", "--out", "a.csv"], "--out a.csv: npz is a file. End its name with .npz."),
        (
            ["--format", "statistics", "--episode-steps", "2"],
            "--episode-steps does nothing for statistics: it is for bundle, npz, csv, parquet, graphml, brian2",
        ),
        (
            ["--format", "png,npz", "--nir-tau", "euler"],
            "--nir-tau does nothing for png, npz: it is for nir. Leave it out.",
        ),
        (["--with-episode"], "--with-episode does nothing for bundle: it is for npz, csv, parquet, graphml."),
        (["--sort", "none"], "--sort does nothing for bundle: it is for png, pdf, svg, html."),
        (
            ["--random-graphs", "9"],
            "--random-graphs does nothing for bundle: it is for statistics, png, pdf, svg, html.",
        ),
        (["--step", "5"], "has no generation 5. Saved: 4, 6."),
        (["--step", "4,"], "--step 4,: a name is missing beside a comma"),
        (["--step", "4,newest"], "expected latest, best or the number of a generation"),
        (["--out", "file/bundle"], "file is a file, not a directory"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(evoconn, runs, arguments, message):
    Path("file").touch()
    code, out, err = evoconn(runs["conn_snn"], *arguments)
    assert code in (1, 2) and message in err and out == ""
    assert len(err.splitlines()) == 1


def test_what_is_no_run_is_told(evoconn, tmp_path):
    code, _, err = evoconn("nowhere")
    assert code == 1 and "no run at nowhere" in err
    (tmp_path / "empty").mkdir()
    code, _, err = evoconn("empty", "--verify")
    assert code == 1 and "is not a run or a checkpoint" in err


def test_a_path_is_said_as_it_is(evoconn, runs):
    code, out, err = evoconn(runs["conn_snn"], "--format", "npz", "--out", "a[v2] :100:.npz")
    assert code == 0, err
    assert "npz: a[v2] :100:.npz" in out and Path("a[v2] :100:.npz").exists()
