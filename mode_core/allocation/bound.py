"""The LP optimum for every budget from one sort, and how far each choice is from it.

The LP relaxation of a multiple-choice knapsack takes the edges of the units' convex hulls in order of slope,
steepest fall of cost per unit of weight first, until the budget is spent; only the last edge may be cut. So one
sort answers every budget. Equal slopes keep their order: earlier bank, then lower expert number, goes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mode_core.allocation.hull import lower_hulls

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Cut:
    """The LP at one budget per owner (K budgets), rounded down to whole edges.

    `item[g]` width index of each unit; `residual[k]` weight left over; `price[k]` cost that one more unit of
    weight would save (0 where nothing is left to buy); `bound[k]` the LP's value: no allocation goes below it.
    `edge[k]` the next edge (flat index into `[G, B]`), −1 where none is left.
    """

    item: np.ndarray
    residual: np.ndarray
    price: np.ndarray
    bound: np.ndarray
    cost: np.ndarray
    edge: np.ndarray


class Relaxation:
    """Hull edges of all units, sorted once. Rows of one owner (a bank, or the whole model) lie together.

    Args:
        cost, weight, allowed: `[G, B]`; weights int64, strictly rising along a row.
        starts: first row of each owner, `[K]`.
        rising: keep edges that raise the cost (for budgets that must be spent exactly).
    """

    def __init__(
        self, cost: np.ndarray, weight: np.ndarray, allowed: np.ndarray, starts: np.ndarray, rising: bool
    ) -> None:
        self.cost, self.weight, self.allowed, self.starts, self.rising = cost, weight, allowed, starts, rising
        units, widths = cost.shape
        self.owner = np.repeat(np.arange(len(starts)), np.diff([*starts, units]))
        hulls = lower_hulls(cost, weight, allowed, rising)
        self.first = hulls.first
        flat = np.flatnonzero(np.isfinite(hulls.slope))
        slope = hulls.slope.ravel()[flat]
        order = np.argsort(slope, kind="stable")
        if len(starts) > 1:
            owners = self.owner[flat[order] // widths].astype(np.int32)
            order = order[np.argsort(owners, kind="stable")]
        self.edges, self.slope = flat[order], slope[order]
        unit, column = self.edges // widths, self.edges % widths
        self._step = unit, column, hulls.previous[unit, column]
        self.step_weight, self.step_cost = self._along(weight), self._along(cost)
        self.begins = np.searchsorted(self.owner[unit], np.arange(len(starts) + 1))
        self.rank = np.full(units * widths, NEVER)
        self.rank[self.edges] = np.arange(len(self.edges))
        self.rank = self.rank.reshape(units, widths)
        rows = np.arange(units)
        self.least_weight = np.add.reduceat(weight[rows, self.first], starts)
        self.least_cost = np.add.reduceat(cost[rows, self.first], starts)
        heaviest = np.where(allowed, weight, np.iinfo(np.int64).min).max(axis=1)
        self.most_weight = np.add.reduceat(heaviest, starts)

    def _along(self, quantity: np.ndarray) -> np.ndarray:
        """Change of the sum of a `[G, B]` quantity over the first n edges, for every n, `[edges + 1]`."""
        unit, column, before = self._step
        return np.concatenate([quantity[:1, 0] * 0, np.cumsum(quantity[unit, column] - quantity[unit, before])])

    def total(self, quantity: np.ndarray, capacity: np.ndarray) -> np.ndarray:
        """Sum of a `[G, B]` quantity over all owners at whole edges within the budgets `[K, P]`: `[P]`."""
        steps = self._along(quantity)
        least = quantity[np.arange(len(quantity)), self.first].sum()
        return least + (steps[self.position(capacity)] - steps[self.begins[:-1, None]]).sum(axis=0)

    def position(self, capacity: np.ndarray) -> np.ndarray:
        """Number of edges (in sorted order) up to each owner's last whole one: capacity `[K, …]` → `[K, …]`."""
        extra = (slice(None), *[None] * (capacity.ndim - 1))
        low, high = self.begins[:-1][extra], self.begins[1:][extra]
        target = self.step_weight[low] + capacity - self.least_weight[extra]
        return np.clip(np.searchsorted(self.step_weight, target, side="right") - 1, low, high)

    def values(self, capacity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For budgets `[K, P]`: cost of the LP rounded down to whole edges, and the LP's own value, both `[K, P]`."""
        position = self.position(capacity)
        low, high = self.begins[:-1, None], self.begins[1:, None]
        cost = self.least_cost[:, None] + self.step_cost[position] - self.step_cost[low]
        used = self.least_weight[:, None] + self.step_weight[position] - self.step_weight[low]
        slope = np.append(self.slope, 0.0)[position]
        return cost, cost + np.where(position < high, slope * (capacity - used), 0.0)

    def cut(self, capacity: np.ndarray) -> Cut:
        """The LP at these budgets, `[K]`."""
        position = self.position(capacity)
        taken = self.rank < position[self.owner][:, None]
        last = self.rank.shape[1] - 1 - taken[:, ::-1].argmax(axis=1)
        item = np.where(taken.any(axis=1), last, self.first)
        rows = np.arange(len(item))
        residual = capacity - np.add.reduceat(self.weight[rows, item], self.starts)
        cost = np.add.reduceat(self.cost[rows, item], self.starts)
        left = position < self.begins[1:]
        price = np.where(left, -np.append(self.slope, 0.0)[position], 0.0)
        edge = np.where(left, np.append(self.edges, -1)[position], -1)
        return Cut(item, residual, price, cost - price * residual, cost, edge)

    def reduced_costs(self, cut: Cut) -> np.ndarray:
        """Loss of choosing width j instead of the LP's choice at the LP's price, `[G, B]`, ≥ 0; inf: not allowed."""
        rows = np.arange(len(cut.item))[:, None]
        chosen = cut.item[:, None]
        price = cut.price[self.owner][:, None]
        loss = self.cost - self.cost[rows, chosen] + price * (self.weight - self.weight[rows, chosen])
        return np.where(self.allowed, np.maximum(loss, 0.0), np.inf)
