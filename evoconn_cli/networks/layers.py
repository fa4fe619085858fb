"""What the kernels of a network connect: the same questions for packed booleans and for real weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.networks import Candidates, Kernel, Network, bits


class KernelArray(NamedTuple):
    """One kernel of a block and what it connects."""

    kernel: Kernel
    values: jax.Array  # [B, pre, post] bool or float32


def kernel_arrays(network: Network, candidates: Candidates) -> dict[str, KernelArray]:
    """Returns every kernel of a block by name, booleans unpacked; biases are no kernels."""
    found, shapes = _by_name(candidates), _by_name(network.shapes)
    return {name: KernelArray(kernel, _unpacked(found[name], shapes[name])) for name, kernel in network.kernels.items()}


def biases(network: Network, candidates: Candidates) -> dict[str, jax.Array]:
    """Returns what is no kernel, `[B, post]` by name."""
    return {name: leaf for name, leaf in _by_name(candidates).items() if name not in network.kernels}


def fan_out(network: Network, candidates: Candidates) -> dict[str, jax.Array]:
    """Returns, by kernel, `[B, pre]` int32: connections that leave each pre-synaptic unit, weights of 0 being none."""
    arrays = kernel_arrays(network, candidates)
    return {name: jnp.sum(array.values != 0, axis=2, dtype=jnp.int32) for name, array in arrays.items()}


def keep_connections(
    network: Network, candidates: Candidates, kept: Callable[[str, Kernel, jax.Array], jax.Array]
) -> Candidates:
    """Returns `candidates` without the connections that are not kept; biases stay.

    Args:
        network: whose candidates they are.
        candidates: of a block.
        kept: `kept(name, kernel, values) -> bool`, broadcast to the shape `[B, pre, post]` of the values.
    """
    arrays = kernel_arrays(network, candidates)

    def one(path: Any, leaf: jax.Array) -> jax.Array:
        name = _name(path)
        if name not in arrays:
            return leaf
        kernel, values = arrays[name]
        if values.dtype == bool:
            return bits.pack(values & kept(name, kernel, values), axis=1)
        return jnp.where(kept(name, kernel, values), values, 0.0)

    return jax.tree_util.tree_map_with_path(one, candidates)


def num_neurons(network: Network) -> int:
    """Returns N, read off the kernels."""
    shapes = _by_name(network.shapes)
    return next(shapes[name].shape[-1] for name, kernel in network.kernels.items() if kernel.post == "neurons")


def kernel_shapes(network: Network) -> Mapping[str, tuple[int, int]]:
    """Returns `(pre, post)` of every kernel by name."""
    shapes = _by_name(network.shapes)
    return {name: shapes[name].shape for name in network.kernels}


def _by_name(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    return "/".join(str(part.key) for part in path)


def _unpacked(leaf: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
    return bits.unpack(leaf, axis=1, length=shape.shape[0]) if shape.dtype == bool else leaf
