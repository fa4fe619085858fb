"""Evolving connectivity (EC): natural evolution strategies on Bernoulli probabilities of connections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.scipy.special import entr

from evoconn_cli.config.schema import EcConfig
from evoconn_cli.engine.strategies import Metrics, Strategy, Sums
from evoconn_cli.limits import usable_memory
from evoconn_cli.networks import Candidates, Network, bits

NUM_PLANES = 16
"""Bits of the uniform numbers; probabilities are rounded to multiples of 2^-16."""

_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
"""Constants of Threefry-2x32."""


def threshold_planes(probs: jax.Array) -> jax.Array:
    """Returns `[16, W, post]` uint32 thresholds of `probs` `[pre, post]`, least significant plane first.

    Below 2^-17 a probability is rounded to 0; above 1 - 2^-16 it is rounded down to that.
    """
    levels = 2**NUM_PLANES
    thresholds = jnp.minimum(jnp.round(probs * levels), levels - 1).astype(jnp.uint32)
    planes = (thresholds >> jnp.arange(NUM_PLANES, dtype=jnp.uint32)[:, None, None]) & 1
    return bits.pack(planes.astype(bool), axis=1)


def packed_bernoulli(key: jax.Array, planes: jax.Array) -> jax.Array:
    """Returns `[W, post]` uint32, a packed boolean sample with the probabilities of `planes`.

    Args:
        key: Threefry key, whose stream gives the words from its start, both halves of each counter.
        planes: Thresholds from `threshold_planes`.
    """
    half = NUM_PLANES // 2
    counters = jnp.arange(half * planes[0].size, dtype=jnp.uint32).reshape(half, *planes.shape[1:])
    x, y = _threefry(jax.random.key_data(key), counters, counters + np.uint32(counters.size))
    below = jnp.zeros(planes.shape[1:], jnp.uint32)
    # The stream has the first words of all counters before the second ones.
    for plane, drawn in zip(planes, [*x, *y], strict=True):
        # Bits that differ decide, unless a higher plane does; if they are equal the lower planes decide.
        below ^= (plane ^ drawn) & (below ^ plane)
    return below


def _threefry(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the random words of counters `(x, y)`, as JAX's generator does.

    Written out, because JAX's own is a loop on CPUs, whose words pass through memory: in one pass a sample takes half
    the time. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, Threefry-2x32-20.

    Args:
        key: `[2]` uint32 data of a key.
        x: First words of the counters, uint32 of any shape.
        y: Second words of the counters, uint32 of the same shape.
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ _PARITY
    x, y = x + keys[0], y + keys[1]
    for rounds in range(5):  # of four
        for left in _ROTATIONS[rounds % 2]:
            x += y
            y = x ^ ((y << np.uint32(left)) | (y >> np.uint32(32 - left)))
        x, y = x + keys[(rounds + 1) % 3], y + keys[(rounds + 2) % 3] + np.uint32(rounds + 1)
    return x, y


MAX_MEMBERS = 2_000_000
"""With more members the sums of weights times bits could overflow even in two parts."""

_MAX_IN_ONE_PART = 90_000
"""With more members the sums, of up to M² / 4, could overflow int32, and are added in two parts."""

_LOW_BITS = 10
"""Bits of a weight in its low part, whose sums are below 2^10·M; those of the high part are below M² / 4 / 2^10 + M."""


class ConnectivityState(NamedTuple):
    """State of EC."""

    probs: dict[str, jax.Array]  # layer -> float32 Bernoulli probabilities
    adam: optax.ScaleByAdamState  # moments of the natural gradient


_HELD_BYTES = 2**30
"""Populations whose packed connections take more than this are drawn again when they are needed, not held."""

_HELD_SHARE = 0.25
"""Share of a small memory, such as a container's, that they may take."""


def make(config: EcConfig, network: Network) -> Strategy:
    """Returns the strategy of a run.

    Args:
        config: Configuration of the strategy.
        network: Network to search, with boolean connections.
    """
    held_bytes = network.num_parameters / 8 * config.population
    return make_connectivity(
        config,
        connection_shapes={name: layer.shape for name, layer in network.shapes.items()},
        wiring=network.wiring,
        keeps_candidates=held_bytes <= min(_HELD_BYTES, _HELD_SHARE * usable_memory()),
    )


def make_connectivity(
    config: EcConfig,
    *,
    connection_shapes: Mapping[str, tuple[int, ...]],
    wiring: float = 1.0,
    keeps_candidates: bool = True,
) -> Strategy:
    """Returns the strategy EC; its candidates are layers packed along their first axis.

    Args:
        config: Configuration of the strategy, with at most `MAX_MEMBERS` members.
        connection_shapes: Shape of every layer, pre-synaptic axis first.
        wiring: Share of connections, drawn at random, that can form; the others keep a probability of 0. Connections
            that a run starts with can form, too.
        keeps_candidates: Whether members are held for a generation; otherwise they are drawn twice.

    Raises:
        ValueError: There are too many members.
    """
    if config.num_members > MAX_MEMBERS:
        raise ValueError(f"{config.num_members} members: sums of weights are exact up to {MAX_MEMBERS}")
    shapes, in_parts = dict(sorted(connection_shapes.items())), config.num_members > _MAX_IN_ONE_PART
    eps = config.eps
    adam = optax.scale_by_adam(b1=config.adam_beta1, b2=config.adam_beta2, eps=config.adam_eps)
    init, init_near = _make_starts(config, adam, shapes, wiring)

    def ask(key: jax.Array, state: ConnectivityState, members: jax.Array) -> Candidates:
        planes = {name: threshold_planes(state.probs[name]) for name in shapes}

        def one(member: jax.Array) -> Candidates:
            member_key = jax.random.fold_in(key, member)
            return {
                name: packed_bernoulli(jax.random.fold_in(member_key, index), planes[name])
                for index, name in enumerate(shapes)
            }

        return lax.map(one, members)

    def center(state: ConnectivityState) -> Candidates:
        return {name: bits.pack(state.probs[name] > 0.5, axis=0)[None] for name in shapes}

    def weighted_sums(state: ConnectivityState, candidates: Candidates, weights: jax.Array) -> Sums:
        del state

        def add(weights: jax.Array) -> dict[str, jax.Array]:
            return {name: _sum_over_members(candidates[name], weights, shapes[name][0]) for name in shapes}

        return (add(weights & (2**_LOW_BITS - 1)), add(weights >> _LOW_BITS)) if in_parts else add(weights)

    def tell(state: ConnectivityState, sums: Sums, weights: jax.Array) -> tuple[ConnectivityState, Metrics]:
        gradient = _gradient(sums, num_weights=weights.shape[0], in_parts=in_parts)
        direction, adam_state = adam.update(gradient, state.adam)
        assert isinstance(adam_state, optax.ScaleByAdamState)

        def moved(p: jax.Array, d: jax.Array) -> jax.Array:
            bounded = jnp.clip(p + config.learning_rate * (d - config.weight_decay * p), eps, 1.0 - eps)
            return jnp.where(p > 0, bounded, 0.0)  # connections outside the wiring stay absent

        probs = jax.tree.map(moved, state.probs, direction)
        return ConnectivityState(probs, adam_state), {"update_snr": _signal_to_noise(gradient, state.probs, weights)}

    return Strategy(
        "ec",
        init,
        ask,
        center,
        weighted_sums,
        tell,
        lambda state: _metrics(state.probs, eps, wired=wiring < 1),
        keeps_candidates=keeps_candidates,
        probs=lambda state: state.probs,
        init_near=init_near,
    )


def _make_starts(
    config: EcConfig, adam: optax.GradientTransformation, shapes: Mapping[str, tuple[int, ...]], wiring: float
) -> tuple[Callable[..., ConnectivityState], Callable[..., ConnectivityState]]:
    """Returns `init` and `init_near` of the strategy."""
    density, certainty = config.initial_prob, config.initial_certainty
    absent = max(config.eps, density * (1.0 - certainty))
    present = min(1.0 - config.eps, density + certainty * (1.0 - density))

    def init(key: jax.Array) -> ConnectivityState:
        probs = {name: jnp.full(shape, density, jnp.float32) for name, shape in shapes.items()}
        if certainty:
            probs = near(random_connections(key, density))
        if wiring < 1:
            possible = random_connections(jax.random.fold_in(key, len(shapes)), wiring)
            probs = {name: jnp.where(possible[name], p, 0.0) for name, p in probs.items()}
        return start(probs)

    def init_near(state: ConnectivityState, connections: dict[str, jax.Array]) -> ConnectivityState:
        probs = near(connections)
        return start({n: jnp.where((state.probs[n] > 0) | connections[n], probs[n], 0.0) for n in shapes})

    def random_connections(key: jax.Array, share: float) -> dict[str, jax.Array]:
        keys = {name: jax.random.fold_in(key, index) for index, name in enumerate(shapes)}
        return {name: jax.random.bernoulli(keys[name], share, shape) for name, shape in shapes.items()}

    def near(connections: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: jnp.where(c, jnp.float32(present), jnp.float32(absent)) for name, c in connections.items()}

    def start(probs: dict[str, jax.Array]) -> ConnectivityState:
        # Adam's initial moments would be the same buffer, which cannot be donated twice.
        return ConnectivityState(probs, jax.tree.map(jnp.copy, adam.init(probs)))

    return init, init_near


def saturated_from(eps: float) -> float:
    """Returns the probability `p` for which connections below `p` or above `1 - p` count as decided.

    It is 2·eps from the bound at `eps`, or a tenth of the way from there to 1/2 if that is less.
    """
    return eps + min(2.0 * eps, 0.1 * (0.5 - eps))


def _sum_over_members(words: jax.Array, weights: jax.Array, length: int) -> jax.Array:
    """Returns int32 `sum over members of weight · bit`, shape `[pre, post]`.

    Args:
        words: `[B, W, post]` uint32 packed layers.
        weights: `[B]` int32.
        length: Number of pre-synaptic units, pre.
    """

    def add_member(total: jax.Array, member: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        layer, weight = member
        return total + weight * bits.unpack(layer, axis=0, length=length), None

    start = jnp.zeros((length, *words.shape[2:]), jnp.int32)
    return lax.scan(add_member, start, (words, weights))[0]


def _gradient(sums: Sums, *, num_weights: int, in_parts: bool) -> dict[str, jax.Array]:
    """Returns the natural gradient: the mean of weight · (bit - p) over members.

    Args:
        sums: Sums over members of weight · bit; of the low and of the high part of weights if `in_parts`.
        num_weights: M, number of members.
        in_parts: Whether weights were added in two parts.
    """
    # Weights sum to 0, so the probabilities p cancel: the sums are whole numbers up to the division.
    as_floats = jax.tree.map(lambda s: s.astype(jnp.float32), sums)
    if in_parts:
        as_floats = jax.tree.map(lambda low, high: low + 2.0**_LOW_BITS * high, *as_floats)
    return jax.tree.map(lambda s: s / (2.0 * num_weights * (num_weights - 1)), as_floats)


def _metrics(probs: dict[str, jax.Array], eps: float, *, wired: bool) -> Metrics:
    """Returns the density of the network, and over the connections that can form, entropy and saturation."""
    p = jnp.concatenate([probs[name].ravel() for name in sorted(probs)])
    possible = p > 0 if wired else None
    near_bound = (p <= saturated_from(eps)) | (p >= 1.0 - saturated_from(eps))
    return {
        "density": jnp.mean(p),
        "entropy": jnp.mean(entr(p) + entr(1.0 - p), where=possible) / math.log(2.0),
        "saturated": jnp.mean(near_bound.astype(jnp.float32), where=possible),
    }


def _signal_to_noise(gradient: dict[str, jax.Array], probs: dict[str, jax.Array], whole: jax.Array) -> jax.Array:
    """Returns the excess of the squared length of the gradient over its expectation by chance, relative to the latter.

    If fitness did not depend on the connections, each component would have the variance `mean(w²)·p·(1 - p)/M`. The
    result is then 0; it is 1 if signal and noise have the same power.
    """
    num_members = whole.shape[0]
    weights = whole.astype(jnp.float32) / (2.0 * (num_members - 1))
    power = sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient))
    variance = sum(jnp.sum(p * (1.0 - p)) for p in jax.tree.leaves(probs))
    noise = jnp.mean(weights * weights) * variance / num_members
    return jnp.where(noise > 0, power / jnp.maximum(noise, 1e-30) - 1.0, 0.0)
