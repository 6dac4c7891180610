"""The same allocation asked for at every key ratio, or with every signal: what a choice of either would have changed.

No Streamlit here. Memory: ratios × experts, one byte each for the bits and four for the shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mode_core.importance import frequencies
from mode_core.importance.bias import jensen_shannon
from mode_core.request import AllocationRequest, Quantizer
from mode_core.statistics import ExpertStatistics

RATIOS = tuple(percent / 100 for percent in range(5, 101, 5))


@dataclass(frozen=True)
class Sweep:
    """What each of R settings gives: `bits[r]` of all experts, int8 `[R, experts]`, and `key[r]`, bank → `[E]`."""

    bits: np.ndarray
    key: tuple[Mapping[str, np.ndarray], ...]

    def changed(self, bits: np.ndarray) -> np.ndarray:
        """Share of experts whose bits differ from `bits` `[experts]`, at each setting: `[R]` from 0 to 1."""
        return (self.bits != np.asarray(bits)[None]).mean(axis=1)

    def divergence(self, key: Mapping[str, np.ndarray], empty: Sequence[str] = ()) -> np.ndarray:
        """Jensen–Shannon divergence of each bank's key shares from `key`, `[R, L]` in bits; NaN in banks of `empty`."""
        rows = np.stack([[jensen_shannon(one[bank], key[bank]) for bank in key] for one in self.key])
        rows[:, [bank in set(empty) for bank in key]] = np.nan
        return rows


def sweep(
    statistics: ExpertStatistics,
    settings: Sequence[tuple[float, str]],
    request: AllocationRequest,
    quantizer: Quantizer | None = None,
) -> Sweep:
    """Solve the request once for every (key ratio, signal) of `settings`, all else being the same, its pins too.

    Raises:
        ImportanceError, AllocationError: as `request.solve` does.
    """
    found, shares = [], []
    for ratio, signal in settings:
        solved = replace(request, key_ratio=ratio, signal=signal).solve(statistics, quantizer)
        found.append(flat_bits(solved.bits))
        shares.append({bank: share.key for bank, share in frequencies(statistics, ratio, signal).items()})
    return Sweep(np.stack(found), tuple(shares))


def flat_bits(bits: Mapping[str, np.ndarray]) -> np.ndarray:
    """Bits of all experts after each other, bank by bank: int8 `[experts]`."""
    return np.concatenate([np.ravel(row) for row in bits.values()]).astype(np.int8)
