"""Costs by projection: how an expert's damage divides between its entrance (gate and up) and its exit (down).

Calibration measures an expert with all its matrices rounded alike. Engines that store one width for all gates and ups
of a layer, and another for all downs, need the two apart. To first order the relative errors of the matrices add up in
the expert's output, so the measured damage at b bits is divided in the ratio of the relative squared weight errors
‖W − W_b‖²/‖W‖² of gate plus up against down (ours; an estimate, and the sum over both is what was measured). Where
channels are even it comes close; where they are uneven, as in the example's first model, large channels coincide with
large errors and the exit takes more than its weights tell: there the entrance's share is put 0.18 too high on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mode_core.importance.records import CostTable
from mode_core.importance.stacks import ImportanceError
from mode_core.statistics import BankStatistics, ExpertStatistics

NOTE = "divided between gate+up and down by the weights' own rounding errors (estimate)"


def by_projection(costs: CostTable, statistics: ExpertStatistics) -> CostTable:
    """The same costs as bank → `[E, 2, B]` (gate+up, down); over the two they add up to what they were.

    Raises:
        ImportanceError: costs of other banks or widths than the statistics.
    """
    if set(costs) != set(statistics.banks) or set(costs.bits) - set(statistics.bits):
        raise ImportanceError("The costs are of other banks or widths than these statistics; make them from one run.")
    columns = [statistics.bits.index(width) for width in costs.bits]
    divided = {
        name: table[:, None, :] * _shares(statistics.banks[name])[:, :, columns] for name, table in costs.items()
    }
    settings: Mapping[str, object] = dict(costs.settings) | {"by_projection": NOTE}
    return replace(costs, costs=divided, settings=settings)


def _shares(bank: BankStatistics) -> np.ndarray:
    """Share of gate+up and of down in an expert's damage at every measured width, `[E, 2, B]`; halves where the
    weights take no error at all."""
    norm, error = bank.total("weight_norm") ** 2, bank.total("weight_error")
    scale = np.broadcast_to(norm[:, None, :], error.shape)
    relative = np.divide(error, scale, out=np.zeros_like(error), where=scale > 0)
    parts = np.stack([relative[..., :2].sum(axis=-1), relative[..., 2]], axis=1)
    whole = parts.sum(axis=1, keepdims=True)
    return np.divide(parts, whole, out=np.full_like(parts, 0.5), where=whole > 0)
