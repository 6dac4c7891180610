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
from typing import Any

import numpy as np

from mode_core.errors import ImportanceError
from mode_core.modalities import ALL, KEY_TOKENS, KINDS, MODALITIES, REDUNDANT_TOKENS, TEXT_TOKENS, UNRANKED, kinds_of
from mode_core.statistics import BINS, BankShape, BankStatistics, ExpertStatistics


@dataclass(frozen=True, eq=False)
class Stack:
    """N banks of one shape. Sums are over all folds, or, with `leave_out`, what `whole` has without that fold."""

    banks: tuple[BankStatistics, ...]
    whole: Stack | None = None
    leave_out: int | None = None
    _kept: dict[object, Any] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Full module names, in the order of the leading axis."""
        return tuple(bank.name for bank in self.banks)

    @property
    def shape(self) -> BankShape:
        """The sizes that all these banks share (their layer numbers differ)."""
        return self.banks[0].shape

    def total(self, key: str) -> np.ndarray:
        """One stored array without bins, summed over the folds: `[N, …]`."""
        return self.keep(key, lambda: self._total(key))

    def _total(self, key: str) -> np.ndarray:
        if self.whole is None:
            return np.stack([bank.total(key) for bank in self.banks])
        if key.startswith("weight_"):
            return self.whole.total(key)
        return _minus(self.whole.total(key), np.stack([bank.arrays[key][self.leave_out] for bank in self.banks]))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of `MODALITIES` that all these banks hold sums of."""
        return self.keep("modalities", lambda: self.banks[0].modalities)

    def ranked(self, modality: str, signal: str | None, key: str, bins: int) -> np.ndarray:
        """`<modality>_<key>` over the best-ranked `bins` of the 100 bins, `[N, …]`; zeros where there is no signal."""
        if signal is None or modality not in self.modalities:
            return np.zeros_like(self.total(f"{TEXT_TOKENS}_{key}"))
        name = f"{modality}_{key}/{signal}"
        if self.whole is None:
            return self._cumulated(name)[bins]
        return self.keep((name, bins), lambda: self._ranked_without(name, (modality, signal, key, bins)))

    def _ranked_without(self, name: str, asked: tuple[str, str, str, int]) -> np.ndarray:
        bins = asked[-1]
        fold = np.stack([bank.arrays[name][self.leave_out][..., :bins].sum(axis=-1) for bank in self.banks])
        assert self.whole is not None  # only a stack that leaves a fold out asks
        return _minus(self.whole.ranked(*asked), fold)

    def _cumulated(self, name: str) -> np.ndarray:
        """The sums over the κ best-ranked bins for every κ: `[101, N, …]`; entry 0 is all zeros."""

        def make() -> np.ndarray:
            binned = np.stack([bank.total(name) for bank in self.banks])
            sums = np.zeros([BINS + 1, *binned.shape[:-1]])
            np.cumsum(np.moveaxis(binned, -1, 0), axis=0, out=sums[1:])
            return sums

        return self.keep((name, "bins"), make)

    def keep(self, name: object, make) -> Any:
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

        `kind` is one of `KINDS`; one that no token was of has zeros. `key` is one of selections, weight, error,
        gated_error, support, tokens, energy; with gradients also fisher, soft_fisher, fisher_support, fisher_tokens,
        gradient_energy; with saliency also that.
        """
        if kind not in KINDS:
            raise ImportanceError(f"There is no kind of token {kind!r}; choose one of {', '.join(KINDS)}.")
        modality, part = KINDS[kind].modality, KINDS[kind].part
        if modality == ALL:
            first, *others = (self.sums(name, key) for name in self.stack.modalities)
            return sum(others, start=first)
        if not MODALITIES[modality].ranked:
            return self.stack.total(f"{modality}_{key}")
        whole = self.stack.ranked(modality, self.signal, key, self.key_bins if part == KEY_TOKENS else BINS)
        if part == REDUNDANT_TOKENS:
            return _minus(whole, self.stack.ranked(modality, self.signal, key, self.key_bins))
        return whole

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of token that these statistics tell apart."""
        return kinds_of(self.stack.modalities)


def _minus(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Difference of two sums of which one is part of the other: counts exactly, errors never below zero."""
    return np.maximum(whole - part, 0)


_STACKS: dict[int, tuple[weakref.ref, tuple[Stack, ...]]] = {}


def stacks(statistics: ExpertStatistics, leave_out: int | None = None) -> tuple[Stack, ...]:
    """The banks of `statistics`, grouped by shape; the same objects on every call with the same statistics.

    Statistics are frozen, so their identity stands for their content. `leave_out` is a fold whose samples are
    taken out (for the jackknife).
    """
    key = id(statistics)
    known = _STACKS.get(key)
    if known is None or known[0]() is not statistics:
        made = tuple(Stack(tuple(group)) for group in _by_shape(statistics))
        known = _STACKS[key] = (weakref.ref(statistics, lambda _: _STACKS.pop(key, None)), made)
    if leave_out is None:
        return known[1]
    return tuple(Stack(stack.banks, stack, leave_out) for stack in known[1])


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
    ranked_by: str | None = signal
    bins = key_bins(key_ratio)
    known_ratios: Any = statistics.settings.get("key_ratios")  # of statistics that were read in, not measured here
    if known_ratios and signal != UNRANKED and bins not in [key_bins(ratio) for ratio in known_ratios]:
        ratios = ", ".join(f"{ratio:g}" for ratio in known_ratios)
        raise ImportanceError(
            f"These statistics were read in and hold only the key ratio {ratios}; got {key_ratio:g}. "
            "Calibrate here to choose another."
        )
    if signal == UNRANKED:
        bins, ranked_by = BINS, statistics.signals[0] if statistics.signals else None
    elif signal not in statistics.signals:
        known = ", ".join((*statistics.signals, UNRANKED))
        raise ImportanceError(
            f"These statistics hold no redundancy signal {signal!r}; choose one of: {known}, "
            f"or calibrate again with {signal!r}."
        )
    return tuple(View(stack, ranked_by, bins) for stack in stacks(statistics, leave_out))


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
