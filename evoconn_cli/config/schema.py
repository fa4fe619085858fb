"""The configuration of a run: every key with its type, unit, range, default and where that comes from.

The dataclasses are OmegaConf structured configs. `docs/configuration.md` is written from them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from evoconn_cli.config.registry import TASKS, WANDB_MODES

PUBLISHED = "published"
"""The paper (arXiv 2305.17650) or its code."""
MEASURED = "measured"
"""A figure in docs/."""
OWN = "own"
"""A decision of this software."""

MOST_NEURONS = 16_384
"""The recurrent weights of so many, for the four gates of an LSTM, are still counted in 32 bits."""


def option(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: Sequence[str] = (),
    source: str = "",
) -> Any:
    """Returns a dataclass field that carries its documentation and its range.

    Args:
        default: the default value; `dict` for a mapping that is empty by default.
        doc: one sentence for the reference.
        unit: unit of the value, empty for pure numbers.
        low: smallest allowed value.
        high: largest allowed value.
        above: the value must be larger than this.
        below: the value must be smaller than this.
        choices: the allowed values, where they are names.
        source: where the default comes from; empty where it has no source.
    """
    metadata = dict(
        doc=doc, unit=unit, low=low, high=high, above=above, below=below, choices=tuple(choices), source=source
    )
    return (
        field(default_factory=dict, metadata=metadata) if default is dict else field(default=default, metadata=metadata)
    )


published = functools.partial(option, source=PUBLISHED)
"""`option` whose default is that of the paper or its code."""


@dataclass(frozen=True)
class TaskConfig:
    """What the network has to do."""

    name: str = option(MISSING, "name of the task", choices=TASKS)
    episode_length: int = published(1000, "an episode ends after so many steps at the latest", unit="steps", low=1)
    action_repeat: int = published(1, "physics steps that one action lasts", unit="steps", low=1)


@dataclass(frozen=True)
class AlgoConfig:
    """What all strategies share."""

    name: str = MISSING
    population: int = published(10240, "members a generation, evaluation copies included", low=2, high=1_000_000)
    evaluation_copies: int | None = published(
        None, "members that are the deterministic network; null: one in 80 as published, at least 4", low=1
    )
    generations: int = published(1000, "generations of the run", low=1)
    shaping: str = published(
        "centered_rank",
        "weights of members: by rank, or the utilities of CMA-ES, with which rare and much better members count more",
        choices=("centered_rank", "log_utility"),
    )
    adam_beta1: float = published(0.9, "decay of Adam's first moment", low=0, below=1)
    adam_beta2: float = published(0.999, "decay of Adam's second moment", low=0, below=1)
    adam_eps: float = published(1e-8, "Adam's epsilon", above=0)


@dataclass(frozen=True)
class EcConfig(AlgoConfig):
    """Evolving connectivity: Bernoulli probabilities moved by natural evolution strategies."""

    name: str = option("ec", "name of the strategy", choices=("ec",))
    learning_rate: float = published(0.15, "step size of Adam on the probabilities", above=0)
    eps: float = published(
        1e-3,
        "probabilities stay within [eps, 1 - eps]; what is below 2^-16 would be drawn as 0, and never come back",
        low=2**-16,
        below=0.5,
    )
    weight_decay: float = published(0.0, "decay of the probabilities toward 0 (sparsity)", low=0)
    initial_prob: float = published(0.5, "every probability at generation 0", above=0, below=1)


@dataclass(frozen=True)
class EsConfig(AlgoConfig):
    """Evolution strategies on real weights: antithetic Gaussian perturbations and AdamW."""

    name: str = option("es", "name of the strategy", choices=("es",))
    sigma: float | None = published(None, "standard deviation of the perturbations; null: published", above=0)
    learning_rate: float | None = published(None, "step size of AdamW; null: published", above=0)
    weight_decay: float = published(0.1, "decay of the weights toward 0, times the step size", low=0)


@dataclass(frozen=True)
class NetworkConfig:
    """What all networks share."""

    name: str = MISSING
    num_neurons: int = published(256, "recurrent neurons", low=1, high=MOST_NEURONS)


@dataclass(frozen=True)
class SpikingConfig(NetworkConfig):
    """What the spiking networks share: gains and constants of the neurons."""

    gain_in: float = published(0.1, "K_in, gain of the input layer", above=0)
    gain_recurrent: float = published(1.0, "K_h, gain of the recurrent layer", above=0)
    gain_out: float = published(5.0, "K_out, gain of the output layer", above=0)
    tau_syn_ms: float = published(5.0, "synaptic time constant", unit="ms", above=0)
    tau_m_ms: float = published(10.0, "membrane time constant", unit="ms", above=0)
    tau_out_ms: float = published(10.0, "time constant of the read-out rate", unit="ms", above=0)
    dt_ms: float = published(0.5, "length of a sub-step", unit="ms", above=0)
    step_ms: float = published(16.6, "network time of an environment step", unit="ms", above=0)
    v_rest: float = published(0.0, "resting and reset potential")
    v_threshold: float = published(1.0, "firing threshold")


@dataclass(frozen=True)
class ConnSnnConfig(SpikingConfig):
    """Boolean recurrent spiking network with excitatory and inhibitory neurons (Conn-RSNN)."""

    name: str = option("conn_snn", "name of the network", choices=("conn_snn",))
    excitatory_ratio: float = published(0.5, "share of excitatory neurons", low=0, high=1)
    expected_density: float = published(0.5, "density that the gains are normalised by", above=0, high=1)

    @property
    def num_excitatory(self) -> int:
        """How many neurons, the first ones, are excitatory."""
        return round(self.num_neurons * self.excitatory_ratio)


@dataclass(frozen=True)
class DenseSnnConfig(SpikingConfig):
    """The same neurons with real weights and without types (Dense-RSNN)."""

    name: str = option("dense_snn", "name of the network", choices=("dense_snn",))


@dataclass(frozen=True)
class GruConfig(NetworkConfig):
    """A GRU cell and a dense read-out."""

    name: str = option("gru", "name of the network", choices=("gru",))


@dataclass(frozen=True)
class LstmConfig(NetworkConfig):
    """An LSTM cell and a dense read-out."""

    name: str = option("lstm", "name of the network", choices=("lstm",))
    num_neurons: int = published(128, "size of the cell", low=1, high=MOST_NEURONS)


@dataclass(frozen=True)
class MlpConfig(NetworkConfig):
    """One tanh layer and a dense read-out; feed-forward."""

    name: str = option("mlp", "name of the network", choices=("mlp",))


@dataclass(frozen=True)
class RolloutConfig:
    """How fitness is measured. The published behaviours are until_slowest, fixed and last_step."""

    fitness: str = option(
        "first_episode",
        "return of the first episode, or mean of the episodes done until the slowest member ends one",
        choices=("first_episode", "until_slowest"),
        source=MEASURED,
    )
    resets: str = published("fixed", "initial states: drawn once, or anew each generation", choices=("fixed", "fresh"))
    normalizer: str = option(
        "all_steps",
        "observations that update the normaliser: all that count, or those at hand at the end",
        choices=("all_steps", "last_step"),
        source=MEASURED,
    )
    warmup_steps: int = published(0, "steps before the episode that settle the network", unit="steps", low=0)


@dataclass(frozen=True)
class EngineConfig:
    """How the machine is used. Devices and kernel do not shape a run; the block is part of its arithmetic."""

    devices: int | None = option(None, "devices that each process uses; null: all (CPU: one a core)", low=1, source=OWN)
    block: int | None = option(None, "members simulated in lock-step; null: chosen by platform", low=1, source=OWN)
    kernel: str = option(
        "auto",
        "sub-steps of conn_snn; auto: by the GPU kernel where a check at the start finds it equal to XLA",
        choices=("auto", "xla", "pallas"),
        source=OWN,
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """When a run is saved and what is kept."""

    every: int = published(50, "save every so many generations, and at the end", unit="generations", low=1)
    minutes: float = option(
        10.0,
        "save as well after the generation in which so much time has passed since",
        unit="min",
        above=0,
        source=OWN,
    )
    keep_last: int = option(2, "newest checkpoints to keep", low=1, source=OWN)
    keep_every: int = option(
        200,
        "keep for good the checkpoints whose generation is a multiple of this",
        unit="generations",
        low=1,
        source=OWN,
    )


@dataclass(frozen=True)
class TrackingConfig:
    """Where metrics go besides metrics.jsonl: Weights & Biases, TensorBoard."""

    wandb: str = option(
        "auto",
        "auto: online with credentials, else offline",
        choices=WANDB_MODES,
        source=OWN,
    )
    project: str | None = option(None, "W&B project; null: WANDB_PROJECT, or evoconn", source=OWN)
    entity: str | None = option(None, "W&B user or team; null: WANDB_ENTITY, or the account's own", source=OWN)
    group: str | None = option(None, "W&B group; null: WANDB_RUN_GROUP, if set", source=OWN)
    name: str | None = option(None, "W&B name of the run; null: WANDB_NAME, or that of its directory", source=OWN)
    tags: str = option("", "W&B tags, separated by commas; empty: WANDB_TAGS, if set", source=OWN)
    tensorboard: bool = option(False, "write TensorBoard event files into tensorboard/ of the run", source=OWN)


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration of a run."""

    seed: int = option(0, "every random draw of the run follows from it", low=0, high=2**32 - 1, source=OWN)
    task: TaskConfig = field(default_factory=TaskConfig)
    algo: AlgoConfig = field(default_factory=EcConfig)
    network: NetworkConfig = field(default_factory=ConnSnnConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


ALGOS: dict[str, type[AlgoConfig]] = {"ec": EcConfig, "es": EsConfig}
NETWORKS: dict[str, type[NetworkConfig]] = {
    "conn_snn": ConnSnnConfig,
    "dense_snn": DenseSnnConfig,
    "gru": GruConfig,
    "lstm": LstmConfig,
    "mlp": MlpConfig,
}
PUBLISHED_ES = {"dense_snn": (0.3, 0.15), "gru": (0.02, 0.01), "lstm": (0.02, 0.01), "mlp": (0.02, 0.01)}
"""Published sigma and learning rate of ES, by network."""


def walk(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """Yields `(full key, value, dataclass field)` for every leaf of a configuration."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value, f


def text_keys(config: Any, prefix: str = "") -> Iterator[str]:
    """Yields the keys of a configuration whose values are text."""
    for key, _, f in walk(config, prefix):
        if f.type in ("str", "str | None"):  # annotations are text here, too
            yield key


_TEXT_KEYS = frozenset(
    key
    for algo in ALGOS.values()
    for network in NETWORKS.values()
    for key in text_keys(RunConfig(algo=algo(), network=network()))
)


def is_text(key: str) -> bool:
    """Returns whether the values of a key are text, whatever they look like."""
    return key in _TEXT_KEYS


def what_seeds_share(config: RunConfig) -> dict[str, Any]:
    """Returns the keys and values that runs must have in common to be a sample of seeds; the task is beside them."""
    apart = ("task.name", "algo.generations")
    sections = ("task.", "algo.", "network.", "rollout.")
    return {key: value for key, value, _ in walk(config) if key.startswith(sections) and key not in apart}


def most_steps(config: RunConfig) -> int:
    """Returns the environment steps of a generation in which every episode lasts to its limit."""
    return config.algo.population * -(-config.task.episode_length // config.task.action_repeat)


def num_members(config: RunConfig) -> int:
    """Returns how many members of the population are sampled, not evaluation copies (M)."""
    return config.algo.population - num_evaluation_copies(config)


def num_evaluation_copies(config: RunConfig) -> int:
    """Returns how many members are the deterministic network."""
    algo = config.algo
    return max(4, algo.population // 80) if algo.evaluation_copies is None else algo.evaluation_copies
