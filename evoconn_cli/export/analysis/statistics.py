"""Statistics of a connectome: density, wiring, balance and certainty."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from evoconn_cli.config.schema import EcConfig
from evoconn_cli.engine.strategies.connectivity import saturated_from
from evoconn_cli.export.analysis import graphs as measures
from evoconn_cli.export.analysis.graphs import find_communities, modularity, random_graph
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.units import (
    density_by_projection,
    excitatory_neurons,
    observation_weights,
    recurrent_graph,
    recurrent_inputs,
)


@dataclasses.dataclass(frozen=True)
class Certainty:
    """How decided probabilities are.

    Attributes:
        entropy: mean over connections [bits]; 1 is undecided.
        saturated: share of probabilities within 2·eps of a bound, or a tenth of the way to 1/2 where that is less.
    """

    entropy: float
    saturated: float


def certainty_by_layer(connectome: Connectome) -> dict[str, Certainty]:
    """Returns how decided the probabilities are, by layer and for `all` of them."""
    algo = connectome.config.algo
    assert isinstance(algo, EcConfig)
    every = np.concatenate([values.ravel() for values in connectome.probs.values()])
    return {name: certainty(probs, algo.eps) for name, probs in {"all": every, **connectome.probs}.items()}


def certainty(probs: np.ndarray, eps: float) -> Certainty:
    """Returns how decided probabilities of any shape are, which are within [eps, 1 - eps]."""
    entropy = -(probs * np.log2(probs) + (1 - probs) * np.log2(1 - probs))
    near_bound = (probs <= np.float32(saturated_from(eps))) | (probs >= np.float32(1 - saturated_from(eps)))
    return Certainty(float(entropy.mean(dtype=np.float64)), float(near_bound.mean()))


@dataclasses.dataclass(frozen=True)
class Degrees:
    """The distribution of a degree over neurons.

    Attributes:
        mean: of the degree.
        std: over neurons.
        skewness: third standardised moment; NaN where all are equal.
        kurtosis: fourth standardised moment less 3; NaN where all are equal.
        entropy: of the distribution [bits].
        independent_std: that connections drawn independently with the same density would have.
    """

    mean: float
    std: float
    skewness: float
    kurtosis: float
    entropy: float
    independent_std: float


def degree_statistics(degrees: np.ndarray, density: float) -> Degrees:
    """Returns the distribution of the `degrees` `[N]`, among connections of which the share `density` exists."""
    mean, std = float(degrees.mean()), float(degrees.std())
    standardised = (degrees - mean) / std if std > 0 else np.full(len(degrees), np.nan)
    return Degrees(
        mean=mean,
        std=std,
        skewness=float((standardised**3).mean()),
        kurtosis=float((standardised**4).mean() - 3),
        entropy=degree_entropy(degrees),
        independent_std=float(np.sqrt(len(degrees) * density * (1 - density))),
    )


def degree_entropy(degrees: np.ndarray) -> float:
    """Returns the Shannon entropy of the distribution of degrees over nodes [bits].

    Source: Solé and Valverde, Lecture Notes in Physics 650, 2004, without their "remaining" degree.
    """
    _, counts = np.unique(degrees, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum() + 0.0)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure of the recurrent network beside random graphs of the same degrees.

    Attributes:
        value: of the network.
        random_mean: over the random graphs.
        random_std: over the random graphs, of the sample.
    """

    value: float
    random_mean: float
    random_std: float

    @property
    def z(self) -> float:
        """How far from random, in standard deviations; NaN where random graphs do not differ."""
        return (self.value - self.random_mean) / self.random_std if self.random_std > 0 else float("nan")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of a connectome.

    Attributes:
        generation: of the checkpoint.
        policy: how the network was drawn.
        sizes: numbers of neurons by type, observations, actions and connections by layer.
        density: share of possible connections that exist, by layer and by the types that they join.
        self_connections: neurons that connect to themselves.
        random_graphs: how many the measures are compared with.
        reciprocity: share of connections whose reverse exists.
        clustering: mean clustering coefficient.
        path_length: mean distance between neurons.
        modularity: of the communities that Louvain's method finds.
        small_worldness: clustering relative to random over path length relative to random; above 1 is small-world.
        communities: sizes, largest first.
        components: sizes of the strongly connected components, largest first.
        unreached: neurons that no path from an observation reaches.
        without_effect: neurons from which no path leads to an action.
        in_degree: recurrent connections onto a neuron.
        out_degree: recurrent connections from a neuron.
        balance: mean over neurons of (E - I) / (E + I), counting recurrent connections onto the neuron.
        balance_std: over neurons.
        onto_actions: for each action, connections from excitatory (`E`) and inhibitory (`I`) neurons.
        certainty: by layer, and of all (`all`).
    """

    generation: int
    policy: str
    sizes: dict[str, int]
    density: dict[str, float]
    self_connections: int
    random_graphs: int
    reciprocity: Measure
    clustering: Measure
    path_length: Measure
    modularity: Measure
    small_worldness: float
    communities: list[int]
    components: list[int]
    unreached: int
    without_effect: int
    in_degree: Degrees
    out_degree: Degrees
    balance: float
    balance_std: float
    onto_actions: list[dict[str, int]]
    certainty: dict[str, Certainty]


def statistics_seconds(num_neurons: int, num_random_graphs: int) -> float:
    """Returns about how long the statistics of a network take on one CPU core [s]."""
    return 1.2 * (num_neurons / 1024) ** 2 * (1 + num_random_graphs)


def connectome_statistics(
    connectome: Connectome,
    seed: int = 0,
    num_random_graphs: int = 20,
    progress: Callable[[int], None] = lambda drawn: None,
) -> Statistics:
    """Returns the statistics of a conn_snn.

    Args:
        connectome: of a network with neuron types.
        seed: of the random graphs and of the order in which communities are searched.
        num_random_graphs: at least 2.
        progress: is told the number of each random graph, from 1, before it is drawn.
    """
    recurrent, output = connectome.layers["recurrent"], connectome.layers["output"]
    excitatory = excitatory_neurons(connectome)
    graph = recurrent_graph(connectome)
    rng = np.random.default_rng(seed)
    communities = find_communities(graph, rng)
    found = _measure(graph, communities)
    random = []
    for number in range(1, num_random_graphs + 1):
        progress(number)
        drawn = random_graph(graph, rng)
        random.append(_measure(drawn, find_communities(drawn, rng)))
    compared = {name: _compare(value, [other[name] for other in random]) for name, value in found.items()}
    onto = recurrent_inputs(connectome)
    balance = _defined((onto[0] - onto[1]) / np.where(onto[0] + onto[1], onto[0] + onto[1], np.nan))
    density = float(recurrent.mean())
    return Statistics(
        generation=connectome.generation,
        policy=connectome.policy,
        sizes=_sizes(connectome, excitatory),
        density=density_by_projection(connectome),
        self_connections=int(recurrent.diagonal().sum()),
        random_graphs=num_random_graphs,
        **compared,
        small_worldness=_small_worldness(compared),
        communities=np.bincount(communities).tolist(),
        components=measures.strong_components(graph).tolist(),
        unreached=_not_reached(np.any(observation_weights(connectome), axis=0), recurrent),
        without_effect=_not_reached(np.any(output, axis=1), recurrent.T),
        in_degree=degree_statistics(recurrent.sum(axis=0), density),
        out_degree=degree_statistics(recurrent.sum(axis=1), density),
        balance=float(balance.mean()) if len(balance) else float("nan"),
        balance_std=float(balance.std()) if len(balance) else float("nan"),
        onto_actions=[
            {"E": int(e), "I": int(i)}
            for e, i in zip(output[excitatory].sum(axis=0), output[~excitatory].sum(axis=0), strict=True)
        ],
        certainty=certainty_by_layer(connectome),
    )


def _measure(graph: np.ndarray, communities: np.ndarray) -> dict[str, float]:
    return {
        "reciprocity": measures.reciprocity(graph),
        "clustering": measures.clustering(graph),
        "path_length": measures.path_length(graph),
        "modularity": modularity(graph, communities),
    }


def _compare(value: float, random: list[float]) -> Measure:
    # Equal values have a mean that may differ from them in the last digit.
    spread = float(np.std(random, ddof=1)) if min(random) < max(random) else 0.0
    return Measure(value, float(np.mean(random)), spread)


def _small_worldness(compared: Mapping[str, Measure]) -> float:
    """Returns the quotient sigma; NaN where random graphs have no triangles or paths.

    Source: Humphries and Gurney, PLoS ONE 3, 2008.
    """
    clustering, path = compared["clustering"], compared["path_length"]
    if not (clustering.random_mean > 0 and path.random_mean > 0 and path.value > 0):
        return float("nan")
    return (clustering.value / clustering.random_mean) / (path.value / path.random_mean)


def _not_reached(reached: np.ndarray, connections: np.ndarray) -> int:
    """Returns how many neurons no path reaches from those that are `reached` `[N]`."""
    while True:
        more = reached | connections[reached].any(axis=0)
        if (more == reached).all():
            return int((~reached).sum())
        reached = more


def _defined(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _sizes(connectome: Connectome, excitatory: np.ndarray) -> dict[str, int]:
    return {
        "neurons": connectome.num_neurons,
        "excitatory": int(excitatory.sum()),
        "inhibitory": int((~excitatory).sum()),
        "observations": connectome.observation_size,
        "actions": connectome.action_size,
        **{f"{name}_connections": int(layer.sum()) for name, layer in connectome.layers.items()},
    }
