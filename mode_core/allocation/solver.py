"""Allocation: prepared once per cost table, then solved exactly for any budget while a slider moves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from mode_core.allocation.bound import Cut
from mode_core.allocation.budgets import Budgets
from mode_core.allocation.constraints import Counts
from mode_core.allocation.core import finish
from mode_core.allocation.records import Allocation, AllocationError
from mode_core.allocation.units import SCOPES, units_of
from mode_core.importance.records import CostTable

TIGHT = 1e-9  # relative; two bounds this close have met


class Solver:
    """Everything about a cost table that does not depend on the budget: hulls and their edges, sorted.

    Arguments as in `allocate`. Preparing takes one sort; each `solve` a search in it and, where budget is left
    over, a small exact core.
    """

    def __init__(
        self,
        costs: CostTable | Mapping[str, np.ndarray],
        bits: Sequence[int] | None = None,
        scope: str = "bank",
        unit: str = "expert",
        equality: bool = False,
        at_least: Mapping[int, int] | None = None,
        at_most: Mapping[int, int] | None = None,
        pinned: Mapping[str, Mapping[int, int]] | None = None,
        sizes: Mapping[str, np.ndarray] | None = None,
        weights: Mapping[str, object] | None = None,
        engine: str = "auto",
    ) -> None:
        if scope not in SCOPES:
            raise AllocationError(f"There is no scope {scope!r}; choose one of {', '.join(SCOPES)}.")
        if bits is None:
            if not isinstance(costs, CostTable):
                raise AllocationError("bits must be given: the widths that the columns of the costs stand for.")
            bits = costs.bits
        self.units = units_of(costs, bits, unit, sizes, weights, pinned)
        self.scope, self.equality, self.engine = scope, equality, engine
        self.counts = Counts.of(self.units, scope, at_least, at_most)
        self.method = getattr(costs, "method", "")
        self._settings = dict(getattr(costs, "settings", {})) | {"equality": equality}
        self._settings |= {key: value for key, value in (("at_least", at_least), ("at_most", at_most)) if value}
        if pinned:
            self._settings["pinned"] = {bank: dict(wishes) for bank, wishes in pinned.items()}
        if scope == "model" and (warning := scope_warning(costs)):
            self._settings["warning"] = warning
        self._budgets: dict[str, Budgets] = {}

    def budgets(self, measure: str) -> Budgets:
        """The prepared sort for budgets in "bits" or "bytes"."""
        if measure not in self._budgets:
            self._budgets[measure] = Budgets(self.units, self.scope, measure, self.equality)
        return self._budgets[measure]

    def falling(self) -> Budgets:
        """Budgets in bits that need not be spent whole, whatever `equality` says: for curves and bounds."""
        return Budgets(self.units, self.scope, "bits", False) if self.equality else self.budgets("bits")

    def solve(
        self, average_bits: float | None = 3.0, budget_bytes: float | None = None, fixed_bytes: int = 0
    ) -> Allocation:
        """The allocation with the least predicted damage within the budget; see `allocate`."""
        begun = time.perf_counter()
        measure, amount = ("bits", average_bits) if budget_bytes is None else ("bytes", budget_bytes)
        if amount is None:
            raise AllocationError("Give a budget: average_bits or budget_bytes.")
        if fixed_bytes and measure == "bits":
            raise AllocationError("fixed_bytes belong to a budget in bytes; give budget_bytes with them.")
        budgets = self.budgets(measure)
        capacity = budgets.whole(amount, fixed_bytes)
        cut = budgets.relaxation.cut(capacity)
        done = finish(budgets.relaxation, cut, self.engine)
        item, gap, proven = self.counts.meet(budgets, capacity, cut, done)
        self._refuse_unreachable(budgets, capacity, gap)
        settings = {"average_bits" if measure == "bits" else "budget_bytes": float(amount)}
        settings |= {"fixed_bytes": int(fixed_bytes)} if fixed_bytes else {}
        return self._allocation(item, cut, proven, settings, time.perf_counter() - begun)

    def _refuse_unreachable(self, budgets: Budgets, capacity: np.ndarray, gap: np.ndarray) -> None:
        if np.isfinite(gap).all():
            return
        owner = int((~np.isfinite(gap)).argmax())
        name = self.units.names[owner] if self.scope == "bank" else "the model"
        amount = int(capacity[owner]) * budgets.step
        if budgets.measure == "bits":
            wish = f"average_bits of {name} exactly {amount / budgets.weights_of_owner[owner]:g}"
        else:
            wish = f"the bytes of {name} exactly {amount}"
        raise AllocationError(
            f"No choice of widths {self.units.widths} makes {wish}. Use equality=False, or another budget."
        )

    def _allocation(self, item: np.ndarray, cut: Cut, proven: np.ndarray, settings: dict, seconds: float) -> Allocation:
        units = self.units
        rows = np.arange(len(item))
        objective = float(units.cost[rows, item].sum())
        bound = float(cut.bound.sum() + proven.sum())
        tolerance = TIGHT * max(abs(objective), float(np.abs(units.cost).max()) * 1e-3)
        optimal = objective - bound <= tolerance
        return Allocation(
            bits=units.spread(item),
            widths=units.widths,
            objective=objective,
            lower_bound=min(bound, objective),
            proven_optimal=bool(optimal),
            seconds=seconds,
            average_bits=average_bits_of(units, item),
            scope=self.scope,
            unit=units.unit,
            method=self.method,
            bytes=None if units.bytes is None else int(units.bytes[rows, item].sum()),
            settings=self._settings | settings,
        )

    def uniform(self, width: int) -> Allocation:
        """Every expert at one width, with this scope's bound on what any allocation of that size could reach."""
        units, begun = self.units, time.perf_counter()
        if width not in units.widths:
            raise AllocationError(f"There is no width {width} in bits {units.widths}.")
        item = np.full(len(units.cost), units.widths.index(width))
        budgets = self.falling()
        cut = budgets.relaxation.cut(budgets.capacities(float(width)))
        none = np.zeros(len(cut.bound))
        return self._allocation(item, cut, none, {"uniform": int(width)}, time.perf_counter() - begun)


def average_bits_of(units, item: np.ndarray) -> float:
    """Mean bits over all experts' weights."""
    widths = np.asarray(units.widths)[item]
    return float((widths * units.weights).sum() / units.weights.sum())


def scope_warning(costs: Mapping[str, np.ndarray]) -> str | None:
    """Why one budget for all banks may mislead with these costs, as a sentence to show; None where it is sound."""
    if not isinstance(costs, CostTable) or costs.comparable_across_banks:
        return None
    return (
        f"The costs of method '{costs.method}' are in each layer's own unit, so one budget for the whole model "
        "favours layers with large outputs. Give every bank its own budget, or choose a method that is comparable "
        "across banks."
    )


def allocate(
    costs: CostTable | Mapping[str, np.ndarray],
    bits: Sequence[int] | None = None,
    average_bits: float | None = 3.0,
    scope: str = "bank",
    unit: str = "expert",
    equality: bool = False,
    at_least: Mapping[int, int] | None = None,
    at_most: Mapping[int, int] | None = None,
    pinned: Mapping[str, Mapping[int, int]] | None = None,
    sizes: Mapping[str, np.ndarray] | None = None,
    budget_bytes: float | None = None,
    weights: Mapping[str, object] | None = None,
    engine: str = "auto",
    fixed_bytes: int = 0,
) -> Allocation:
    """Bits of every expert with the least summed cost within the budget, exact and proven (paper §5).

    The problem is a multiple-choice knapsack: one width per unit, Σ cost least, Σ weight ≤ budget. It is solved
    by LP bound, fixing by reduced costs, and an exact core. Costs may be negative or rise with the width: they
    are taken as they are, and a width that costs more at a greater weight is simply not chosen.

    Args:
        costs: a `CostTable`, or bank → `[E, B]`; for projections `[E, 2, B]` (gate+up, down).
        bits: widths of the columns; of a `CostTable` also some of its widths. Default: all of them.
        average_bits: budget as mean bits over the experts' weights; not used where `budget_bytes` is given.
        scope: "bank": every bank keeps the budget by itself (paper); "model": one budget for all banks, which
            needs costs that compare across banks; else the result's `settings["warning"]` says so.
        unit: what shares one width: "expert"; "expert_projection": an expert's gate+up and its down;
            "projection": all gate+up, or all down, of a bank; "layer": all experts of a bank.
        equality: spend the budget exactly (the paper's released solver) instead of at most.
        at_least, at_most: width → number of units at that width, per bank or per model as the scope says. The
            paper's MODE has none, so the default is none; Mixture Compressor asks for one expert at each of
            its two higher widths, `{2: 1, 3: 1}`.
        pinned: bank → {expert: width}.
        sizes: bank → bytes of one expert at each of `bits`, int `[B]`; by projection `[B, 2]`.
        budget_bytes: budget as bytes of all experts; needs `sizes`. With `fixed_bytes`: of the whole model.
        weights: bank → model weights per expert (int, or the pair gate+up, down); default: all alike.
        engine: how the core is solved: "dp", "ilp" (PuLP with HiGHS), or "auto": the quicker of the two.
        fixed_bytes: part of `budget_bytes` that goes to all that is not a routed expert: attention and shared experts
            at their own widths, and the untouched rest (`mode_core.quantization.rest_bytes`).

    A width of 0 drops the expert: its cost is the damage of leaving it out, its size nothing.

    Ties: equal savings per unit of weight go to the earlier bank, then to the lower expert number; the same
    request always gives the same bits.

    Raises:
        AllocationError: no allocation can meet the request, with the constraint and the feasible range; or
            costs, sizes or names that do not fit.
    """
    prepared = Solver(costs, bits, scope, unit, equality, at_least, at_most, pinned, sizes, weights, engine)
    return prepared.solve(average_bits, budget_bytes, fixed_bytes)


def uniform_allocation(
    costs: Mapping[str, np.ndarray],
    bits: Sequence[int] | None,
    width: int,
    sizes: Mapping[str, np.ndarray] | None = None,
    weights: Mapping[str, object] | None = None,
) -> Allocation:
    """Every expert at `width`, with the summed cost; `lower_bound` is what scope `bank` could not go below."""
    return Solver(costs, bits, sizes=sizes, weights=weights).uniform(width)
