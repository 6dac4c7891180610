"""What each coarser choice costs at one budget: units that share a width, and a budget per bank instead of one.

A serving engine that wants one width per layer, or a budget that every bank keeps by itself, can only add to the
predicted damage; this says by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

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


def worth_of_a_bit(costs: np.ndarray, widths: Sequence[int], bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What experts that share a budget would gain by a bit more, and lose by a bit less: `[E, B]`, `[E]` → `[E]` twice.

    In damage per bit, to the width at which that is most (least, going down); NaN where there is none. In an optimal
    allocation nobody gains more by a bit than others lose by it, up to what whole experts do not divide: the largest
    gain is the price at which bits change hands.
    """
    wide = np.asarray(widths, float)
    steps = wide[None] - np.asarray(bits, float)[:, None]
    now = np.take_along_axis(costs, np.argmin(np.abs(steps), axis=1)[:, None], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        falls = (now - costs) / steps
    gain = np.where(steps > 0, falls, -np.inf).max(axis=1)
    loss = np.where(steps < 0, falls, np.inf).min(axis=1)
    return np.where(np.isfinite(gain), gain, np.nan), np.where(np.isfinite(loss), loss, np.nan)
