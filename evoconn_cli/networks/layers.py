"""Reads and edits the layers of a network, packed booleans and real weights alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.networks import Candidates, Layer, Network, bits


class LayerArray(NamedTuple):
    """One layer of a block and what it connects."""

    layer: Layer
    values: jax.Array  # [B, pre, post] bool or float32


def layer_arrays(network: Network, candidates: Candidates) -> dict[str, LayerArray]:
    """Returns every layer of a block by name, booleans unpacked; without biases."""
    found, shapes = _by_name(candidates), _by_name(network.shapes)
    return {name: LayerArray(layer, _unpacked(found[name], shapes[name])) for name, layer in network.layers.items()}


def biases(network: Network, candidates: Candidates) -> dict[str, jax.Array]:
    """Returns the biases of a block, `[B, post]` by name."""
    return {name: leaf for name, leaf in _by_name(candidates).items() if name not in network.layers}


def fan_out(network: Network, candidates: Candidates) -> dict[str, jax.Array]:
    """Returns `[B, pre]` int32 by layer, the connections that leave each pre-synaptic unit; weights of 0 are none."""
    arrays = layer_arrays(network, candidates)
    return {name: jnp.sum(array.values != 0, axis=2, dtype=jnp.int32) for name, array in arrays.items()}


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
        layer, values = arrays[name]
        if values.dtype == bool:
            return bits.pack(values & kept(name, layer, values), axis=1)
        return jnp.where(kept(name, layer, values), values, 0.0)

    return jax.tree_util.tree_map_with_path(one, candidates)


def num_neurons(network: Network) -> int:
    """Returns N, from the shapes of the layers."""
    shapes = _by_name(network.shapes)
    return next(shapes[name].shape[-1] for name, layer in network.layers.items() if layer.post == "neurons")


def layer_shapes(network: Network) -> Mapping[str, tuple[int, int]]:
    """Returns `(pre, post)` of every layer by name."""
    shapes = _by_name(network.shapes)
    return {name: shapes[name].shape for name in network.layers}


def _by_name(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    return "/".join(str(part.key) for part in path)


def _unpacked(leaf: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
    return bits.unpack(leaf, axis=1, length=shape.shape[0]) if shape.dtype == bool else leaf
