"""What an allocation will do to the answers, in nats of KL per answer token, and how sure that is.

**One yardstick.** Whatever method chose the bits, their damage is read off one cost table: the recommended estimate's,
drawn to the bank's mean as far as a check's measured allocations say (`yardstick.fitted`), else by `YARDSTICK`. An
estimate is no judge of its own choice: where it errs low it puts few bits, so that the sum of what it chose is too low.
On the bundled model the sums of `mode_soft_fisher` as they are come to a third of what is then measured, drawn by 0.5
to twice as much, and by the fitted 0.15 to within a factor of 1.5 wherever the recommended estimate chose; without a
check 0.3 was best on three sizes of the model, and what it misses by is in the interval (sample_data/README.md).

**Anchor.** Costs are sums of squared errors; answers change by less at first and by more than that later. What a sum
means is measured: every expert alike at some widths, on a few samples, one pass each. Between these points the
logarithm of KL is a straight line over the logarithm of the sum, beyond them it goes on as in the last piece. Samples
that calibration did not hold anchor better: `check` measures an anchor on its own.

**Without one** the number is relative and has no unit. Gradients give nats to second order: half the
Fisher damage of all tokens over the number of answer tokens. On the bundled model that is 0.8 of what is measured with
every expert at 4 bits, half at 3, four tenths at 2 and a seventh at 1, so it is no prediction.

**Doubt.** Student's interval of the delete-one-fold jackknife of log KL, joined with the anchor's own standard error.
It tells what other samples of the same kind would have said, not what other kinds would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mode_core.allocation import Allocation
from mode_core.errors import PredictionError
from mode_core.importance import METHODS, CostTable, Recommendation, cost_table, recommended
from mode_core.importance.folds import used_folds
from mode_core.importance.projections import by_projection
from mode_core.modalities import SIGNAL, UNRANKED
from mode_core.prediction.anchor import Anchor
from mode_core.quantization.widths import UNTOUCHED
from mode_core.statistics import ExpertStatistics

NATS = "nats of KL per answer token"
YARDSTICK = 0.3  # how far costs with gradients are drawn where no check fitted it
SPREAD = 0.35  # and what predictions then miss by, as standard error of the logarithm
LEAST = 1e-9  # nats: below this a KL is rounding, and has no logarithm worth the name
Bits = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """Predicted damage of an allocation.

    `kl[kind]` in nats of KL per answer token, by kind of sample as in the anchor; empty without an anchor. `relative`
    is the summed cost as a share of that of every expert at the lowest measured width: without a unit. `method`,
    `shrinkage`: the yardstick.
    """

    kl: Mapping[str, Estimate]
    relative: Estimate
    method: str
    shrinkage: float

    @property
    def unit(self) -> str:
        """Of `kl`; empty where there is none."""
        return NATS if self.kl else ""


class Predictor:
    """Cost tables of the yardstick, with all samples and without each fold, prepared once: a prediction is a look-up.

    `yardstick`: what to read damage off instead of the recommended estimate; its costs are drawn to the mean by what
    the anchor found best, else by `YARDSTICK` (without gradients: by its own shrinkage). Memory: folds × experts ×
    widths numbers.

    Raises:
        ImportanceError: statistics in which fewer than two folds hold samples.
        PredictionError: an anchor at widths that were not measured in calibration.
    """

    def __init__(
        self,
        statistics: ExpertStatistics,
        anchor: Anchor | None = None,
        yardstick: Recommendation | None = None,
    ) -> None:
        chosen = yardstick or recommended(statistics)
        self.statistics, self.anchor, self.method = statistics, anchor, chosen.method
        drawn = None if anchor is None else anchor.drawn
        unfitted = YARDSTICK if METHODS[chosen.method].needs else chosen.shrinkage
        self.shrinkage = unfitted if drawn is None else drawn
        if anchor is not None and (strange := set(anchor.widths) - set(statistics.bits)):
            raise PredictionError(
                f"The anchor was measured at {min(strange)} bits, the run's damage was not; measure it again."
            )
        self._signal = SIGNAL if SIGNAL in statistics.signals else (*statistics.signals, UNRANKED)[0]
        self._tables = [self._table(fold) for fold in (None, *used_folds(statistics))]
        self._costs = self._flat(self._tables)
        self._uniform = self._costs.sum(axis=1)  # [1 + F, B]: every expert at each width

    def _table(self, fold: int | None) -> CostTable:
        return cost_table(
            self.statistics, self.method, signal=self._signal, bits=self.statistics.bits, leave_out_fold=fold,
            shrinkage=self.shrinkage,
        )  # fmt: skip

    def predict(self, allocation: Allocation | Bits) -> Prediction:
        """Predicted damage of bits, bank → int `[E]` or `[E, 2]`; experts at 16 bits take none."""
        totals = self._totals(allocation.bits if isinstance(allocation, Allocation) else allocation)
        lowest = self._uniform[:, self._columns([min(self.statistics.bits)])[0]]
        relative = _joined(np.log(np.maximum(totals / lowest, LEAST)), 0.0)
        kl: dict[str, Estimate] = {}
        if self.anchor is not None:
            at = self._uniform[:, self._columns(self.anchor.widths)]
            kl = {kind: _anchored(self.anchor, kind, totals, at) for kind in self.anchor.kl}
        return Prediction(kl, relative, self.method, self.shrinkage)

    @staticmethod
    def _flat(tables: Sequence[CostTable]) -> np.ndarray:
        """Costs of all experts (or halves of experts) after each other, table by table: `[1 + F, N, B]`."""
        return np.stack([np.concatenate([own.reshape(-1, own.shape[-1]) for own in one.values()]) for one in tables])

    @cached_property
    def _halves(self) -> np.ndarray:
        return self._flat([by_projection(table, self.statistics) for table in self._tables])

    def _columns(self, widths: Sequence[int] | np.ndarray) -> np.ndarray:
        known = np.array(self.statistics.bits)
        order = np.argsort(known)
        return order[np.searchsorted(known, widths, sorter=order)]

    def _totals(self, bits: Bits) -> np.ndarray:
        """Summed costs by each table, `[1 + F]`; what stays at 16 bits costs nothing."""
        split = any(np.ndim(own) == 2 for own in bits.values())
        each = [np.asarray(bits[bank]) for bank in self.statistics.banks]
        own = np.concatenate([np.repeat(row, 2) if split and row.ndim == 1 else row.ravel() for row in each])
        rows = np.flatnonzero(own != UNTOUCHED)
        if strange := sorted(set(own[rows].tolist()) - set(self.statistics.bits)):
            raise PredictionError(f"The allocation holds {strange[0]} bits, whose damage this run did not measure.")
        return (self._halves if split else self._costs)[:, rows, self._columns(own[rows])].sum(axis=1)


def _anchored(anchor: Anchor, kind: str, totals: np.ndarray, at: np.ndarray) -> Estimate:
    """KL of summed costs `[1 + F]` by the anchor's points, whose costs are `at` `[1 + F, W]`."""
    measured = np.maximum(anchor.kl[kind], LEAST)
    spread = np.array(anchor.error[kind]) / measured  # standard error of the logarithm
    logs = [_line(total, own[::-1], np.log(measured)[::-1]) for total, own in zip(totals, at, strict=True)]
    own = float(np.interp(np.log(max(totals[0], LEAST)), np.log(np.maximum(at[0, ::-1], LEAST)), spread[::-1]))
    return _joined(np.array(logs), float(np.hypot(own, SPREAD if anchor.drawn is None else anchor.spread)))


def _line(total: float, costs: np.ndarray, logs: np.ndarray) -> float:
    """Log KL at a summed cost: straight between the points (costs rising), and on beyond them as in the last piece."""
    place, known = np.log(max(total, LEAST)), np.log(np.maximum(costs, LEAST))
    if len(known) == 1:
        return float(logs[0] + place - known[0])  # a single point: in proportion
    piece = int(np.clip(np.searchsorted(known, place) - 1, 0, len(known) - 2))
    step = known[piece + 1] - known[piece]
    slope = (logs[piece + 1] - logs[piece]) / step if step > 0 else 0.0
    return float(logs[piece] + slope * (place - known[piece]))


def _joined(logs: np.ndarray, error: float) -> Estimate:
    """From log KL with all samples and without each fold, `[1 + F]`, and one more standard error of the logarithm."""
    from scipy.special import stdtrit  # fetched here: a first page should not wait for it

    without, folds = logs[1:], len(logs) - 1
    jackknife = (folds - 1) / folds * ((without - without.mean()) ** 2).sum()
    reach = float(stdtrit(folds - 1, 0.975) * np.sqrt(jackknife + error**2))
    return Estimate(*(float(np.exp(logs[0] + side * reach)) for side in (0, -1, 1)))
