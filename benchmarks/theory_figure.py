"""`python -m benchmarks.theory_figure`: writes docs/theory.png, in which EC finds a hidden pattern of connections."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.config.schema import EcConfig
from evoconn_cli.drawing.canvas import color_of, empty_figure, label_axes, own_settings, save_figure, style_panel
from evoconn_cli.engine.strategies.connectivity import make_connectivity
from evoconn_cli.engine.strategies.shaping import doubled_centered_ranks
from evoconn_cli.networks import bits

HIDDEN = """
............................
..########........######....
..########......##########..
..##...........###......###.
..##...........##...........
..######.......##...........
..######.......##...........
..##...........##...........
..##...........###......###.
..########......##########..
..########........######....
............................
""".split()
MEMBERS, SHOWN = 128, (0, 10, 30, 100)
NOISE = 10.0
"""Standard deviation of the noise of fitness, in connections."""


def main() -> None:
    """Runs EC on the pattern and writes the figure."""
    hidden = jnp.asarray([[character == "#" for character in row] for row in HIDDEN])
    config = EcConfig(name="ec", population=MEMBERS + 1, evaluation_copies=1, learning_rate=0.05)
    strategy = make_connectivity(config, connection_shapes={"layer": hidden.shape})

    def matches(candidates):
        layers = bits.unpack(candidates["layer"], axis=1, length=hidden.shape[0])
        return jnp.sum(layers == hidden, axis=(1, 2)).astype(jnp.float32)

    @jax.jit
    def generation(state, key):
        candidates = strategy.ask(key, state, jnp.arange(MEMBERS))
        fitness = matches(candidates)
        seen = fitness + NOISE * jax.random.normal(jax.random.fold_in(key, MEMBERS), (MEMBERS,))
        weights = doubled_centered_ranks(seen)
        state, _ = strategy.tell(state, strategy.weighted_sums(state, candidates, weights), weights)
        return state, (jnp.mean(fitness), matches(strategy.center(state))[0])

    state, kept, curves = strategy.init(jax.random.key(0)), {}, []
    for number in range(SHOWN[-1] + 1):
        if number in SHOWN:
            kept[number] = np.asarray(state.probs["layer"])
        state, measured = generation(state, jax.random.fold_in(jax.random.key(1), number))
        curves.append([float(value) for value in measured])
    draw(kept, np.asarray(curves)[: SHOWN[-1]] / hidden.size)


def draw(kept: dict[int, np.ndarray], curves: np.ndarray) -> None:
    """Writes probabilities at some generations, and curves `[T, 2]` of members and of the deterministic network."""
    with own_settings():
        figure = empty_figure(13, 2.3)
        axes = figure.subplots(1, len(kept) + 1, width_ratios=[1.2] * len(kept) + [1.5])
        for axis, (number, probs) in zip(axes, kept.items(), strict=False):
            style_panel(axis, f"p after {number} generations")
            axis.grid(visible=False)
            image = axis.imshow(probs, vmin=0, vmax=1, cmap="viridis")
            axis.set(xticks=[], yticks=[])
        figure.colorbar(image, ax=axes[-2], shrink=0.7)
        style_panel(axes[-1], "share of bits that match")
        for column, label in enumerate(("mean member", "network p > 0.5")):
            axes[-1].plot(np.arange(1, len(curves) + 1), curves[:, column], label=label, color=color_of(column))
        axes[-1].set_ylim(0.45, 1.02)
        label_axes(axes[-1], "generation", "")
        save_figure(figure, Path(__file__).parents[1] / "docs" / "theory.png")


if __name__ == "__main__":
    main()
