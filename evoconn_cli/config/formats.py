"""The formats of `evoconn export-connectivity`: what each writes, which networks it holds, and what it needs.

To add one, write a module with its writer and an entry in `FORMATS`. A writer gets an `ExportSource` and a path that
does not exist yet, in an empty directory. When the writer is done, everything in that directory, including files beside
the path, is moved to the place that the user named.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from evoconn_cli.errors import ConfigError, EvoconnError, first_line, unknown_name

if TYPE_CHECKING:
    from evoconn_cli.config.schema import RunConfig

Held: TypeAlias = Literal["typed neurons", "spikes", "built in", "any"]
"""Networks that a format holds: of boolean connections between typed neurons, spiking ones, evoconn's own, or any."""

PROVENANCE_FILE = "provenance.json"
"""File of a bundle that says where its network comes from."""

TABLE_OPTIONS = ("--episode-steps", "--with-episode")


Sort: TypeAlias = Literal["degree", "community", "none"]
SORTS: tuple[Sort, ...] = get_args(Sort)
"""Orders of neurons in pictures, within their type."""

NirTau: TypeAlias = Literal["continuous", "euler"]
"""Time constants of NIR: the true ones, or those for readers that integrate by forward Euler."""

PANELS, STEPS_PANELS = "abcdefghij", "abcdef"
"""Letters of the panels in the figures of one step and of several steps."""
EPISODE_PANELS = "hij"
"""Letters of the panels that show a recorded episode."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of single formats.

    Attributes:
        nir_tau: Time constants of NIR.
        sort: Order of neurons in pictures.
        random_graphs: Number of random graphs with which a network is compared, at least 2.
        with_episode: Whether the recorded episode is written with the tables.
        width: Width of pictures [inches].
        title: Whether pictures have a title.
        panels: Letters of the panels of a picture, all if empty.
    """

    nir_tau: NirTau = "continuous"
    sort: Sort = "degree"
    random_graphs: int = 20
    with_episode: bool = False
    width: float = 7.0
    title: bool = True
    panels: str = ""


def parse_width(text: str) -> float:
    """Returns a length such as `7in` or `18cm` [inches].

    Raises:
        ConfigError: It is not a length from 1 to 40 inches.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) *(in|cm|mm)", text.strip())
    inches = float(found[1]) / {"in": 1.0, "cm": 2.54, "mm": 25.4}[found[2]] if found else 0.0
    if not 1 <= inches <= 40:
        raise ConfigError(f"--width {text}: expected a length from 1in to 40in, such as 7in, 3.4in, 18cm or 180mm.")
    return inches


def parse_panels(texts: Sequence[str]) -> str:
    """Returns the letters in lists such as `a,d`, each once.

    Raises:
        ConfigError: One is not the letter of a panel.
    """
    letters = dict.fromkeys(letter.strip().lower() for text in texts for letter in text.split(","))
    for letter in letters:
        if len(letter) != 1 or letter not in PANELS:
            raise ConfigError(f"--panel {','.join(texts)}: {letter!r} is no panel. Known: {', '.join(PANELS)}.")
    return "".join(letters)


class MissingPackageError(EvoconnError):
    """A format needs a package that is missing."""


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: Name on the command line.
        summary: Description in one line.
        writer: Module in `export/` and function, imported when the format is written.
        suffix: Suffix of the file; empty for a directory.
        holds: Networks that it holds.
        refusal: Why it does not serve others, after "FORMAT does not hold NETWORK: ".
        needs: Oldest version (or empty) of each package that may be missing.
        extra: Extra of evoconn that installs these packages.
        suffixes: Other suffixes that `--out` may have.
        beside: Endings of further files, after the stem of the first one.
        options: Options of the command that only some formats use.
        compares_steps: Whether one file can hold several steps.
        prints_statistics: Whether the command prints the statistics, too.
        megabytes_per_million: Size of a large file for a million possible connections, half of them existing [MB].
    """

    name: str
    summary: str
    writer: str
    suffix: str = ""
    holds: Held = "typed neurons"
    refusal: str = "its weights are real numbers, and the format is for boolean connections between typed neurons."
    needs: Mapping[str, str] = field(default_factory=dict)
    extra: str = "export"
    suffixes: Sequence[str] = ()
    beside: Sequence[str] = ()
    options: Sequence[str] = ()
    compares_steps: bool = False
    prints_statistics: bool = False
    megabytes_per_million: int = 0

    def load_writer(self) -> Callable[[Any, Path], None]:
        """Returns `writer(source, out)`, which writes to the path `out` and maybe beside it.

        Raises:
            MissingPackageError: A package that it needs is not installed, too old, or cannot be imported.
        """
        missing = [problem for package, least in self.needs.items() if (problem := _lack(package, least))]
        if missing:
            raise self._lacking(" and ".join(missing))
        module, function = self.writer.rsplit(".", 1)
        try:
            for package in self.needs:
                importlib.import_module(package)
            return getattr(importlib.import_module(f"evoconn_cli.export.{module}"), function)
        except ImportError as error:
            if not self.needs:
                raise
            raise self._lacking(f"{' and '.join(self.needs)} ({first_line(error)})") from error

    def _lacking(self, what: str) -> MissingPackageError:
        return MissingPackageError(
            f"{self.name} was not written: it needs {what}. Install that with pip install "
            f"'evoconn[{self.extra}]', or in a checkout pip install '.[{self.extra}]'."
        )


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(
            "bundle",
            "a directory with everything, and a NumPy simulator that reproduces the episode exactly",
            "bundle.writing.write_bundle",
            options=("--episode-steps",),
        ),
        Format(
            "npz",
            "connections and units as NumPy columns, or real weights",
            "table_files.write_npz",
            suffix=".npz",
            holds="any",
            options=TABLE_OPTIONS,
        ),
        Format("csv", "a directory with edges.csv and nodes.csv", "table_files.write_csv", options=TABLE_OPTIONS),
        Format(
            "parquet",
            "a directory with edges.parquet and nodes.parquet",
            "table_files.write_parquet",
            needs={"pyarrow": ""},
            options=TABLE_OPTIONS,
        ),
        Format(
            "graphml",
            "a graph for Gephi, Cytoscape, igraph and networkx",
            "table_files.write_graphml",
            suffix=".graphml",
            options=TABLE_OPTIONS,
            megabytes_per_million=118,
        ),
        Format(
            "brian2",
            "a directory with a Brian2 script that reproduces the recorded spikes",
            "brian2_script.write_brian2",
            options=("--episode-steps",),
        ),
        Format(
            "nir",
            "a graph for neuromorphic tools, and the recorded episode",
            "nir_graph.write_nir",
            suffix=".nir",
            holds="spikes",
            refusal="it has no spikes.",
            needs={"nir": "1.0.8", "h5py": ""},
            beside=("-recording.h5",),
            options=("--episode-steps", "--nir-tau"),
        ),
        Format(
            "onnx",
            "the policy as one environment step for ONNX Runtime and other programs",
            "onnx_model.write_onnx",
            suffix=".onnx",
            holds="built in",
            refusal="it is of a plug-in, and only the equations of evoconn's own networks can be written.",
            needs={"onnx": "1.16"},
            extra="onnx",
            options=("--episode-steps",),
        ),
        Format(
            "sonata",
            "a directory with circuit, spikes and reports in the SONATA format",
            "sonata.write_sonata",
            needs={"h5py": ""},
            options=("--episode-steps",),
        ),
        Format(
            "statistics",
            "measures of a network, or of several steps of it",
            "analysis.reports.write_statistics",
            suffix=".json",
            suffixes=(".csv",),
            options=("--random-graphs",),
            compares_steps=True,
            prints_statistics=True,
        ),
        *(
            Format(
                name,
                "a figure with statistics; for several steps, their course",
                "pictures.evolution_figure.write_picture",
                suffix=f".{name}",
                suffixes=(".png", ".pdf", ".svg"),
                needs={"matplotlib": "3.9"},
                options=("--sort", "--random-graphs", "--episode-steps", "--width", "--no-title", "--panel"),
                compares_steps=True,
                prints_statistics=True,
            )
            for name in ("png", "pdf", "svg")
        ),
        Format(
            "html",
            "an interactive page of every connection",
            "pictures.explorer_page.write_explorer",
            suffix=".html",
            options=("--sort", "--random-graphs", "--episode-steps"),
            prints_statistics=True,
        ),
    )
}


def find_formats(names: Sequence[str]) -> list[Format]:
    """Returns the formats with these names, without duplicates; a name may be a comma-separated list.

    Raises:
        ConfigError: A name is unknown.
    """
    wanted = dict.fromkeys(name.strip() for text in names for name in text.split(","))
    for name in wanted:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return [FORMATS[name] for name in wanted]


def check_format(one: Format, network: str, kinds: Mapping[Held, bool], *, is_boolean: bool) -> None:
    """Checks that a format can hold a network.

    Args:
        one: The format.
        network: Name of the network.
        kinds: Whether it is of each kind.
        is_boolean: Whether it has boolean connections.

    Raises:
        ConfigError: It cannot.
    """
    if not kinds[one.holds]:
        others = ", ".join(name for name, other in FORMATS.items() if kinds[other.holds]) or "none"
        untyped = is_boolean and one.holds == "typed neurons"
        refusal = "it needs probabilities of connections between typed neurons." if untyped else one.refusal
        raise ConfigError(f"{one.name} does not hold {network}: {refusal} Formats for {network}: {others}.")


def _lack(package: str, least: str) -> str:
    """Returns why a package is missing, as text; empty if it is installed and new enough."""
    from importlib import metadata

    if importlib.util.find_spec(package) is None:
        return f"{package} (not installed)"
    if least and _numbers(found := metadata.version(package)) < _numbers(least):
        return f"{package} {least} (installed: {found})"
    return ""


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def is_bundle(path: Path) -> bool:
    """Returns whether the directory `path` is a bundle."""
    return (path / "network.json").is_file() and (path / PROVENANCE_FILE).is_file()


def bundle_config(path: Path) -> RunConfig:
    """Returns the configuration in the provenance of a bundle.

    Raises:
        EvoconnError: It cannot be read, or uses a plug-in that is not loaded.
    """
    from evoconn_cli.config.loading import resolve_config
    from evoconn_cli.config.plugin_records import check_loaded
    from evoconn_cli.config.reading import read_overrides
    from evoconn_cli.config.schema import is_text

    try:
        provenance = json.loads((path / PROVENANCE_FILE).read_text(encoding="utf-8"))
        keys = provenance["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvoconnError(f"{path / PROVENANCE_FILE} cannot be read ({error}). Export the bundle again.") from None
    check_loaded(provenance, f"the bundle {path}")
    try:
        return resolve_config(read_overrides(keys, is_text))
    except ConfigError as error:
        raise EvoconnError(
            f"{path} has a configuration that this version of evoconn does not read: {error} Read it with the version "
            f"that wrote it, which is in {PROVENANCE_FILE}."
        ) from None
