"""Traffic in the place of the frequencies: what it changes, and how far it lies from the calibration set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial.distance import jensenshannon

from mode_core.importance.frequency import share
from mode_core.importance.records import CostTable
from mode_core.modalities import AUDIO_TOKENS
from mode_core.statistics import BINS, ExpertStatistics
from mode_core.traffic.profile import TrafficError, TrafficProfile


def with_traffic(statistics: ExpertStatistics, profile: TrafficProfile, vision_weight: float = 1.0) -> ExpertStatistics:
    """The same statistics with the trace's selections; errors, weights and tokens behind them stay calibration's.

    Vision tokens are spread evenly over the bins of redundancy: key tokens choose as all vision tokens do. A model
    that calibration showed no picture gets none.

    Raises:
        TrafficError: the trace has no vision tokens, and vision has a weight; or calibration heard sounds, whose tokens
            a trace does not tell from text.
    """
    if any(bank.tokens_by_fold(AUDIO_TOKENS).any() for bank in statistics):
        raise TrafficError(
            "This run was calibrated with sounds, and a trace does not tell audio tokens from text; take a run without."
        )
    seen = any(bank.total(f"vision_tokens/{statistics.signals[0]}").any() for bank in statistics)
    if seen and vision_weight and not profile.vision.any():
        raise TrafficError(
            "The trace holds no vision tokens, so it does not say which experts they choose; give --vision-weight 0."
        )
    return _counted(statistics, profile.text, profile.vision if seen else None)


def _counted(statistics: ExpertStatistics, text: np.ndarray, vision: np.ndarray | None) -> ExpertStatistics:
    """The same statistics with these selections `[banks, E]`, alike in all folds and bins."""
    banks = {}
    for row, (name, bank) in enumerate(statistics.banks.items()):
        arrays = dict(bank.arrays)
        folds = len(arrays["text_selections"])
        arrays["text_selections"] = np.tile(text[row] / folds, (folds, 1))
        for signal in statistics.signals if vision is not None else ():
            even = np.tile(vision[row] / folds / BINS, (folds, 1))
            arrays[f"vision_selections/{signal}"] = np.repeat(even[..., None], BINS, axis=-1)
        banks[name] = replace(bank, arrays=arrays)
    return replace(statistics, banks=banks)


def follows_frequencies(statistics: ExpertStatistics, costs: Callable[[ExpertStatistics], CostTable]) -> bool:
    """Whether what gives `costs` looks at how often experts are chosen: does it answer two made-up traces alike?"""
    shape = len(statistics.banks), next(iter(statistics)).shape.experts
    made = (np.ones(shape), np.tile(1.0 + np.arange(shape[1]), (shape[0], 1)))
    one, other = (costs(_counted(statistics, counts, counts)) for counts in made)
    return not all(np.array_equal(one[name], other[name]) for name in one)


def _calibrated(statistics: ExpertStatistics, name: str) -> np.ndarray:
    """Selections of every expert in calibration, text and vision together, `[E]`."""
    bank = statistics.banks[name]
    return bank.total("text_selections") + bank.total(f"vision_selections/{statistics.signals[0]}").sum(axis=-1)


def _served(profile: TrafficProfile) -> np.ndarray:
    return profile.text + profile.vision if profile.told else profile.text


def distances(statistics: ExpertStatistics, profile: TrafficProfile) -> dict[str, float]:
    """Bank → Jensen–Shannon distance (base 2, 0 alike to 1 nothing shared) of its experts' shares in both."""
    served = share(_served(profile))
    return {
        name: float(jensenshannon(share(_calibrated(statistics, name)), served[row], base=2))
        for row, name in enumerate(statistics.banks)
    }


def never_calibrated(statistics: ExpertStatistics, profile: TrafficProfile) -> dict[str, list[int]]:
    """Bank → experts that the traffic uses and calibration never saw, whose damage is an estimate; none: left out."""
    served = _served(profile)
    found = {
        name: np.flatnonzero((served[row] > 0) & (_calibrated(statistics, name) == 0)).tolist()
        for row, name in enumerate(statistics.banks)
    }
    return {name: experts for name, experts in found.items() if experts}
