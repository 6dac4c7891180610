"""Would other samples have said the same: experts whose bits depend on which were drawn, and what fewer come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mode_core.allocation import Allocation, Solver
from mode_core.importance.folds import only_folds, used_folds
from mode_core.importance.projections import by_projection
from mode_core.quantization.settings import Quantizer
from mode_core.request import AllocationRequest
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


def fold_solvers(statistics: ExpertStatistics, request: AllocationRequest, quantizer: Quantizer) -> list[Solver]:
    """The request prepared with all samples, then without each fold: for `allocation_stability` at many budgets.

    Time: nine cost tables (48 banks of 128 experts: about 0.6 s); a budget then takes 20 ms.
    """
    sizes = quantizer.sizes(statistics, request.widths, "projection" in request.unit)
    folds = (None, *used_folds(statistics))
    return [request.solver(statistics, quantizer, request.costs(statistics, fold), sizes) for fold in folds]


def allocation_stability(
    statistics: ExpertStatistics,
    request: AllocationRequest,
    quantizer: Quantizer | None = None,
    fixed_bytes: int = 0,
    solvers: Sequence[Solver] | None = None,
) -> Stability:
    """Solve with all samples and without each fold: which experts' bits depend on the samples that were drawn.

    Arguments as in `AllocationRequest.solve`; `solvers`: what `fold_solvers` prepared for the same but the budget.
    """
    quantizer = (quantizer or Quantizer()).fitted(statistics)
    solvers = fold_solvers(statistics, request, quantizer) if solvers is None else solvers
    whole, *each = [request.within(solver, quantizer, fixed_bytes) for solver in solvers]
    bits = {name: np.stack([one.bits[name] for one in each]) for name in whole.bits}
    changed = {name: (bits[name] != own).mean(axis=0) for name, own in whole.bits.items()}
    return Stability(whole, changed, bits)


@dataclass(frozen=True)
class Sufficiency:
    """What fewer samples would have come to: after `samples` of them (an estimate, from whole folds) a share `changed`
    of the experts had other bits than with all, and their damage by the costs of all was `excess` times the least."""

    samples: int
    changed: float
    excess: float


def sufficiency(statistics: ExpertStatistics, request: AllocationRequest) -> list[Sufficiency]:
    """Are these samples enough? One row for 1, 2, … folds of them; the last is with all, 0 and 1.

    Raises:
        ImportanceError: fewer than two folds hold samples.
    """
    used, rows = used_folds(statistics), []
    costs, whole = request.costs(statistics), request.solve(statistics)
    table = by_projection(costs, statistics) if "projection" in request.unit else costs
    least, experts = table.damage(whole.bits), sum(np.size(own) for own in whole.bits.values())
    for count in range(1, len(used) + 1):
        own = request.solve(only_folds(statistics, used[:count])) if count < len(used) else whole
        other = sum(int((own.bits[name] != bits).sum()) for name, bits in whole.bits.items())
        excess = table.damage(own.bits) / least if least > 0 else 1.0
        rows.append(Sufficiency(round(len(statistics.samples) * count / len(used)), other / experts, excess))
    return rows
