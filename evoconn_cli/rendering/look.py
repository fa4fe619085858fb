"""What all pictures of a body have in common, whoever draws them: fog, sun and floor."""

from __future__ import annotations

FOG = (7.0, 26.0)
"""Distances at which the floor begins to fade and is gone, in radii of what the camera keeps in view."""

SUN = (0.75, -0.3, 1.0)
"""Direction in which the sun is."""

_ROUND_LENGTHS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def square_size(radius: float) -> float:
    """Returns the edge of the floor's squares that suits a body of this radius [m]: a length that is easy to read."""
    return min(_ROUND_LENGTHS, key=lambda length: abs(length - 0.6 * radius))
