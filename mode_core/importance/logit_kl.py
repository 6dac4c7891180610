"""Damage as the change of the answer itself: KL(p ‖ p with one expert rounded for one kind of token), in nats.

Calibration measures it at one key ratio and one redundancy signal (`settings["logit_kl"]` of the statistics), so these
costs exist for those alone. δ_M(e, b) is the mean over samples that have tokens of M (paper §5). It is one unit for all
banks, so a budget may be shared between them. Since rounding an expert hurts a sample more the more of its tokens
chose the expert, δ counts frequency already; `mode_logit_kl` multiplies by it once more, as the paper's formula says,
`logit_kl` does not.

Experts that no measured token chose get the KL of a single token: the error that the weights alone let expect, times
one factor per bank, the median over its measured experts and widths of (KL per token) ÷ expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mode_core.importance.frequency import one_token_share, share
from mode_core.importance.sensitivity import data_free
from mode_core.importance.stacks import ImportanceError, View, key_bins
from mode_core.modalities import COUNTED, KINDS
from mode_core.statistics import ExpertStatistics

Parts = Sequence[tuple[str, float]]


def check_measured_at(statistics: ExpertStatistics, key_ratio: float, signal: str) -> None:
    """Refuse a key ratio or signal that KL was not measured at.

    Raises:
        ImportanceError: with the ratio and signal that it was measured at.
    """
    known: Any = statistics.settings["logit_kl"]
    if (key_bins(key_ratio), signal) != (key_bins(known["key_ratio"]), known["signal"]):
        raise ImportanceError(
            f"The KL of the answer was measured with key_ratio {known['key_ratio']:.2f} and the signal "
            f"{known['signal']!r}; it cannot be had at {key_ratio:.2f} with {signal!r}. "
            "Choose those, or another method."
        )


def kl_damage(view: View, kind: str) -> np.ndarray:
    """δ of text or key tokens: mean KL in nats, `[N, E, B]`; 0 where no sample has such tokens."""
    total, samples = view.stack.total(f"{kind}_logit_kl"), view.stack.total(f"{kind}_logit_kl_samples")
    samples = samples[:, None, None]
    return np.divide(total, samples, out=np.zeros_like(total), where=samples > 0)


def kl_cost(view: View, parts: Parts, min_support: int, by_frequency: bool) -> tuple[np.ndarray, np.ndarray]:
    """Σ over kinds of weight · (frequency ·) δ: `[N, E, B]`, and `[N, E]`: experts that fewer than `min_support`
    measured tokens of these kinds chose, whose cost is estimated (see the head of this file)."""
    kinds = [(kind, weight) for kind, weight in parts if weight != 0]
    if unknown := [kind for kind, _ in kinds if kind not in COUNTED]:
        raise ImportanceError(
            f"The KL of the answer was not measured for {KINDS[unknown[0]].title}, which these statistics hold; choose "
            f"another method, or give them the weight 0."
        )
    cost = np.zeros(view.stack.total("text_logit_kl").shape)
    least: Any = 0.0
    for kind, weight in kinds:
        often: Any = share(view.sums(kind, "selections"))[..., None] if by_frequency else 1.0
        cost = cost + weight * often * kl_damage(view, kind)
        least = least + weight * (one_token_share(view, kind)[..., None] if by_frequency else 1.0)
    unsupported = np.sum([view.stack.total(f"{kind}_logit_kl_support") for kind, _ in kinds], axis=0) < min_support
    if unsupported.any():
        cost = np.where(unsupported[..., None], least * estimated_kl(view, min_support), cost)
    return cost, unsupported


def estimated_kl(view: View, min_support: int = 1) -> np.ndarray:
    """Mean KL over the samples if one token of all of them had chosen the expert, `[N, E, B]`."""

    def make() -> np.ndarray:
        stack, free = view.stack, data_free(view.stack)
        support = np.sum([stack.total(f"{kind}_logit_kl_support") for kind in COUNTED], axis=0)[..., None]
        total = sum(stack.total(f"{kind}_logit_kl") for kind in COUNTED)
        usable = (support >= max(min_support, 1)) & (free > 0)
        ratio = np.where(usable, total / np.where(usable, support * free, 1), np.nan).reshape(len(free), -1)
        factor = np.array([np.nanmedian(row) if np.isfinite(row).any() else 0.0 for row in ratio])
        samples = np.maximum(stack.total("text_logit_kl_samples"), 1)
        return free * (factor / samples)[:, None, None]

    return view.stack.keep(("estimated kl", min_support), make)
