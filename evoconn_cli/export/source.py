"""What a format is given to write: connectomes, an episode, where they come from, and the options of formats."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from evoconn_cli.config.formats import ExportOptions

if TYPE_CHECKING:
    from evoconn_cli.export.analysis.statistics import Statistics
    from evoconn_cli.export.connectome import Connectome
    from evoconn_cli.export.episode import AnyEpisode, Episode


@dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
        connectomes: one for every step that was asked for, by generation; all but formats that compare steps are given
            one at a time.
        record: `record() -> episode` of the last connectome.
        provenance: where the network comes from, as JSON values: run, generation, versions, configuration.
        options: of single formats.
        progress: is told in words how far the statistics are.
    """

    connectomes: Sequence[Connectome]
    record: Callable[[], AnyEpisode] = field(repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    options: ExportOptions = field(default_factory=ExportOptions)
    progress: Callable[[str], None] = field(default=lambda text: None, repr=False)

    @property
    def connectome(self) -> Connectome:
        """The connectome, the last one where there are several."""
        return self.connectomes[-1]

    @functools.cached_property
    def any_episode(self) -> AnyEpisode:
        """The recorded episode, played when it is first asked for."""
        return self.record()

    @property
    def episode(self) -> Episode:
        """The recorded episode of a spiking network."""
        return cast("Episode", self.any_episode)

    @functools.cached_property
    def statistics(self) -> list[Statistics]:
        """The statistics of each connectome, computed when they are first asked for."""
        from evoconn_cli.export.analysis.statistics import connectome_statistics

        num = self.options.random_graphs
        return [
            connectome_statistics(
                connectome,
                num_random_graphs=num,
                progress=lambda drawn, step=connectome.generation: self.progress(
                    f"statistics of generation {step}: random graph {drawn} of {num}"
                ),
            )
            for connectome in self.connectomes
        ]
