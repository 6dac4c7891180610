"""Traffic in the place of the frequencies: what it changes, and how far it lies from the calibration set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mode_core.importance.bias import jensen_shannon
from mode_core.importance.frequency import share
from mode_core.importance.records import CostTable
from mode_core.modalities import AUDIO_TOKENS
from mode_core.statistics import BINS, ExpertStatistics
from mode_core.traffic.profile import TrafficError, TrafficProfile


def with_traffic(statistics: ExpertStatistics, profile: TrafficProfile) -> ExpertStatistics:
    """The same statistics with the trace's selections; errors, weights and tokens behind them stay calibration's.

    Vision tokens are spread evenly over the bins of redundancy: key tokens choose as all vision tokens do. A model
    that calibration showed no picture gets none. The settings name the profile (`traffic`), and say where it holds no
    vision token though calibration does (`traffic_without_vision`): a request for it checks both.

    Raises:
        TrafficError: calibration heard sounds, whose tokens a trace does not tell from text.
    """
    if any(bank.tokens_by_fold(AUDIO_TOKENS).any() for bank in statistics):
        raise TrafficError(
            "This run was calibrated with sounds, and a trace does not tell audio tokens from text; take a run without."
        )
    seen = any(bank.total(f"vision_tokens/{statistics.signals[0]}").any() for bank in statistics)
    named = {"traffic": profile.digest, "traffic_without_vision": seen and not profile.vision.any()}
    found = _counted(statistics, profile.text, profile.vision if seen else None)
    return replace(found, settings=dict(statistics.settings) | named)


def _counted(statistics: ExpertStatistics, text: np.ndarray, vision: np.ndarray | None) -> ExpertStatistics:
    """The same statistics with these selections `[banks, E]`, alike in all folds and bins."""
    banks = {}
    for row, (name, bank) in enumerate(statistics.banks.items()):
        arrays = dict(bank.arrays)
        folds = len(arrays["text_selections"])
        arrays["text_selections"] = np.broadcast_to(text[row] / folds, (folds, len(text[row])))
        for signal in statistics.signals if vision is not None else ():
            even = vision[row][None, :, None] / folds / BINS
            arrays[f"vision_selections/{signal}"] = np.broadcast_to(even, (folds, even.shape[1], BINS))
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


def kinds_told(profile: TrafficProfile) -> str:
    """Which kinds of token the profile tells apart, in words."""
    told = "told by token ids" if profile.told else "all tokens as one kind: no token ids tell which are vision"
    return f"{told}; key and redundant vision tokens are not told apart, so that all vision tokens count"


def distances(statistics: ExpertStatistics, profile: TrafficProfile) -> dict[str, float]:
    """Bank → Jensen–Shannon distance (base 2, 0 alike to 1 nothing shared) of its experts' shares in both."""
    served = share(_served(profile))
    return {
        name: float(np.sqrt(jensen_shannon(share(_calibrated(statistics, name)), served[row])))
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
