"""Counts per width: at least, at most so many units, on top of the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mode_core.allocation import counted, ilp
from mode_core.allocation.bound import Cut
from mode_core.allocation.budgets import Budgets
from mode_core.allocation.core import Finish
from mode_core.allocation.records import AllocationError
from mode_core.allocation.units import Units


@dataclass(frozen=True)
class Counts:
    """How many units may have each width index, in every bank (scope `bank`) or in the model (scope `model`)."""

    least: Mapping[int, int]
    most: Mapping[int, int]

    @classmethod
    def of(
        cls,
        units: Units,
        scope: str,
        at_least: Mapping[int, int] | None,
        at_most: Mapping[int, int] | None,
    ) -> Counts:
        """Check widths and counts against each other and against the number of units.

        Raises:
            AllocationError: an unknown width, no count, or counts that contradict each other; the text says which.
        """
        least, most = _by_index(units, "at_least", at_least), _by_index(units, "at_most", at_most)
        for column in least.keys() & most.keys():
            if least[column] > most[column]:
                raise AllocationError(
                    f"at_least asks for {least[column]} at {units.widths[column]} bits, "
                    f"at_most allows {most[column]}. Change one of them."
                )
        for number in range(len(units.names)) if scope == "bank" else (None,):
            rows = units.rows(number) if number is not None else slice(None)
            _fits(units, rows, least, most, units.names[number] if number is not None else "the model")
        return cls(least, most)

    def meet(
        self, budgets: Budgets, capacity: np.ndarray, cut: Cut, done: Finish
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Solve again, with the counts, every owner whose counts are not met.

        Returns width indices `[G]`, and per owner the cost above the LP's bound: reached, and proven from below.
        """
        if not self.least and not self.most:
            return done.item, done.gap, done.proven_gap
        item, gap, proven = done.item.copy(), done.gap.copy(), done.proven_gap.copy()
        ends = np.append(budgets.starts[1:], len(item))
        for owner, (start, end) in enumerate(zip(budgets.starts, ends, strict=True)):
            if np.isfinite(gap[owner]) and self._met(item[start:end]):
                continue
            rows = slice(int(start), int(end))
            solved = self._solve(budgets, rows, int(capacity[owner]))
            item[rows] = solved.item
            gap[owner], proven[owner] = solved.cost - cut.bound[owner], solved.bound - cut.bound[owner]
        return item, gap, proven

    def _met(self, item: np.ndarray) -> bool:
        low = all((item == column).sum() >= count for column, count in self.least.items())
        return low and all((item == column).sum() <= count for column, count in self.most.items())

    def _solve(self, budgets: Budgets, rows: slice, capacity: int) -> counted.Counted:
        weight, allowed = budgets.weight[rows], budgets.units.allowed[rows]
        problem = counted.Problem(
            budgets.units.cost[rows], weight, allowed, capacity, budgets.equality, self.least, self.most
        )
        found = counted.solve(problem)
        if found is None:
            raise AllocationError(self._infeasible(budgets, rows, allowed, weight))
        return found

    def _infeasible(self, budgets: Budgets, rows: slice, allowed: np.ndarray, weight: np.ndarray) -> str:
        """The range of budgets that the counts leave, found by two more programmes: lightest and heaviest."""
        units = budgets.units
        owner = int(np.flatnonzero(budgets.starts == rows.start)[0])
        name = units.names[owner] if budgets.scope == "bank" else "the model"
        heaviest = int(weight.max(axis=1).sum())
        ends = []
        for sign in (1, -1):
            light = weight if sign == 1 else weight.max() - weight
            penalty = np.where(allowed, light.astype(float), np.inf)
            found = ilp.solve(ilp.Programme(penalty, weight, heaviest, least=self.least, most=self.most))
            if found is None:
                return f"at_least, at_most and pinned contradict each other in {name}. Loosen one of them."
            ends.append(int(weight[np.arange(len(weight)), found.item].sum()) * budgets.step)
        asked = " and ".join(text for text in (self._words(units, "at_least"), self._words(units, "at_most")) if text)
        if budgets.measure == "bits":
            low, high = (end / budgets.weights_of_owner[owner] for end in ends)
            span = f"average_bits of {name} must lie in [{low:g}, {high:g}]"
        else:
            span = f"the bytes of {name} must lie in [{ends[0]}, {ends[1]}]"
        return f"With {asked}, {span}. Change the budget or the counts."

    def _words(self, units: Units, which: str) -> str:
        counts = self.least if which == "at_least" else self.most
        inside = ", ".join(f"{units.widths[column]}: {count}" for column, count in counts.items())
        return f"{which} {{{inside}}}" if counts else ""


def _by_index(units: Units, name: str, counts: Mapping[int, int] | None) -> dict[int, int]:
    found = {}
    for width, count in (counts or {}).items():
        if width not in units.widths:
            raise AllocationError(f"{name} names {width} bits, which is not among bits {units.widths}.")
        if int(count) != count or count < 0:
            raise AllocationError(
                f"{name} for {width} bits must be a whole number of units of at least 0; got {count}."
            )
        if not (name == "at_least" and count == 0):
            found[units.widths.index(width)] = int(count)
    return found


def _fits(units: Units, rows: slice, least: Mapping[int, int], most: Mapping[int, int], name: str) -> None:
    count = len(units.cost[rows])
    if sum(least.values()) > count:
        raise AllocationError(
            f"at_least asks for {sum(least.values())} units in {name}, which has {count}. Ask for at most {count}."
        )
    if len(most) == len(units.widths) and sum(most.values()) < count:
        raise AllocationError(
            f"at_most leaves room for {sum(most.values())} units in {name}, which has {count}. Allow at least {count}."
        )
