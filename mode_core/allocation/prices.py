"""What each coarser choice costs at one budget: units that share a width, and a budget per bank instead of one.

A serving engine that wants one width per layer, or a budget that every bank keeps by itself, can only add to the
predicted damage; this says by how much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mode_core.allocation.records import Allocation, AllocationError
from mode_core.allocation.units import SCOPES, UNITS


@dataclass(frozen=True)
class Price:
    """One unit and scope: its allocation, or None and why these costs or this budget cannot be met so."""

    unit: str
    scope: str
    allocation: Allocation | None = None
    refused: str = ""

    def times(self, objective: float) -> float | None:
        """Its predicted damage as a multiple of another one; None where there is none to speak of."""
        return None if self.allocation is None or objective <= 0 else self.allocation.objective / objective


def prices(solve: Callable[[str, str], Allocation]) -> list[Price]:
    """Every unit in every scope, solved exactly by `solve(unit, scope)`, in the order of `UNITS` and `SCOPES`."""
    priced = []
    for unit in UNITS:
        for scope in SCOPES:
            try:
                priced.append(Price(unit, scope, solve(unit, scope)))
            except AllocationError as refused:
                priced.append(Price(unit, scope, None, str(refused)))
    return priced
