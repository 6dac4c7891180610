"""Banks of equal shape side by side, folds added up and bins cumulated once, so that a new key ratio is a slice.

The paper's key ratio ρ asks for sums over the best-ranked vision tokens of each sample. Statistics hold them
per redundancy bin; here they are cumulated over the bins, and every ratio afterwards reads one slice.

Memory per array: `(100 + 1) × banks × E (× B)` doubles, whatever the number of samples; built when first asked
for, kept as long as the statistics they belong to are alive.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from mode_core.statistics import BINS, BankShape, BankStatistics, ExpertStatistics

KINDS = ("text", "vision", "key", "redundant", "all")
NO_SIGNAL = "none"


class ImportanceError(ValueError):
    """A question that these statistics cannot answer; the text says which setting to change, and to what."""


@dataclass(frozen=True, eq=False)
class Stack:
    """N banks of one shape. Arrays are totals over the folds (all of them, or all but `leave_out`)."""

    banks: tuple[BankStatistics, ...]
    leave_out: int | None = None
    _kept: dict[object, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Full module names, in the order of the leading axis."""
        return tuple(bank.name for bank in self.banks)

    @property
    def shape(self) -> BankShape:
        """The sizes that all these banks share (their layer numbers differ)."""
        return self.banks[0].shape

    def total(self, key: str) -> np.ndarray:
        """One stored array summed over the folds: `[N, …]`."""
        if key not in self._kept:
            self._kept[key] = np.stack([self._sum_folds(bank, key) for bank in self.banks])
        return self._kept[key]

    def _sum_folds(self, bank: BankStatistics, key: str) -> np.ndarray:
        whole = bank.total(key)
        folded = self.leave_out is not None and not key.startswith("weight_")
        return np.maximum(whole - bank.arrays[key][self.leave_out], 0) if folded else whole

    def cumulated(self, signal: str | None, key: str) -> np.ndarray:
        """`vision_<key>` over the κ best-ranked bins, for every κ: `[101, N, …]`; entry 0 is all zeros."""
        name = f"cumulated {signal} {key}"
        if name not in self._kept:
            if signal is None:
                binned = np.zeros([*np.shape(self.total(f"text_{key}")), BINS])
            else:
                binned = np.stack([self._sum_folds(bank, f"vision_{key}/{signal}") for bank in self.banks])
            sums = np.zeros([BINS + 1, *binned.shape[:-1]])
            np.cumsum(np.moveaxis(binned, -1, 0), axis=0, out=sums[1:])
            self._kept[name] = sums
        return self._kept[name]

    def keep(self, name: object, make) -> np.ndarray:
        """`make()` once for this stack; the same array on every later call with this name."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


@dataclass(frozen=True)
class View:
    """A stack at one key ratio (`key_bins` of the 100 bins are key) and one redundancy signal."""

    stack: Stack
    signal: str | None
    key_bins: int

    def sums(self, kind: str, key: str) -> np.ndarray:
        """One of the stored sums for one kind of token: `[N]`, `[N, E]` or `[N, E, B]`.

        `kind` is text, vision (all of them), key, redundant (vision that is not key) or all (text + vision);
        `key` one of selections, weight, error, gated_error, support, tokens, energy.
        """
        if kind == "text":
            return self.stack.total(f"text_{key}")
        if kind == "all":
            return self.sums("text", key) + self.sums("vision", key)
        cumulated = self.stack.cumulated(self.signal, key)
        if kind == "vision":
            return cumulated[BINS]
        if kind == "key":
            return cumulated[self.key_bins]
        if kind == "redundant":
            return np.maximum(cumulated[BINS] - cumulated[self.key_bins], 0)
        raise ImportanceError(f"There is no kind of token {kind!r}; choose one of {', '.join(KINDS)}.")


_STACKS: dict[tuple[int, int | None], tuple[weakref.ref, tuple[Stack, ...]]] = {}


def stacks(statistics: ExpertStatistics, leave_out: int | None = None) -> tuple[Stack, ...]:
    """The banks of `statistics`, grouped by shape; the same objects on every call with the same statistics.

    Statistics are frozen, so their identity stands for their content. `leave_out` is a fold whose samples are
    taken out (for the jackknife); those stacks are not kept, since each of them is asked for once.
    """
    key = (id(statistics), leave_out)
    known = _STACKS.get(key)
    if known is not None and known[0]() is statistics:
        return known[1]
    made = tuple(Stack(tuple(group), leave_out) for group in _by_shape(statistics))
    if leave_out is None:
        _STACKS[key] = (weakref.ref(statistics, lambda _: _STACKS.pop(key, None)), made)
    return made


def _by_shape(statistics: ExpertStatistics) -> list[list[BankStatistics]]:
    def size(bank: BankStatistics) -> tuple:
        shape = bank.shape
        return shape.experts, shape.hidden, shape.intermediate, shape.top_k, shape.has_gate

    return [list(group) for _, group in groupby(sorted(statistics, key=size), key=size)]


def views(
    statistics: ExpertStatistics, key_ratio: float, signal: str, leave_out: int | None = None
) -> tuple[View, ...]:
    """Every stack at one key ratio and signal.

    Raises:
        ImportanceError: key ratio outside (0, 1], or a signal that was not calibrated.
    """
    bins = key_bins(key_ratio)
    if signal == NO_SIGNAL:
        bins, signal = BINS, statistics.signals[0] if statistics.signals else None
    elif signal not in statistics.signals:
        known = ", ".join((*statistics.signals, NO_SIGNAL))
        raise ImportanceError(
            f"These statistics hold no redundancy signal {signal!r}; choose one of: {known}, "
            f"or calibrate again with {signal!r}."
        )
    return tuple(View(stack, signal, bins) for stack in stacks(statistics, leave_out))


def key_bins(key_ratio: float) -> int:
    """Number of the 100 bins that are key at this ratio: round(100·ρ), so whole percentages are exact.

    Raises:
        ImportanceError: the ratio is no number in (0, 1], or rounds to no token at all.
    """
    if not isinstance(key_ratio, (int, float, np.number)) or not 0 < key_ratio <= 1:
        raise ImportanceError(
            f"key_ratio must lie in (0, 1]; got {key_ratio!r}. It is the share of vision tokens kept as key: "
            "0.20 keeps the best fifth, 1 keeps all."
        )
    bins = round(BINS * float(key_ratio))
    if bins == 0:
        raise ImportanceError(f"key_ratio {key_ratio} is finer than the statistics, which hold whole per cents.")
    return bins


def in_order(statistics: ExpertStatistics, parts: dict) -> dict:
    """The same mapping in the order of the model's banks."""
    return {name: parts[name] for name in statistics.banks}
