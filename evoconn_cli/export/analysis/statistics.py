"""Statistics of a connectome: density, wiring, balance and certainty."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from evoconn_cli.engine.strategies.connectivity import saturated_from
from evoconn_cli.export.analysis import graphs
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
    """Certainty of probabilities.

    Attributes:
        entropy: Mean entropy over connections [bits]; 1 is undecided.
        saturated: Share of probabilities within 2·eps of a bound, or within a tenth of the way to 1/2 if that is less.
    """

    entropy: float
    saturated: float


def certainty_by_layer(connectome: Connectome) -> dict[str, Certainty]:
    """Returns the certainty of the probabilities, by layer and for `all` of them."""
    eps = getattr(connectome.config.algo, "eps", 0.0)  # 0 of a strategy whose probabilities have no bounds
    every = np.concatenate([values.ravel() for values in connectome.probs.values()])
    return {name: certainty(probs, eps) for name, probs in {"all": every, **connectome.probs}.items()}


def certainty(probs: np.ndarray, eps: float) -> Certainty:
    """Returns the certainty of probabilities of any shape, which are within [eps, 1 - eps]."""
    entropy = -(probs * np.log2(probs) + (1 - probs) * np.log2(1 - probs))
    near_bound = (probs <= np.float32(saturated_from(eps))) | (probs >= np.float32(1 - saturated_from(eps)))
    return Certainty(float(entropy.mean(dtype=np.float64)), float(near_bound.mean()))


@dataclasses.dataclass(frozen=True)
class Degrees:
    """The distribution of a degree over neurons.

    Attributes:
        mean: Mean degree.
        std: Standard deviation over neurons.
        skewness: Third standardised moment; NaN if all are equal.
        kurtosis: Fourth standardised moment minus 3; NaN if all are equal.
        entropy: Entropy of the distribution [bits].
        independent_std: Standard deviation if connections were drawn independently with the same density.
    """

    mean: float
    std: float
    skewness: float
    kurtosis: float
    entropy: float
    independent_std: float


def degree_statistics(degrees: np.ndarray, density: float) -> Degrees:
    """Returns the distribution of `degrees` `[N]` in a network in which the share `density` of connections exists."""
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
    """A measure of the recurrent network compared with random graphs of the same degrees.

    Attributes:
        value: Value in the network.
        random_mean: Mean over the random graphs.
        random_std: Sample standard deviation over the random graphs.
    """

    value: float
    random_mean: float
    random_std: float

    @property
    def z(self) -> float:
        """Distance from random in standard deviations; NaN if all random graphs are equal."""
        return (self.value - self.random_mean) / self.random_std if self.random_std > 0 else float("nan")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of a connectome.

    Attributes:
        generation: Generation of the checkpoint.
        policy: How the network was drawn.
        sizes: Numbers of neurons by type, of observations and actions, and of connections by layer.
        density: Share of possible connections that exist, by layer and by the types that they join.
        self_connections: Number of neurons that connect to themselves.
        random_graphs: Number of random graphs with which measures are compared.
        reciprocity: Share of connections whose reverse exists.
        clustering: Mean clustering coefficient.
        path_length: Mean distance between neurons.
        modularity: Modularity of the communities that Louvain's method finds.
        small_worldness: Clustering relative to random over path length relative to random; above 1 is small-world.
        communities: Sizes of the communities, largest first.
        components: Sizes of the strongly connected components, largest first.
        unreached: Number of neurons that no path from an observation reaches.
        without_effect: Number of neurons from which no path leads to an action.
        in_degree: Recurrent connections onto a neuron.
        out_degree: Recurrent connections from a neuron.
        balance: Mean over neurons of (E - I) / (E + I), counting recurrent connections onto the neuron.
        balance_std: Standard deviation over neurons.
        onto_actions: Per action, connections from excitatory (`E`) and inhibitory (`I`) neurons.
        certainty: Certainty of the probabilities, by layer and of all (`all`).
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
    """Returns the approximate time that the statistics of a network take on one CPU core [s]."""
    return 1.2 * (num_neurons / 1024) ** 2 * (1 + num_random_graphs)


def connectome_statistics(
    connectome: Connectome,
    seed: int = 0,
    num_random_graphs: int = 20,
    progress: Callable[[int], None] = lambda drawn: None,
) -> Statistics:
    """Returns the statistics of a conn_snn.

    Args:
        connectome: Connectome with neuron types.
        seed: Random seed of the random graphs and of the search for communities.
        num_random_graphs: Number of random graphs, at least 2.
        progress: Receives the number of each random graph, from 1, before it is drawn.
    """
    recurrent, output = connectome.layers["recurrent"], connectome.layers["output"]
    excitatory = excitatory_neurons(connectome)
    graph = recurrent_graph(connectome)
    rng = np.random.default_rng(seed)
    communities = graphs.find_communities(graph, rng)
    found = _measure(graph, communities)
    random = []
    for number in range(1, num_random_graphs + 1):
        progress(number)
        drawn = graphs.random_graph(graph, rng)
        random.append(_measure(drawn, graphs.find_communities(drawn, rng)))
    compared = {name: _compare(value, [other[name] for other in random]) for name, value in found.items()}
    onto = recurrent_inputs(connectome)
    balance = (onto[0] - onto[1]) / np.where(onto[0] + onto[1], onto[0] + onto[1], np.nan)
    balance = balance[np.isfinite(balance)]
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
        components=graphs.strong_components(graph).tolist(),
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
        "reciprocity": graphs.reciprocity(graph),
        "clustering": graphs.clustering(graph),
        "path_length": graphs.path_length(graph),
        "modularity": graphs.modularity(graph, communities),
    }


def _compare(value: float, random: list[float]) -> Measure:
    # The mean of equal values may differ from them in the last digit.
    spread = float(np.std(random, ddof=1)) if min(random) < max(random) else 0.0
    return Measure(value, float(np.mean(random)), spread)


def _small_worldness(compared: Mapping[str, Measure]) -> float:
    """Returns the quotient sigma; NaN if random graphs have no triangles or paths.

    Source: Humphries and Gurney, PLoS ONE 3, 2008.
    """
    clustering, path = compared["clustering"], compared["path_length"]
    if not (clustering.random_mean > 0 and path.random_mean > 0 and path.value > 0):
        return float("nan")
    return (clustering.value / clustering.random_mean) / (path.value / path.random_mean)


def _not_reached(reached: np.ndarray, connections: np.ndarray) -> int:
    """Returns the number of neurons to which no path leads from the `reached` `[N]` ones."""
    while True:
        more = reached | connections[reached].any(axis=0)
        if (more == reached).all():
            return int((~reached).sum())
        reached = more


def _sizes(connectome: Connectome, excitatory: np.ndarray) -> dict[str, int]:
    return {
        "neurons": connectome.num_neurons,
        "excitatory": int(excitatory.sum()),
        "inhibitory": int((~excitatory).sum()),
        "observations": connectome.observation_size,
        "actions": connectome.action_size,
        **{f"{name}_connections": int(layer.sum()) for name, layer in connectome.layers.items()},
    }
