"""Connectomes: networks of a run as plain matrices and numbers, and the source that writers of formats get."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.config.schema import NetworkConfig, RunConfig
from evoconn_cli.networks import Gains, SpikingNeurons
from evoconn_cli.networks.lif import LifConstants

if TYPE_CHECKING:
    from evoconn_cli.export.analysis.statistics import Statistics
    from evoconn_cli.export.episode import Episode


@dataclasses.dataclass(frozen=True)
class Connectome:
    """One network of a run.

    Attributes:
        config: Configuration of the run.
        generation: Generation of the checkpoint.
        policy: How the connections were chosen: `deterministic`, `sampled`, or `edited` by hand.
        layers: `[pre, post]` by name, bool for conn_snn, else float32; conn_snn has `input` [2·O, N] from [x, -x],
            `recurrent` [N, N] and `output` [N, A].
        biases: `[post]` float32 by name; empty for spiking networks.
        probs: `[pre, post]` float32 evolved probability of each connection by layer; empty for real weights.
        neurons: Neurons of a spiking network, or None.
        obs_mean: `[O]` float32 mean of the normaliser.
        obs_std: `[O]` float32 standard deviation of the normaliser.
        action_size: A.
        equations: Equations of a network without spikes, line by line.
        obs_count: Observations that the normaliser has seen; 0 if that is unknown.
    """

    config: RunConfig
    generation: int
    policy: str
    layers: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]
    probs: dict[str, np.ndarray]
    neurons: SpikingNeurons | None
    obs_mean: np.ndarray
    obs_std: np.ndarray
    action_size: int
    equations: Sequence[str] = ()
    obs_count: float = 0.0

    @property
    def network(self) -> NetworkConfig:
        """Configuration of the network."""
        return self.config.network

    @property
    def constants(self) -> LifConstants:
        """Constants of the neurons of a spiking network."""
        return self._spiking_neurons.constants

    @property
    def gains(self) -> Gains:
        """Gains of a spiking network."""
        return self._spiking_neurons.gains

    @property
    def _spiking_neurons(self) -> SpikingNeurons:
        if self.neurons is None:
            raise ValueError(f"{self.network.name} has no spikes")
        return self.neurons

    @property
    def neuron_types(self) -> np.ndarray | None:
        """`[N]` int8, +1 excitatory and -1 inhibitory; None if there are no neurons with types."""
        return self.neurons.types if self.neurons else None

    @property
    def num_neurons(self) -> int:
        """N."""
        return self.config.network.num_neurons

    @property
    def observation_size(self) -> int:
        """O."""
        return len(self.obs_mean)


@dataclasses.dataclass(frozen=True)
class ExportSource:
    """The input of a format's writer.

    Attributes:
        connectomes: Connectomes by generation; several only for formats that compare steps.
        record: `record() -> episode` of the last connectome.
        provenance: Origin of the network as JSON values: run, generation, versions, configuration.
        options: Options of single formats.
        progress: Receives texts about the progress of the statistics.
    """

    connectomes: Sequence[Connectome]
    record: Callable[[], Episode] = dataclasses.field(repr=False)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: ExportOptions = dataclasses.field(default_factory=ExportOptions)
    progress: Callable[[str], None] = dataclasses.field(default=lambda text: None, repr=False)

    @property
    def connectome(self) -> Connectome:
        """The last connectome."""
        return self.connectomes[-1]

    @functools.cached_property
    def episode(self) -> Episode:
        """The episode, recorded on first use."""
        return self.record()

    @functools.cached_property
    def statistics(self) -> list[Statistics]:
        """The statistics of each connectome, computed on first use."""
        from evoconn_cli.export.analysis.statistics import connectome_statistics

        num = self.options.random_graphs

        def measure(connectome: Connectome) -> Statistics:
            def show(drawn: int) -> None:
                self.progress(f"statistics of generation {connectome.generation}: random graph {drawn} of {num}")

            return connectome_statistics(connectome, num_random_graphs=num, progress=show)

        return [measure(connectome) for connectome in self.connectomes]
