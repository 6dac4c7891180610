"""The nouns of importance: frequencies of one bank, and the cost of every expert at every width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mode_core.errors import SettingsError


@dataclass(frozen=True)
class Frequencies:
    """Shares of top-k selections within one bank; each array is `[E]` and sums to 1 (paper §4).

    Where no token of a kind was routed at all its share is 1/E everywhere, and the kind's name is in `empty`,
    so that a picture can say "no tokens" instead of showing a uniform share.
    """

    text: np.ndarray
    vision: np.ndarray
    key: np.ndarray
    redundant: np.ndarray
    all: np.ndarray
    audio: np.ndarray | None = None  # None where the statistics tell no such tokens apart
    key_audio: np.ndarray | None = None
    redundant_audio: np.ndarray | None = None
    empty: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CostTable(Mapping[str, np.ndarray]):
    """Predicted damage of each expert at each width: bank name → `[E, B]`, columns in the order of `bits`.

    `unsupported[bank]` is a boolean `[E]`: experts that too few calibration tokens reached, whose cost is an
    estimate (from other tokens, or data-free from the weights) instead of a measurement.
    `comparable_across_banks` says whether one budget for all banks makes sense.
    """

    costs: dict[str, np.ndarray]
    bits: tuple[int, ...]
    method: str
    settings: Mapping[str, object] = field(default_factory=dict)
    comparable_across_banks: bool = False
    unsupported: dict[str, np.ndarray] = field(default_factory=dict)

    def at(self, bits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Cost of every expert at its bits: bank → int `[E]` (of costs by projection `[E, 2]`) → the same shape.

        Bits that are one for both projections cost the sum over the two.

        Raises:
            SettingsError: bits of a width that has no cost; by projection where the costs do not say how they divide.
        """
        order = np.argsort(self.bits)
        known, costs = np.asarray(self.bits)[order], {}
        for bank, given in bits.items():
            table, own = self.costs[bank], np.asarray(given)
            if missing := sorted(set(own.ravel().tolist()) - set(self.bits)):
                raise SettingsError(f"The costs hold no {missing[0]} bits; they have {', '.join(map(str, known))}.")
            if own.ndim == 2 and table.ndim == 2:
                raise SettingsError("The bits are by projection and the costs are not.")
            table = table.sum(axis=1) if own.ndim < table.ndim - 1 else table
            costs[bank] = np.take_along_axis(table, order[np.searchsorted(known, own)][..., None], axis=-1)[..., 0]
        return costs

    def damage(self, bits: Mapping[str, np.ndarray]) -> float:
        """Summed cost of these bits; see `at`."""
        return float(sum(costs.sum() for costs in self.at(bits).values()))

    def __getitem__(self, bank: str) -> np.ndarray:
        return self.costs[bank]

    def __iter__(self):
        return iter(self.costs)

    def __len__(self) -> int:
        return len(self.costs)
