"""Running a block a few members at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import lax

_Output = TypeVar("_Output")


def map_tiles(fn: Callable[..., _Output], args: tuple[Any, ...], tile: int | None) -> _Output:
    """Returns `fn(*args)` computed for `tile` members at a time; all arrays have the member axis first.

    Blocks that `tile` does not divide, and a `tile` of None, are computed at once.
    """
    num_members = jax.tree.leaves(args)[0].shape[0]
    if tile is None or num_members <= tile or num_members % tile:
        return fn(*args)
    tiles = jax.tree.map(lambda x: x.reshape(num_members // tile, tile, *x.shape[1:]), args)
    out = lax.map(lambda arrays: fn(*arrays), tiles)
    return jax.tree.map(lambda x: x.reshape(num_members, *x.shape[2:]), out)
