"""Integer programmes in PuLP, solved by HiGHS (by CBC where highspy is not installed), to a gap of zero.

Objective of every programme here: Σ penalty·x + price·slack, where penalties are losses against the LP's choice
(all ≥ 0) and slack is unspent budget. It is scaled so that the solver's absolute tolerances stay far below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pulp

from mode_core.allocation.records import AllocationError

SCALE = 1e4  # largest coefficient after scaling; HiGHS closes the gap to 1e-6 absolute
FLAT = 1e-290  # penalties below this are all the same to a solver
SECONDS = 120.0


@dataclass(frozen=True)
class Programme:
    """One multiple-choice knapsack, penalties and weights `[M, B]` (penalty inf: forbidden).

    `least` and `most` bound how many of the M units may have width index j; `count_price[sense, j]` is the
    penalty of every unit away from the least (sense 1) or most (−1) count: the LP's price of it. `equality`: no
    unspent budget.
    """

    penalty: np.ndarray
    weight: np.ndarray
    capacity: int
    price: float = 0.0
    equality: bool = False
    least: Mapping[int, int] = field(default_factory=dict)
    most: Mapping[int, int] = field(default_factory=dict)
    count_price: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def value(self, item: np.ndarray) -> float:
        """The objective of one choice of width indices `[M]`, unscaled."""
        rows = np.arange(len(item))
        total = float(self.penalty[rows, item].sum())
        total += self.price * (self.capacity - int(self.weight[rows, item].sum()))
        for (sense, column), price in self.count_price.items():
            count = self.least[column] if sense == 1 else self.most[column]
            total += price * sense * (int((item == column).sum()) - count)
        return total


@dataclass(frozen=True)
class Answer:
    """`item[M]` chosen width indices; `value` their objective; `bound` what the solver proved from below."""

    item: np.ndarray
    value: float
    bound: float


def solver(seconds: float = SECONDS) -> pulp.LpSolver:
    """HiGHS in this process where highspy is installed, else the CBC that comes with PuLP; one thread, no gap."""
    highs = pulp.HiGHS(msg=False, threads=1, gapRel=0.0, timeLimit=seconds)
    if highs.available():
        return highs
    return pulp.PULP_CBC_CMD(msg=False, threads=1, gapRel=0.0, timeLimit=seconds)


def solve(programme: Programme, seconds: float = SECONDS) -> Answer | None:
    """The optimum, or None where no choice meets the constraints.

    Raises:
        AllocationError: the time ran out before any choice was found.
    """
    penalty, weight = programme.penalty, programme.weight
    unit, width = np.nonzero(np.isfinite(penalty))
    step = int(np.gcd.reduce(weight[unit, width])) or 1
    capacity = programme.capacity // step
    if programme.equality and programme.capacity % step:
        return None
    model, variables, scale = _build(programme, unit, width, step, capacity)
    model.solve(solver(seconds))
    if model.status == pulp.LpStatusInfeasible:
        return None
    values = [variable.varValue for variable in variables]
    if None in values:
        raise AllocationError(f"The solver found no allocation within {seconds:.0f} s. Loosen the constraints.")
    item = np.zeros(len(penalty), dtype=np.int64)
    chosen = np.array(values) > 0.5
    item[unit[chosen]] = width[chosen]
    rows = np.arange(len(item))
    spent = int(weight[rows, item].sum())
    if spent > programme.capacity or (programme.equality and spent != programme.capacity):
        raise AllocationError(f"The solver's answer misses the budget by {spent - programme.capacity} after rounding.")
    value = programme.value(item)
    return Answer(item, value, min(value, _proven(model, scale, value)))


def _build(programme: Programme, unit: np.ndarray, width: np.ndarray, step: int, capacity: int):
    """The PuLP model, its binary variables in the order of (unit, width), and the factor on its objective."""
    weights = programme.weight[unit, width] // step
    penalties = programme.penalty[unit, width]
    slack_price = programme.price * step
    largest = max([float(penalties.max(initial=0.0)), slack_price, *programme.count_price.values()])
    scale = SCALE / largest if largest > FLAT else 1.0
    model = pulp.LpProblem("core", pulp.LpMinimize)
    variables = [pulp.LpVariable(f"x{g}_{j}", cat="Binary") for g, j in zip(unit, width, strict=True)]
    slack = pulp.LpVariable("slack", lowBound=0, upBound=0 if programme.equality else None)
    terms = list(zip(variables, (penalties * scale).tolist(), strict=True))
    model += pulp.LpAffineExpression([*terms, (slack, slack_price * scale)])
    loads = list(zip(variables, weights.tolist(), strict=True))
    model += pulp.LpConstraint(pulp.LpAffineExpression([*loads, (slack, 1)]), pulp.LpConstraintEQ, "budget", capacity)
    by_unit = np.split(np.arange(len(unit)), np.flatnonzero(np.diff(unit)) + 1)
    for members in by_unit:
        one = pulp.LpAffineExpression([(variables[m], 1) for m in members])
        model += pulp.LpConstraint(one, pulp.LpConstraintEQ, f"one_{unit[members[0]]}", 1)
    for sense, counts in ((1, programme.least), (-1, programme.most)):
        for column, count in counts.items():
            away = pulp.LpVariable(f"away_{sense + 1}_{column}", lowBound=0)
            of_width = [(variables[m], 1) for m in np.flatnonzero(width == column)]
            expression = pulp.LpAffineExpression([*of_width, (away, -sense)])
            model += pulp.LpConstraint(expression, pulp.LpConstraintEQ, f"count_{sense + 1}_{column}", count)
            model.objective += (programme.count_price.get((sense, column), 0.0) * scale) * away
    return model, variables, scale


def _proven(model: pulp.LpProblem, scale: float, value: float) -> float:
    """The bound from below that the solver reports, in the objective's own unit."""
    if model.sol_status == pulp.LpSolutionOptimal:
        return value
    info = getattr(getattr(model, "solverModel", None), "getInfo", None)
    return float(info().mip_dual_bound) / scale if info is not None else -np.inf
