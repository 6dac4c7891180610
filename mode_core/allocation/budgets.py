"""Budgets: average bits or bytes, per bank or for the model, as whole units of weight; and what is feasible."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mode_core.allocation.bound import Relaxation
from mode_core.allocation.records import AllocationError
from mode_core.allocation.units import Units

WHOLE = 1e-9  # a budget this close below a whole unit of weight (relative) is that unit


@dataclass(frozen=True)
class Budgets:
    """One measure of weight ("bits" or "bytes") on the units, with one budget per owner (bank, or model)."""

    units: Units
    scope: str
    measure: str
    equality: bool

    @cached_property
    def weight(self) -> np.ndarray:
        """Weight of every unit at every width in steps of `step`: int64 `[G, B]`."""
        return self._raw // self.step

    @cached_property
    def _raw(self) -> np.ndarray:
        if self.measure == "bits":
            return self.units.weights[:, None] * np.asarray(self.units.widths, dtype=np.int64)
        if self.units.bytes is None:
            raise AllocationError("A budget in bytes needs sizes: bytes of one expert at each width, for every bank.")
        return self.units.bytes

    @cached_property
    def step(self) -> int:
        """Greatest common divisor of all weights."""
        return int(np.gcd.reduce(self._raw, axis=None)) or 1

    @cached_property
    def starts(self) -> np.ndarray:
        """First row of each owner."""
        return self.units.starts if self.scope == "bank" else np.zeros(1, dtype=np.int64)

    @cached_property
    def weights_of_owner(self) -> np.ndarray:
        """Model weights of each owner, `[K]`."""
        return np.add.reduceat(self.units.weights, self.starts)

    @cached_property
    def relaxation(self) -> Relaxation:
        """Hulls and sort, made once for every budget."""
        units = self.units
        return Relaxation(units.cost, self.weight, units.allowed, self.starts, self.equality)

    def capacities(self, amount: float | np.ndarray) -> np.ndarray:
        """Whole weight of each owner for average bits or total bytes: scalar → `[K]`, `[P]` → `[K, P]`.

        Average bits: each owner's weights times that average. Bytes in scope `bank`: every bank gets the same
        share of the way from its smallest to its largest size.
        """
        amount = np.asarray(amount, dtype=float)
        extra = (slice(None), *[None] * amount.ndim)
        if self.measure == "bits":
            exact = self.weights_of_owner[extra] * amount / self.step
        else:
            least, most = self.relaxation.least_weight, self.relaxation.most_weight
            way = (amount / self.step - least.sum()) / max(int((most - least).sum()), 1)
            exact = least[extra] + (most - least)[extra] * way
        return np.floor(exact + WHOLE * np.maximum(np.abs(exact), 1)).astype(np.int64)

    def whole(self, amount: float, fixed: int = 0) -> np.ndarray:
        """`capacities` of one request, checked against what is feasible; `fixed` bytes of it are spoken for.

        Raises:
            AllocationError: no number; below the smallest allocation; with equality, above the largest, or no
                whole number of steps. The text gives the range.
        """
        if not np.isfinite(amount):
            raise AllocationError(f"{self._name} must be a number; got {amount}.")
        capacity = self.capacities(amount - fixed)
        least, most = self.relaxation.least_weight, self.relaxation.most_weight
        low, high = (capacity < least).any(), (capacity > most).any()
        if self.measure == "bytes":  # where nothing is left to choose, capacities say nothing of the amount
            steps = (amount - fixed) / self.step
            low, high = low or steps < least.sum() * (1 - WHOLE), high or steps > most.sum() * (1 + WHOLE)
        if low or (self.equality and high):
            raise AllocationError(self._out_of_range(amount, capacity, fixed))
        if self.equality and self.measure == "bits":
            exact = self.weights_of_owner * amount / self.step
            if (off := np.abs(exact - capacity) > 1e-6 * np.maximum(exact, 1)).any():
                raise AllocationError(self._not_whole(int(off.argmax()), capacity))
        return capacity

    @property
    def _name(self) -> str:
        return "average_bits" if self.measure == "bits" else "budget_bytes"

    def _out_of_range(self, amount: float, capacity: np.ndarray, fixed: int = 0) -> str:
        least, most = self.relaxation.least_weight, self.relaxation.most_weight
        bad = (capacity < least) | (self.equality & (capacity > most))
        owner = int(bad.argmax())
        where = f" in bank {self.units.names[owner]}" if self.scope == "bank" else ""
        pins = " with the experts that are pinned" if not self.units.allowed.all() else ""
        if self.measure == "bytes":
            low, high = int(least.sum()) * self.step, int(most.sum()) * self.step
            around = f", {fixed} of them for all that is not a routed expert" if fixed else ""
            if len(self.units.widths) == 1 and not self.equality:
                least_of_all = f"budget_bytes must be at least {low + fixed}{around}"
                return f"{least_of_all}, as there is one width alone to choose; got {amount:.0f}."
            return f"budget_bytes must lie in [{low + fixed}, {high + fixed}]{around}{pins}; got {amount:.0f}."
        low, high = (bound[owner] * self.step / self.weights_of_owner[owner] for bound in (least, most))
        widths = self.units.widths
        return f"average_bits must lie in [{low:g}, {high:g}]{where} for bits {widths}{pins}; got {amount:g}."

    def _not_whole(self, owner: int, capacity: np.ndarray) -> str:
        below, above = ((capacity[owner] + d) * self.step / self.weights_of_owner[owner] for d in (0, 1))
        name = self.units.names[owner] if self.scope == "bank" else "the model"
        return (
            f"With equality=True the bits of {name} must add up to a sum that widths can make; "
            f"the nearest are average_bits {below:.6g} and {above:.6g}. Choose one of these, or equality=False."
        )
