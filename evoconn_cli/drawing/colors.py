"""The colours of plots, pictures and pages.

Excitatory and inhibitory spikes are orange and sky blue, the pair of the Okabe-Ito palette that is distinguishable with
every kind of colour blindness, but brighter on black and darker on white.
"""

from __future__ import annotations

from typing import TypeAlias

Rgb: TypeAlias = tuple[int, int, int]

BACKGROUND: Rgb = (13, 17, 23)
TRACK: Rgb = (20, 26, 34)
LINE: Rgb = (48, 58, 70)
TEXT: Rgb = (236, 240, 245)
FAINT: Rgb = (139, 150, 164)

EXCITATORY: Rgb = (255, 168, 38)
INHIBITORY: Rgb = (86, 180, 255)
ON_WHITE: dict[str, str] = {"E": "#E08A00", "I": "#2383C4", "+": "#3B8F6B", "-": "#B4588F"}
"""Types of neurons, and observations that act directly or reversed, in plots on white."""

LAYERS: dict[str, str] = {"input": "#8A6A3B", "recurrent": "#222222", "output": "#9a9a9a"}
"""In plots on white: the three layers of a connectome, whose connections are of several types."""

MEASURES: dict[str, str] = {"reciprocity": "#332288", "clustering": "#882255", "modularity": "#8A8A1F"}
"""Measures of a graph, in plots on white. Source: the muted palette of Paul Tol, 2021, the last one darker."""

UNTYPED: Rgb = (236, 240, 245)
REWARD: Rgb = (122, 214, 160)

FLOOR: tuple[Rgb, Rgb] = ((54, 62, 74), (44, 51, 62))
_ROLES: dict[str, Rgb] = {
    "body": (226, 222, 212),
    "left": (150, 166, 184),
    "mount": (104, 114, 128),
    "target": (232, 84, 92),
}


def shape_color(role: str, body: int) -> Rgb:
    """Returns the colour of a shape; neighbouring limbs differ a little, so that joints are visible."""
    shade = 0.84 if body % 2 and role in ("body", "left") else 1.0
    red, green, blue = _ROLES[role]
    return round(shade * red), round(shade * green), round(shade * blue)
