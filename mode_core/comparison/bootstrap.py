"""Paired bootstrap over items and calibration draws: everything that is compared is redrawn together.

One resample redraws the items within every stratum (task and modality, so that every task keeps its weight) and,
where a mean over calibration draws is taken, the draws as well, both with replacement. The same resamples serve every
method and budget, so what two methods share cancels in their difference. Intervals are percentiles of the resampled
means (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13). With D draws the resampled spread between
draws is (D − 1)/D of the unbiased one, so with five draws intervals are slightly too narrow in what they owe to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95


class Resamples:
    """R redrawings of n items (by stratum) and D draws, as counts.

    `items` float32 `[R, n]`: how often each item was drawn; `draws` float32 `[R, D]`.
    Memory: R × (n + D) × 4 bytes.
    """

    def __init__(self, strata: Sequence[object], draws: int, resamples: int = 2000, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        strata = np.asarray(strata)
        self.items = np.zeros([resamples, len(strata)], dtype=np.float32)
        for stratum in dict.fromkeys(strata.tolist()):
            places = np.flatnonzero(strata == stratum)
            even = np.full(len(places), 1 / len(places))
            self.items[:, places] = random.multinomial(len(places), even, size=resamples)
        self.draws = random.multinomial(draws, np.full(draws, 1 / draws), size=resamples).astype(np.float32)

    def of_draws(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Resampled means over the items of `mask` (bool `[n]`, whole strata): values `[…, n]` → `[…, R]`."""
        return values[..., mask] @ (self.items[:, mask] / mask.sum(dtype=np.float32)).T

    def over_draws(self, resampled: np.ndarray) -> np.ndarray:
        """Means over redrawn draws of what `of_draws` gave: `[…, D, R]` → `[…, R]`."""
        return np.einsum("...dr,rd->...r", resampled, self.draws / self.draws.shape[1])


def bounds(resampled: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval over the last axis: `[…, R]` → low and high, `[…]`; nan resamples are left out."""
    tails = [(1 - level) / 2, (1 + level) / 2]
    quantiles = np.nanquantile if np.isnan(resampled).any() else np.quantile
    low, high = quantiles(resampled, tails, axis=-1)
    return low, high
