"""Experts whose bits depend on which samples were drawn: the allocation solved again without each fold of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mode_core.allocation.records import Allocation
from mode_core.allocation.solver import allocate
from mode_core.importance import cost_table
from mode_core.importance.folds import used_folds
from mode_core.statistics import ExpertStatistics


@dataclass(frozen=True)
class Stability:
    """An allocation and how it fares when each fold is left out: `changed[bank] [E]`, share of folds whose absence
    gives that expert other bits; `bits[bank] [F, E]` the bits without each fold."""

    allocation: Allocation
    changed: dict[str, np.ndarray]
    bits: dict[str, np.ndarray]

    def unsettled(self, share: float = 0.0) -> dict[str, np.ndarray]:
        """Experts whose bits change in more than `share` of the folds: bank → expert numbers."""
        return {name: np.flatnonzero(part > share) for name, part in self.changed.items()}


def allocation_stability(
    statistics: ExpertStatistics, costs: Mapping[str, object], request: Mapping[str, object]
) -> Stability:
    """Solve with all samples and without each fold: which experts' bits depend on the samples that were drawn.

    `costs` are keyword arguments of `cost_table` (method, key_ratio, …), `request` those of `allocate`
    (average_bits, scope, …).
    """
    whole = allocate(cost_table(statistics, **costs), **request)
    each = [
        allocate(cost_table(statistics, **costs, leave_out_fold=fold), **request) for fold in used_folds(statistics)
    ]
    bits = {name: np.stack([one.bits[name] for one in each]) for name in whole.bits}
    changed = {name: (bits[name] != own).mean(axis=0) for name, own in whole.bits.items()}
    return Stability(whole, changed, bits)
