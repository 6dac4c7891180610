"""Would other samples have said the same? Intervals from the folds of the samples, by the delete-one jackknife.

Statistics are kept in folds of whole samples. Leaving out one fold at a time gives F estimates θ_f; the jackknife's
standard error is sqrt((F − 1)/F · Σ(θ_f − mean θ)²), an interval θ ± t·se with Student's t of F − 1 degrees.
Folds that no sample fell into are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mode_core.importance.frequency import frequencies
from mode_core.importance.stacks import ImportanceError
from mode_core.modalities import KEY_RATIO, SIGNAL, kinds_of
from mode_core.statistics import ExpertStatistics


@dataclass(frozen=True)
class Interval:
    """An estimate over all samples and its jackknife interval; arrays of one shape."""

    estimate: np.ndarray
    standard_error: np.ndarray
    low: np.ndarray
    high: np.ndarray


def used_folds(statistics: ExpertStatistics) -> list[int]:
    """Folds that hold at least one token.

    Raises:
        ImportanceError: fewer than two, from which no interval can be had.
    """
    seen = sum(bank.tokens_by_fold() for bank in statistics)
    folds = np.flatnonzero(seen > 0).tolist()
    if len(folds) < 2:
        raise ImportanceError(
            f"Intervals need samples in at least two folds; these statistics have {len(folds)}. "
            "Calibrate with more samples."
        )
    return folds


def only_folds(statistics: ExpertStatistics, kept: Sequence[int]) -> ExpertStatistics:
    """The statistics as if only the samples of these folds had been drawn."""
    for fold in sorted(set(range(statistics.folds)) - set(kept), reverse=True):
        statistics = statistics.without_fold(fold)
    return statistics


def jackknife(estimate: np.ndarray, without: np.ndarray, level: float = 0.95) -> Interval:
    """Interval of an estimate from the estimates without each fold, `without [F, …]`."""
    from scipy.special import stdtrit  # fetched here: a first page should not wait for it

    folds = len(without)
    spread = ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    error = np.sqrt((folds - 1) / folds * spread)
    reach = stdtrit(folds - 1, (1 + level) / 2) * error
    return Interval(estimate, error, estimate - reach, estimate + reach)


def over_folds(statistics: ExpertStatistics, of: Callable[[int | None], float]) -> Interval:
    """Interval of any number of the statistics: `of(fold)` is it without one fold, `of(None)` over all samples.

    Raises:
        ImportanceError: fewer than two folds hold samples.
    """
    return jackknife(np.asarray(of(None)), np.array([of(fold) for fold in used_folds(statistics)], dtype=float))


def frequency_intervals(
    statistics: ExpertStatistics, key_ratio: float = KEY_RATIO, signal: str = SIGNAL, level: float = 0.95
) -> dict[str, dict[str, Interval]]:
    """Intervals of every frequency: bank → kind of token → `Interval` of `[E]`, cut to [0, 1]."""
    whole = frequencies(statistics, key_ratio, signal)
    without = [frequencies(statistics, key_ratio, signal, fold) for fold in used_folds(statistics)]
    intervals: dict[str, dict[str, Interval]] = {}
    for name, shares in whole.items():
        intervals[name] = {}
        for kind in kinds_of(statistics.modalities):
            interval = jackknife(getattr(shares, kind), np.stack([getattr(one[name], kind) for one in without]), level)
            low, high = np.clip(interval.low, 0, 1), np.clip(interval.high, 0, 1)
            intervals[name][kind] = Interval(interval.estimate, interval.standard_error, low, high)
    return intervals
