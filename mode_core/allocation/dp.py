"""Exact dynamic programmes over whole units of weight: every budget of many small knapsacks at once.

One step per unit: `best[s] = min_j (best[s − w_j] + cost_j)`, done for all knapsacks and all budgets together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Table:
    """Result of `fill`: `value[k, s]` least cost of spending exactly s (inf: impossible); `choice` to go back."""

    value: np.ndarray
    choice: np.ndarray
    weight: np.ndarray

    def trace(self, spent: np.ndarray) -> np.ndarray:
        """Width index of every unit for exactly `spent[k]`: `[K]` → `[K, M]`."""
        knapsacks = np.arange(len(spent))
        left, items = spent.copy(), np.zeros([len(spent), self.choice.shape[0]], dtype=np.int64)
        for unit in range(self.choice.shape[0] - 1, -1, -1):
            items[:, unit] = self.choice[unit, knapsacks, left]
            left = left - self.weight[knapsacks, unit, items[:, unit]]
        return items


def fill(cost: np.ndarray, weight: np.ndarray, capacity: int) -> Table:
    """All budgets 0..capacity of K knapsacks of M units and B widths: cost, weight `[K, M, B]`, weights ≥ 0.

    Forbidden widths have cost inf. Ties take the first width. Memory: `M × K × (capacity + 1)` bytes.
    Time: `M × B` vector operations over `K × (capacity + 1)`.
    """
    knapsacks, units, widths = cost.shape
    value = np.full([knapsacks, capacity + 1], np.inf)
    value[:, 0] = 0.0
    choice = np.zeros([units, knapsacks, capacity + 1], dtype=np.uint8)
    for unit in range(units):
        best = np.full_like(value, np.inf)
        for width in range(widths):
            shifted = _shift(value, weight[:, unit, width]) + cost[:, unit, width, None]
            better = shifted < best
            best = np.where(better, shifted, best)
            choice[unit][better] = width
        value = best
    return Table(value, choice, weight)


def _shift(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Every row moved right by its own amount, inf coming in: `[K, S]`, `[K]` → `[K, S]`."""
    moved = np.full_like(value, np.inf)
    if (by == by[0]).all():
        if by[0] < value.shape[1]:
            moved[:, by[0] :] = value[:, : value.shape[1] - by[0]]
        return moved
    source = np.arange(value.shape[1])[None, :] - by[:, None]
    return np.where(source >= 0, np.take_along_axis(value, np.maximum(source, 0), axis=1), np.inf)
