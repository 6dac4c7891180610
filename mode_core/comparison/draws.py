"""Calibration draws: what other samples would have said.

The best draws are independent ones: several runs, each calibrated on other samples. Where there is one run only,
its statistics are sub-sampled: they are kept in folds of whole samples, and half of the folds make a smaller
calibration of their own, without running the model again. Such halves overlap, so they vary less than fresh samples of
their size would; the comparison says which kind it used.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

from mode_core.errors import SettingsError
from mode_core.importance.folds import used_folds
from mode_core.statistics import ExpertStatistics

DRAWS = 5


def fold_draws(statistics: ExpertStatistics, draws: int = DRAWS, seed: int = 0) -> list[ExpertStatistics]:
    """Different halves of the folds that hold samples, each as statistics of its own; chosen by `seed`.

    Raises:
        SettingsError: fewer folds than it takes for so many different halves.
    """
    used = used_folds(statistics)
    half = len(used) // 2
    if comb(len(used), half) < draws:
        raise SettingsError(
            f"{draws} calibration draws cannot be made from {len(used)} folds of samples; "
            "calibrate with more samples, or give several runs."
        )
    choices = list(combinations(used, half))
    picked = np.random.default_rng(seed).choice(len(choices), draws, replace=False)
    return [only_folds(statistics, choices[number]) for number in picked]


def only_folds(statistics: ExpertStatistics, kept: tuple[int, ...]) -> ExpertStatistics:
    """The statistics as if only the samples of these folds had been drawn."""
    for fold in sorted(set(range(statistics.folds)) - set(kept), reverse=True):
        statistics = statistics.without_fold(fold)
    return statistics
