"""Predicted damage at every budget: the curve behind the budget slider, from the sort that the solver made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mode_core.allocation.solver import Solver

POINTS = 257


@dataclass(frozen=True)
class Frontier:
    """Damage against budget, arrays `[P]` in rising order of the budget.

    `objective[p]` is reached by an allocation within `average_bits[p]`; no allocation goes below
    `lower_bound[p]`; the two differ by less than one step of one unit per budget. `bytes[p]`, where sizes are
    known, is the size of the allocation that reaches `objective[p]`. `uniform_*` (`[B]`): every expert at one width.
    """

    average_bits: np.ndarray
    objective: np.ndarray
    lower_bound: np.ndarray
    uniform_bits: np.ndarray
    uniform_objective: np.ndarray
    bytes: np.ndarray | None = None
    uniform_bytes: np.ndarray | None = None
    scope: str = "bank"
    unit: str = "expert"


def frontier(solver: Solver, points: int = POINTS) -> Frontier:
    """Least damage at `points` budgets, evenly from the least to the most average bits: a `Frontier`.

    Counts per width (`at_least`, `at_most`) are not in the curve.
    """
    units, budgets = solver.units, solver.falling()
    relaxation = budgets.relaxation
    low, high = (
        bound.sum() * budgets.step / units.weights.sum() for bound in (relaxation.least_weight, relaxation.most_weight)
    )
    grid = np.linspace(low, high, points)
    capacity = np.maximum(budgets.capacities(grid), relaxation.least_weight[:, None])
    objective, bound = (value.sum(axis=0) for value in relaxation.values(capacity))
    return Frontier(
        average_bits=grid,
        objective=objective,
        lower_bound=np.minimum(bound, objective),
        uniform_bits=np.asarray(units.widths),
        uniform_objective=units.cost.sum(axis=0),
        bytes=None if units.bytes is None else relaxation.total(units.bytes, capacity),
        uniform_bytes=None if units.bytes is None else units.bytes.sum(axis=0),
        scope=solver.scope,
        unit=units.unit,
    )
