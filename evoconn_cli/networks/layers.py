"""Reads and edits the layers of a network, packed booleans and real weights alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from evoconn_cli.networks import Candidates, Layer, Network, bits


def layer_arrays(network: Network, candidates: Candidates) -> dict[str, jax.Array]:
    """Returns every layer of a block by name, `[B, pre, post]` bool (unpacked) or float32; without biases."""
    found, shapes = arrays_by_name(candidates), arrays_by_name(network.shapes)
    return {
        name: bits.unpack(found[name], axis=1, length=shapes[name].shape[0]) if network.is_boolean else found[name]
        for name in network.layers
    }


def biases(network: Network, candidates: Candidates) -> dict[str, jax.Array]:
    """Returns the biases of a block, `[B, post]` by name."""
    return {name: leaf for name, leaf in arrays_by_name(candidates).items() if name not in network.layers}


def fan_out(network: Network, candidates: Candidates) -> dict[str, jax.Array]:
    """Returns `[B, pre]` int32 by layer, the connections that leave each pre-synaptic unit; weights of 0 are none."""
    arrays = layer_arrays(network, candidates)
    return {name: jnp.sum(values != 0, axis=2, dtype=jnp.int32) for name, values in arrays.items()}


def keep_connections(
    network: Network, candidates: Candidates, kept: Callable[[str, Layer, jax.Array], jax.Array]
) -> Candidates:
    """Returns `candidates` without the connections that are not kept; biases stay.

    Args:
        network: Network of the candidates.
        candidates: Candidates of a block.
        kept: `kept(name, layer, values) -> bool`, broadcast to the shape `[B, pre, post]` of the values.
    """
    arrays = layer_arrays(network, candidates)

    def one(path: Any, leaf: jax.Array) -> jax.Array:
        name = _name(path)
        if name not in arrays:
            return leaf
        values = arrays[name]
        stays = kept(name, network.layers[name], values)
        return bits.pack(values & stays, axis=1) if network.is_boolean else jnp.where(stays, values, 0.0)

    return jax.tree_util.tree_map_with_path(one, candidates)


def num_neurons(network: Network) -> int:
    """Returns N, from the shapes of the layers."""
    return next(post for name, (_, post) in layer_shapes(network).items() if network.layers[name].post == "neurons")


def layer_shapes(network: Network) -> Mapping[str, tuple[int, int]]:
    """Returns `(pre, post)` of every layer by name."""
    shapes = arrays_by_name(network.shapes)
    return {name: shapes[name].shape for name in network.layers}


def arrays_by_name(tree: Any) -> dict[str, Any]:
    """Returns the arrays, or their shapes, of nested dictionaries by name, such as `GRUCell_0/hn/kernel`."""
    return {_name(path): array for path, array in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
