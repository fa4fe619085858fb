"""A network that learns no more, in the place of a run's strategy: the connections of a bundle, edited or not."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.state import RunState
from evoconn_cli.engine.strategies import Strategy
from evoconn_cli.engine.strategies.connectivity import ConnectivityState
from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.bundle.reading import Bundle
from evoconn_cli.networks import bits


class FrozenState(NamedTuple):
    """State of a strategy that gives one network."""

    kernels: dict[str, jax.Array]  # kernel -> [1, W, post] uint32 packed connections
    evolved: ConnectivityState  # the probabilities that the connections come from; its moments are zeros

    @property
    def probs(self) -> dict[str, jax.Array]:
        """The evolved probabilities by kernel."""
        return self.evolved.probs


def freeze(strategy: Strategy, state: RunState, bundle: Bundle) -> tuple[Strategy, RunState]:
    """Returns the strategy and the state of a run with the network of a bundle in their place.

    Args:
        strategy: EC, of the bundle's configuration.
        state: any state of that run.
        bundle: with the network.
    """

    def ask(key: jax.Array, state: FrozenState, members: jax.Array) -> Any:
        check_sampling(bundle)
        return strategy.ask(key, state.evolved, members)

    connectome = bundle.connectome
    frozen = FrozenState(
        kernels={name: bits.pack(jnp.asarray(kernel), axis=0)[None] for name, kernel in connectome.kernels.items()},
        evolved=state.strategy._replace(probs={name: jnp.asarray(p) for name, p in connectome.probs.items()}),
    )
    normalizer = state.normalizer._replace(mean=jnp.asarray(connectome.obs_mean), std=jnp.asarray(connectome.obs_std))
    return (
        dataclasses.replace(strategy, name="bundle", ask=ask, center=lambda state: state.kernels),
        state._replace(strategy=frozen, normalizer=normalizer, generation=np.int32(connectome.generation)),
    )


def check_sampling(bundle: Bundle) -> None:
    """Checks that connections can be drawn from the probabilities of a bundle.

    Raises:
        EvoconnError: it was edited.
    """
    if bundle.edit:
        raise EvoconnError(
            f"{bundle.path} was edited, and sampled connections come from the probabilities, which know nothing of "
            "that. Use the deterministic policy, `--policy deterministic`."
        )
