"""How far apart the frequencies of kinds of token are, and whom counting them all alike starves: what MODE corrects.

Paper §4: vision tokens outnumber text, so the aggregate frequency hides experts that text needs (starved experts);
and most vision tokens are redundant, so raw vision frequency hides what key tokens need.
"""

from __future__ import annotations

import numpy as np

from mode_core.importance.stacks import views
from mode_core.statistics import ExpertStatistics

BUSIEST = 8  # experts of a bank that count as the busiest, at most half of it


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Jensen–Shannon divergence in bits, shares `[…, E]` → `[…]`: 0 where equal, 1 where they never overlap.

    The square of `scipy.spatial.distance.jensenshannon(…, base=2)`.
    """
    middle = (one + other) / 2
    return np.clip((_relative_entropy(one, middle) + _relative_entropy(other, middle)) / 2, 0.0, 1.0)


def _relative_entropy(share: np.ndarray, base: np.ndarray) -> np.ndarray:
    ratio = np.divide(share, base, out=np.ones_like(share), where=share > 0)
    return (share * np.log2(ratio)).sum(axis=-1)


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman rank correlation, `[…, E]` → `[…]`, −1 to 1; nan where all values of one side are equal."""
    from scipy.stats import rankdata  # fetched here: a first page should not wait for it

    first, second = (rankdata(side, axis=-1) - (side.shape[-1] + 1) / 2 for side in (one, other))
    spread = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    together = (first * second).sum(axis=-1)
    return np.divide(together, spread, out=np.full_like(together, np.nan), where=spread > 0)


def busiest_ranks(shares: np.ndarray) -> np.ndarray:
    """Rank of every expert in its bank, 1 = busiest, ties to the lower number: `[…, E]` → float32; NaN stays NaN."""
    order = np.argsort(-shares, axis=-1, kind="stable")  # NaN sorts last
    places = np.empty(shares.shape, np.float32)
    numbers = np.arange(1, shares.shape[-1] + 1, dtype=np.float32)
    np.put_along_axis(places, order, np.broadcast_to(numbers, shares.shape), axis=-1)
    return np.where(np.isnan(shares), np.nan, places).astype(np.float32)


def busiest(text: np.ndarray) -> np.ndarray:
    """The `BUSIEST` busiest experts of each bank for text, at most half of it: shares `[…, E]` → bool `[…, E]`.

    NaN: no expert there (banks of several sizes on one grid), or a bank that no text token came to.
    """
    experts = np.isfinite(text).sum(axis=-1, keepdims=True)
    return busiest_ranks(text) <= np.minimum(BUSIEST, experts // 2)


def starved(text: np.ndarray, aggregate: np.ndarray) -> np.ndarray:
    """Experts that counting all tokens alike would starve: `busiest` for text, yet in the lower half of their bank by
    all tokens together. Shares `[…, E]` each → bool `[…, E]`."""
    experts = np.isfinite(aggregate).sum(axis=-1, keepdims=True)
    return busiest(text) & (busiest_ranks(aggregate) > experts / 2)


def starved_total(
    statistics: ExpertStatistics,
    key_ratio: float,
    signal: str,
    needed: str,
    counted: str,
    leave_out_fold: int | None = None,
) -> tuple[int, int]:
    """Over all banks: how many experts that tokens of kind `needed` keep busiest lie in the lower half by `counted`,
    and how many are busiest; without one fold where it is named. Banks that saw no token of either kind count none."""
    low = looked = 0
    for view in views(statistics, key_ratio, signal, leave_out_fold):
        chosen = [view.sums(kind, "selections") for kind in (needed, counted)]
        first, then = (np.where(each.sum(axis=-1, keepdims=True) > 0, each, np.nan) for each in chosen)
        low, looked = low + int(starved(first, then).sum()), looked + int(busiest(first).sum())
    return low, looked


def busy_experts(selections: np.ndarray) -> np.ndarray:
    """How many experts of a bank a kind of token keeps busy, counted as if equally busy: selections `[…, E]` → `[…]`,
    1 to E, nan for fewer than two. The inverse of the chance that two of them share an expert, drawn without putting
    back, so that few tokens do not seem to crowd (the unbiased form of Simpson's index)."""
    total = selections.sum(axis=-1)
    shared, pairs = (selections * (selections - 1)).sum(axis=-1), total * (total - 1)
    return np.divide(pairs, shared, out=np.full_like(pairs, np.nan, dtype=float), where=(pairs > 0) & (shared > 0))
