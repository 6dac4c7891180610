"""Counts per width on top of a budget: LP prices of all constraints, then the same way from bound to core.

With prices λ on weight and μ on the counts, every allocation y that meets the constraints costs
`bound + Σ loss(y) + λ·(unspent budget) + Σ μ·(distance from each count)`, each term ≥ 0. So once some allocation is
known, every width whose loss reaches its gap can be struck out, and what is left is a small integer programme.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mode_core.allocation import ilp
from mode_core.allocation.records import AllocationError

CORES = (48, 192, 768, 3072)  # units in one programme after the other; then all
LP_COLUMNS = 4000  # above this many choices the prices come from cutting planes instead of the whole LP
STEPS, CLOSE = 400, 1e-12  # cutting planes: most of them, and when their bound has been reached

INFEASIBLE = 2  # scipy's status


@dataclass(frozen=True)
class Problem:
    """One owner: cost, weight, allowed `[M, B]`, budget, and least and most counts by width index."""

    cost: np.ndarray
    weight: np.ndarray
    allowed: np.ndarray
    capacity: int
    equality: bool
    least: Mapping[int, int]
    most: Mapping[int, int]


@dataclass(frozen=True)
class Priced:
    """Prices of the LP: of weight, and of the counts by (sense, width index); losses `[M, B]`, LP choice, bound."""

    price: float
    count_price: dict[tuple[int, int], float]
    loss: np.ndarray
    item: np.ndarray
    bound: float


@dataclass(frozen=True)
class Counted:
    """Optimal width indices `[M]`, their cost, and what was proven from below."""

    item: np.ndarray
    cost: float
    bound: float


def solve(problem: Problem) -> Counted | None:
    """The exact optimum, or None where no allocation meets the constraints."""
    priced = _prices(problem)
    if priced is None:
        return None
    others = np.sort(priced.loss, axis=1)[:, 1:2].ravel()
    others = np.append(np.sort(others[np.isfinite(others)]), np.inf)
    answer = None
    for size in (*CORES, len(others)):
        reach = others[min(size, len(others) - 1)]
        before, answer = answer, _restricted(problem, priced, reach) or answer
        if answer is not None and (answer.value <= reach or (before is not None and answer.value >= before.value)):
            break
    if answer is None:
        return None
    if answer.value > reach:
        answer = _restricted(problem, priced, np.nextafter(answer.value, np.inf))
        assert answer is not None  # what was found before lies within that reach
    rows = np.arange(len(answer.item))
    return Counted(answer.item, float(problem.cost[rows, answer.item].sum()), priced.bound + answer.bound)


def _restricted(problem: Problem, priced: Priced, reach: float) -> ilp.Answer | None:
    """The programme over widths with a loss below `reach`; all other units keep the LP's choice."""
    keep = problem.allowed & ((priced.loss < reach) | (priced.loss == 0))
    units = np.flatnonzero(keep.sum(axis=1) > 1)
    item = priced.item.copy()
    fixed = np.ones(len(item), dtype=bool)
    fixed[units] = False
    spent = int(problem.weight[fixed, item[fixed]].sum())
    counts = np.bincount(item[fixed], minlength=problem.cost.shape[1])
    programme = ilp.Programme(
        np.where(keep[units], priced.loss[units], np.inf),
        problem.weight[units],
        problem.capacity - spent,
        priced.price,
        problem.equality,
        {column: count - int(counts[column]) for column, count in problem.least.items()},
        {column: count - int(counts[column]) for column, count in problem.most.items()},
        priced.count_price,
    )
    answer = ilp.solve(programme)
    if answer is None:
        return None
    item[units] = answer.item
    return ilp.Answer(item, answer.value, answer.bound)


def _prices(problem: Problem) -> Priced | None:
    """Prices of the LP relaxation, with the losses and the bound that follow; None where even the LP is infeasible.

    Losses and bound are worked out from the prices, so that a price that is a little off can make the core larger,
    never the proof wrong.
    """
    scaled = _Scaled.of(problem)
    prices = scaled.by_lp() if problem.allowed.sum() <= LP_COLUMNS else scaled.by_cutting_planes()
    if prices is None:
        return None
    reduced, item, bound = scaled.priced(prices)
    loss = (reduced - reduced.min(axis=1, keepdims=True)) * scaled.spread
    counts = dict(zip(scaled.names, (prices[1:] * scaled.spread).tolist(), strict=True))
    return Priced(float(prices[0]) * scaled.spread / scaled.heaviest, counts, loss, item, bound * scaled.spread)


@dataclass(frozen=True)
class _Scaled:
    """The problem with costs and weights near 1. Price vectors: weight first, then the counts in `names`."""

    problem: Problem
    names: tuple[tuple[int, int], ...]
    counts: np.ndarray
    spread: float
    heaviest: float

    @classmethod
    def of(cls, problem: Problem) -> _Scaled:
        names = [(1, column) for column in problem.least] + [(-1, column) for column in problem.most]
        counts = np.array([*problem.least.values(), *problem.most.values()], dtype=float)
        spread = float(np.ptp(problem.cost[problem.allowed])) or 1.0
        return cls(problem, tuple(names), counts, spread, max(float(problem.weight.max()), 1.0))

    def priced(self, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Reduced costs `[M, B]`, the cheapest width of each unit, and the bound from below (all scaled)."""
        problem, senses = self.problem, np.array([sense for sense, _ in self.names])
        reduced = problem.cost / self.spread + prices[0] * (problem.weight / self.heaviest)
        for (sense, column), price in zip(self.names, prices[1:], strict=True):
            reduced[:, column] -= sense * price
        reduced = np.where(problem.allowed, reduced, np.inf)
        fixed = (prices[1:] * senses * self.counts).sum() - prices[0] * problem.capacity / self.heaviest
        return reduced, reduced.argmin(axis=1), float(reduced.min(axis=1).sum() + fixed)

    def by_lp(self) -> np.ndarray | None:
        """Dual prices of the whole LP, by HiGHS in scipy; None where it is infeasible."""
        from scipy.optimize import linprog  # fetched here: half a second that a budget without counts never needs
        from scipy.sparse import csr_array, vstack

        problem = self.problem
        unit, width = np.nonzero(problem.allowed)
        units, columns = len(problem.cost), np.arange(len(unit))
        load, budget = problem.weight[unit, width] / self.heaviest, problem.capacity / self.heaviest
        one = csr_array((np.ones(len(unit)), (unit, columns)), shape=(units, len(unit)))
        rows = [np.where(width == column, -float(sense), 0.0) for sense, column in self.names]
        sides = [-sense * count for (sense, _), count in zip(self.names, self.counts, strict=True)]
        solved = linprog(
            problem.cost[unit, width] / self.spread,
            A_ub=csr_array(np.stack(rows if problem.equality else [*rows, load])),
            b_ub=sides if problem.equality else [*sides, budget],
            A_eq=vstack([one, csr_array(load[None])]) if problem.equality else one,
            b_eq=np.append(np.ones(units), [budget] if problem.equality else []),
            method="highs",
        )
        if solved.status == INFEASIBLE:
            return None
        if solved.status != 0:
            raise AllocationError(f"The LP with counts per width was not solved: {solved.message}")
        prices = np.maximum(-solved.ineqlin.marginals, 0.0)
        of_weight = -solved.eqlin.marginals[-1] if problem.equality else prices[-1]
        return np.append(of_weight, prices[: len(self.names)])

    def by_cutting_planes(self) -> np.ndarray:
        """The same prices as the maximum of the concave bound, by Kelley's method: few prices, many units."""
        from scipy.optimize import linprog

        problem = self.problem
        gaps = np.diff(problem.weight, axis=1)
        box = 10.0 * self.heaviest / max(float(gaps[gaps > 0].min(initial=self.heaviest)), 1.0)
        limits = [(-box if problem.equality else 0.0, box)] + [(0.0, box)] * len(self.names)
        prices, best, planes, sides = np.zeros(len(limits)), (-np.inf, np.zeros(len(limits))), [], []
        for _ in range(STEPS):
            slope, bound = self._plane(prices)
            best = max(best, (bound, prices), key=lambda pair: pair[0])
            planes.append(np.append(1.0, -slope))
            sides.append(bound - slope @ prices)
            aim = np.append(-1.0, np.zeros(len(limits)))
            solved = linprog(aim, A_ub=np.stack(planes), b_ub=sides, bounds=[(None, None), *limits], method="highs")
            if solved.status != 0 or -solved.fun - best[0] <= CLOSE * max(abs(best[0]), 1.0):
                break
            prices = solved.x[1:]
        return best[1]

    def _plane(self, prices: np.ndarray) -> tuple[np.ndarray, float]:
        """The bound at these prices and its slope: how far the cheapest choice is from budget and counts."""
        _, item, bound = self.priced(prices)
        spent = float(self.problem.weight[np.arange(len(item)), item].sum() - self.problem.capacity) / self.heaviest
        away = [sense * (n - (item == c).sum()) for (sense, c), n in zip(self.names, self.counts, strict=True)]
        return np.array([spent, *away], dtype=float), bound
