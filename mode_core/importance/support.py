"""How many measured tokens stand behind each expert's damage, by modality, and who has too few.

An expert that no text token (or no key vision token) chose has frequency 0 and damage 0 there: nothing is missing. With
fewer than `min_support` tokens of both together its damage is not measured at all; `cost_table` then estimates it, and
`CostTable.unsupported` flags it. One that has tokens of a modality, but fewer than `min_support`, gets the estimate for
that modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mode_core.importance.stacks import ImportanceError, in_order, views
from mode_core.modalities import KEY_RATIO, KEY_TOKENS, KINDS, SIGNAL, TEXT_TOKENS, USUAL, counted_of
from mode_core.statistics import ExpertStatistics


@dataclass(frozen=True)
class Support:
    """One bank: `tokens[modality]` and `routed[modality]` `[E]`, tokens measured and tokens that chose the expert, of
    text and of key vision; fewer than `least` are too few. `layer` is the bank's decoder layer."""

    tokens: dict[str, np.ndarray]
    routed: dict[str, np.ndarray]
    least: int
    layer: int

    def none(self, modality: str) -> np.ndarray:
        """Experts that no token of a modality chose: bool `[E]`."""
        return self.routed[modality] == 0

    def thin(self, modality: str) -> np.ndarray:
        """Experts that some tokens of a modality chose, but fewer than `least` were measured: bool `[E]`."""
        return (self.tokens[modality] < self.least) & ~self.none(modality)

    @property
    def unsupported(self) -> np.ndarray:
        """Experts with fewer than `least` measured tokens of all these together, whose whole cost is estimated:
        `[E]`."""
        return np.sum(list(self.tokens.values()), axis=0) < self.least


def support(
    statistics: ExpertStatistics, key_ratio: float = KEY_RATIO, signal: str = SIGNAL, min_support: int = 1
) -> dict[str, Support]:
    """Support of every bank, name → `Support`; arguments as in `cost_table`.

    Raises:
        ImportanceError: `min_support` below 1, a key ratio out of range, or a signal that was not calibrated.
    """
    if min_support < 1:
        raise ImportanceError(f"min_support counts tokens and must be at least 1; got {min_support!r}.")
    supports = {}
    for view in views(statistics, key_ratio, signal):
        sums = {
            key: {kind: view.sums(kind, key) for kind in counted_of(statistics.modalities)}
            for key in ("support", "selections")
        }
        for row, bank in enumerate(view.stack.banks):
            tokens, routed = ({kind: both[row] for kind, both in sums[key].items()} for key in sums)
            supports[bank.name] = Support(tokens, routed, int(min_support), bank.shape.layer)
    return in_order(statistics, supports)


def support_summary(found: dict[str, Support], listed: int = 10) -> dict[str, object]:
    """Counts over all banks and the first experts by name, in words: plain values for a table or JSON."""

    def count(flags: list[np.ndarray]) -> int:
        return int(sum(flag.sum() for flag in flags))

    banks = found.values()
    names = [f"layer {b.layer}, expert {e}" for b in banks for e in np.flatnonzero(b.unsupported).tolist()]
    more = [f"and {len(names) - listed} more"] if len(names) > listed else []
    return {
        "fewest_tokens": next(iter(banks)).least,
        "experts": count([np.ones_like(b.unsupported) for b in banks]),
        "no_text_tokens": count([b.none(TEXT_TOKENS) for b in banks]),
        "no_key_vision_tokens": count([b.none(KEY_TOKENS) for b in banks]),
        "too_few_text_tokens": count([b.thin(TEXT_TOKENS) for b in banks]),
        "too_few_key_vision_tokens": count([b.thin(KEY_TOKENS) for b in banks]),
        **{
            f"{called}_{KINDS[kind].title.replace(' ', '_')}": count([getattr(b, test)(kind) for b in banks])
            for kind in next(iter(banks)).tokens
            if KINDS[kind].modality not in USUAL
            for called, test in (("no", "none"), ("too_few", "thin"))
        },
        "cost_estimated": len(names),
        "estimated_experts": [*names[:listed], *more] or "none",
    }
