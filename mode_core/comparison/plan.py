"""What has to be measured: one allocation per method, scope, budget and calibration draw; equal ones only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mode_core.allocation import Allocation, Solver
from mode_core.comparison.settings import ComparisonSettings, scopes_of
from mode_core.importance import CostTable, cost_table
from mode_core.quantization.sizes import expert_bytes
from mode_core.quantization.widths import UNTOUCHED
from mode_core.statistics import ExpertStatistics

# Mixture Compressor asks for at least one expert at each of its two higher widths in every bank; at the budgets where
# all experts have the lowest or the highest width that cannot be.
COUNTS = {"mc": {2: 1, 3: 1}, "mc_released": {2: 1, 3: 1}}


@dataclass(frozen=True)
class Entry:
    """One row of the comparison: whose allocation, at which budget, from which calibration draw."""

    method: str
    scope: str
    average_bits: float
    draw: int
    allocation: Allocation


def costs_of(statistics: ExpertStatistics, method: str, settings: ComparisonSettings, draw: int) -> CostTable:
    """A method's costs at the comparison's widths; the method "random" is drawn anew for every calibration draw."""
    return cost_table(
        statistics,
        method,
        settings.key_ratio,
        settings.signal,
        settings.vision_weight,
        settings.widths,
        seed=settings.seed + draw,
    )


def entries(draws: Sequence[ExpertStatistics], settings: ComparisonSettings) -> Iterator[Entry]:
    """Every allocation that is compared, draw by draw, each with its packed bytes."""
    grid = {"group_size": settings.group_size, "symmetric": settings.symmetric, "method": settings.quantizer}
    for number, statistics in enumerate(draws):
        sizes = {bank.name: expert_bytes(bank.shape, settings.widths, **grid) for bank in statistics}
        for method in settings.methods:
            costs = costs_of(statistics, method, settings, number)
            counts = {width: count for width, count in COUNTS.get(method, {}).items() if width in settings.widths}
            for scope in scopes_of(method):
                free = Solver(costs, settings.widths, scope, sizes=sizes)
                bound = Solver(costs, settings.widths, scope, at_least=counts, sizes=sizes) if counts else free
                for average in settings.average_bits:
                    inside = settings.widths[0] < average < settings.widths[-1]
                    allocation = (bound if inside else free).solve(average)
                    yield Entry(method, scope, average, number, allocation)


def alone(banks: Mapping[str, int], bank: str, expert: int, width: int) -> dict[str, np.ndarray]:
    """Bits of a model with one expert at `width` and all others as they were; `banks`: name → number of experts."""
    bits = {name: np.full(experts, UNTOUCHED) for name, experts in banks.items()}
    bits[bank][expert] = width
    return bits
