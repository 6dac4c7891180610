"""Lower convex hulls of many small cost curves at once: which widths an LP would ever use for each unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hulls:
    """Hulls of G units over B widths in rising order of weight.

    `on[g, j]`: width j is a corner. `slope[g, j]`: change of cost per unit of weight on the edge that arrives at
    corner j (+inf where no edge does); it never falls along a row. `first[g]`: the lightest allowed width.
    `previous[g, j]`: the corner before j.
    """

    on: np.ndarray
    slope: np.ndarray
    first: np.ndarray
    previous: np.ndarray


def lower_hulls(cost: np.ndarray, weight: np.ndarray, allowed: np.ndarray, rising: bool = False) -> Hulls:
    """Hulls of the points (weight, cost): three arrays `[G, B]`, weights strictly rising along a row.

    A corner is where the steepest slope from the left does not exceed the least slope to the right (points on an
    edge count as corners). Only edges that lower the cost are kept, unless `rising`, which an equality needs.
    """
    units, widths = cost.shape
    left = np.full([units, widths], -np.inf)
    right = np.full([units, widths], np.inf)
    for later in range(1, widths):
        for earlier in range(later):
            both = allowed[:, earlier] & allowed[:, later]
            rise = (cost[:, later] - cost[:, earlier]) / (weight[:, later] - weight[:, earlier])
            left[:, later] = np.maximum(left[:, later], np.where(both, rise, -np.inf))
            right[:, earlier] = np.minimum(right[:, earlier], np.where(both, rise, np.inf))
    first = allowed.argmax(axis=1)
    starts = np.arange(widths)[None, :] == first[:, None]
    on = allowed & (left <= right)
    if not rising:
        on &= left < 0
    on |= starts
    previous = np.repeat(first[:, None], widths, axis=1)
    for column in range(1, widths):
        before = previous[:, column - 1]
        previous[:, column] = np.where(on[:, column - 1], column - 1, before)
    slope = np.where(on & ~starts, left, np.inf)
    return Hulls(on, slope, first, previous)
