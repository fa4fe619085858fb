"""The formats of `evoconn export-connectivity`: one entry each, with what it needs and which networks it serves.

To add one: a module with its writer, a function here that imports it and calls it, and an entry in `FORMATS`. A writer
is given an `ExportSource` and a path. The path does not exist yet, and its directory holds nothing else: whatever is
written in there, files beside `out` included, is moved to where the user wants it once the writer is done.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evoconn_cli.errors import ConfigError, EvoconnError, unknown_name

if TYPE_CHECKING:
    from evoconn_cli.export.analysis.statistics import Statistics
    from evoconn_cli.export.connectome import Connectome
    from evoconn_cli.export.episode import Episode


SORTS = ("degree", "community", "none")
"""Orders of neurons in pictures, within their type."""

NIR_TAUS = ("continuous", "euler")
"""Time constants of NIR: the true ones, or those for readers that integrate by forward Euler."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of single formats.

    Attributes:
        nir_tau: time constants of NIR, one of `NIR_TAUS`.
        sort: order of neurons in pictures, one of `SORTS`.
    """

    nir_tau: str = "continuous"
    sort: str = "degree"


@dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
        connectomes: one for every step that was asked for, by generation; all but formats that compare steps are given
            one at a time.
        record: `record() -> Episode` of the last connectome.
        provenance: where the network comes from, as JSON values: run, generation, versions, configuration.
        options: of single formats.
    """

    connectomes: Sequence[Connectome]
    record: Callable[[], Episode] = field(repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    options: ExportOptions = field(default_factory=ExportOptions)

    @property
    def connectome(self) -> Connectome:
        """The connectome, the last one where there are several."""
        return self.connectomes[-1]

    @functools.cached_property
    def episode(self) -> Episode:
        """The recorded episode, played when it is first asked for."""
        return self.record()

    @functools.cached_property
    def statistics(self) -> list[Statistics]:
        """The statistics of each connectome, computed when they are first asked for."""
        from evoconn_cli.export.analysis.statistics import connectome_statistics

        return [connectome_statistics(connectome) for connectome in self.connectomes]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: on the command line.
        suffix: of the file that it writes; empty for a directory.
        summary: what it is, in a line.
        write: `write(source, out)`.
        networks: the names of the networks that it serves.
        refusal: why it does not serve others, after "FORMAT does not hold NETWORK: ".
        needs: modules that are not part of a plain installation.
        extra: of `pip install 'evoconn[EXTRA]'`, which has them.
        suffixes: other suffixes that `--out` may ask for.
        compares_steps: it takes the connectomes of several steps together.
        prints_statistics: the command prints the statistics, too.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[[ExportSource, Path], None]
    networks: Sequence[str] = ("conn_snn",)
    refusal: str = "its weights are real numbers, and the format is for boolean connections between typed neurons."
    needs: Sequence[str] = ()
    extra: str = ""
    suffixes: Sequence[str] = ()
    compares_steps: bool = False
    prints_statistics: bool = False


def _write_bundle(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.bundle.writing import write_bundle

    write_bundle(source, out)


def _write_npz(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.npz_tables import write_npz

    write_npz(source, out)


def _write_csv(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.csv_tables import write_csv

    write_csv(source, out)


def _write_parquet(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.parquet_tables import write_parquet

    write_parquet(source, out)


def _write_graphml(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.graphml import write_graphml

    write_graphml(source, out)


def _write_nir(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.nir_graph import write_nir

    write_nir(source, out)


def _write_sonata(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.sonata import write_sonata

    write_sonata(source, out)


def _write_picture(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.pictures.picture import write_picture

    write_picture(source, out)


def _write_explorer(source: ExportSource, out: Path) -> None:
    from evoconn_cli.export.pictures.explorer_page import write_explorer

    write_explorer(source, out)


ALL_NETWORKS = ("conn_snn", "dense_snn", "gru", "lstm", "mlp")
SPIKING_NETWORKS = ("conn_snn", "dense_snn")

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("bundle", "", "a directory with all there is and a simulator that replays it", _write_bundle),
        Format("npz", ".npz", "connections and units as NumPy columns, or real weights", _write_npz, ALL_NETWORKS),
        Format("csv", "", "a directory with edges.csv and nodes.csv", _write_csv),
        Format(
            "parquet",
            "",
            "a directory with edges.parquet and nodes.parquet",
            _write_parquet,
            needs=("pyarrow",),
            extra="export",
        ),
        Format("graphml", ".graphml", "a graph for Gephi, Cytoscape, igraph and networkx", _write_graphml),
        Format(
            "nir",
            ".nir",
            "a graph of equations for neuromorphic tools, and the recorded episode",
            _write_nir,
            SPIKING_NETWORKS,
            refusal="it has no spikes.",
            needs=("nir", "h5py"),
            extra="nir",
        ),
        Format(
            "sonata",
            "",
            "a directory with circuit, spikes and reports as the SONATA guide has them",
            _write_sonata,
            needs=("h5py",),
            extra="export",
        ),
        Format(
            "png",
            ".png",
            "a figure with statistics; of several steps: how they moved",
            _write_picture,
            suffixes=(".pdf", ".svg"),
            compares_steps=True,
            prints_statistics=True,
        ),
        Format(
            "html",
            ".html",
            "a page to look through every connection",
            _write_explorer,
            prints_statistics=True,
        ),
    )
}


def find_formats(names: Sequence[str]) -> list[Format]:
    """Returns the formats of these names, each once; a name may be a list with commas.

    Raises:
        ConfigError: an unknown name.
    """
    wanted = dict.fromkeys(name.strip() for text in names for name in text.split(","))
    for name in wanted:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return [FORMATS[name] for name in wanted]


def check_format(one: Format, network: str) -> None:
    """Checks that a format can be written for a network.

    Raises:
        ConfigError: it is not for this network.
        EvoconnError: a package is not installed.
    """
    if network not in one.networks:
        others = ", ".join(name for name, other in FORMATS.items() if network in other.networks) or "none"
        raise ConfigError(f"{one.name} does not hold {network}: {one.refusal} Formats for {network}: {others}.")
    missing = [module for module in one.needs if importlib.util.find_spec(module) is None]
    if missing:
        raise EvoconnError(
            f"{one.name} needs {' and '.join(missing)}, not installed here: pip install 'evoconn[{one.extra}]'"
        )
