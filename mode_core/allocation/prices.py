"""What each coarser choice costs, at every budget: units that share a width, and a budget per bank instead of one.

A serving engine that wants one width per layer, or a budget that every bank keeps by itself, can only add to the
predicted damage; this says by how much, beside the finest choice, over the whole range of budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mode_core.allocation.frontier import values_at
from mode_core.allocation.records import AllocationError
from mode_core.allocation.solver import Solver
from mode_core.allocation.units import SCOPES, UNITS
from mode_core.importance.records import CostTable

Choice = tuple[str, str]  # unit, scope
POINTS = 65
COARSE = ("projection", "layer")  # so few units that the curve of the LP is far from what whole widths can reach


@dataclass(frozen=True)
class Prices:
    """Predicted damage of every unit and scope at the same budgets.

    `average_bits` `[P]`, rising; `objective[unit, scope]` `[P]`, reached by an allocation within that budget, nan below
    the smallest one; `lower_bound[unit, scope]` `[P]`, below which none of them goes. `left_out`: choices that these
    costs cannot answer, with the reason.
    """

    average_bits: np.ndarray
    objective: dict[Choice, np.ndarray]
    lower_bound: dict[Choice, np.ndarray]
    left_out: dict[Choice, str]

    def over(self, choice: Choice, base: Choice = ("expert", "model")) -> np.ndarray:
        """Damage added by `choice` over `base`, as a share of the damage of `base`, `[P]`; nan where that is 0."""
        own, reference = self.objective[choice], self.objective[base]
        return np.divide(own - reference, reference, out=np.full_like(own, np.nan), where=reference > 0)


def prices(
    costs: CostTable | Mapping[str, np.ndarray],
    bits: Sequence[int] | None = None,
    units: Sequence[str] = UNITS,
    scopes: Sequence[str] = SCOPES,
    pinned: Mapping[str, Mapping[int, int]] | None = None,
    sizes: Mapping[str, np.ndarray] | None = None,
    weights: Mapping[str, object] | None = None,
    points: int = POINTS,
) -> Prices:
    """Every unit in every scope at `points` budgets, evenly from the least to the most average bits.

    Arguments as in `allocate`. Units by projection need costs by projection. Fine units take one sort for all budgets
    (their curve is exact to one step of one unit); coarse ones are solved exactly at every budget.

    Raises:
        AllocationError: no unit or scope of those asked for can be answered.
    """
    objective, bound, left_out, grid = {}, {}, {}, None
    for unit in units:
        for scope in scopes:
            try:
                solver = Solver(costs, bits, scope, unit, False, None, None, pinned, sizes, weights)
            except AllocationError as refused:
                left_out[unit, scope] = str(refused)
                continue
            grid = np.linspace(*ends_of(solver), points) if grid is None else grid
            curve = _solved(solver, grid) if unit in COARSE else values_at(solver, grid)
            objective[unit, scope], bound[unit, scope] = curve
    if grid is None:
        raise AllocationError(next(iter(left_out.values()), "Name at least one unit and one scope."))
    return Prices(grid, objective, bound, left_out)


def _solved(solver: Solver, average_bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted damage and its proven bound at every budget, each solved; nan where nothing is small enough."""
    objective, bound = np.full([2, len(average_bits)], np.nan)
    budgets = solver.falling()
    capacity, least = budgets.capacities(average_bits), budgets.relaxation.least_weight
    for place in np.flatnonzero((capacity >= least[:, None]).all(axis=0)):
        found = solver.solve(float(average_bits[place]))
        objective[place], bound[place] = found.objective, found.lower_bound
    return objective, bound


def ends_of(solver: Solver) -> tuple[float, float]:
    """Least and most average bits of any allocation."""
    budgets = solver.falling()
    least, most = budgets.relaxation.least_weight.sum(), budgets.relaxation.most_weight.sum()
    total = solver.units.weights.sum()
    return least * budgets.step / total, most * budgets.step / total
