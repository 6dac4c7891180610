"""What has to be measured: one allocation per method, scope, budget and calibration draw; equal ones only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mode_core.allocation import Allocation
from mode_core.comparison.settings import ComparisonSettings
from mode_core.importance import METHODS, CostTable
from mode_core.quantization.widths import UNTOUCHED
from mode_core.statistics import ExpertStatistics


@dataclass(frozen=True)
class Entry:
    """One row of the comparison: whose allocation, at which budget, from which calibration draw."""

    method: str
    scope: str
    average_bits: float
    shrinkage: float
    draw: int
    allocation: Allocation


def costs_of(
    statistics: ExpertStatistics, method: str, settings: ComparisonSettings, draw: int, shrinkage: float = 0.0
) -> CostTable:
    """A method's costs at the comparison's widths; the method "random" is drawn anew for every calibration draw."""
    request = replace(settings.request, method=method, shrinkage=shrinkage)
    return request.costs(statistics, seed=settings.seed + draw)


def entries(draws: Sequence[ExpertStatistics], settings: ComparisonSettings) -> Iterator[Entry]:
    """Every allocation that is compared, draw by draw, each with its packed bytes."""
    for number, statistics in enumerate(draws):
        sizes = settings.quantizer.sizes(statistics, settings.request.widths)
        for method, level in ((name, level) for name in settings.methods for level in settings.levels(name)):
            costs, solvers = costs_of(statistics, method, settings, number, level), {}
            for scope, average in product(METHODS[method].scopes, settings.average_bits):
                request = settings.asked(method, scope, average, level)
                if request.unbudgeted not in solvers:
                    solvers[request.unbudgeted] = request.solver(statistics, costs=costs, sizes=sizes)
                allocation = request.within(solvers[request.unbudgeted], settings.quantizer)
                yield Entry(method, scope, average, level, number, allocation)


def alone(banks: Mapping[str, int], bank: str, expert: int, width: int) -> dict[str, np.ndarray]:
    """Bits of a model with one expert at `width` and all others as they were; `banks`: name → number of experts."""
    bits = {name: np.full(experts, UNTOUCHED) for name, experts in banks.items()}
    bits[bank][expert] = width
    return bits
