"""Which vision tokens of one sample are key, and how far two choices of them overlap; without a model."""

from __future__ import annotations

import numpy as np

from mode_core.importance.stacks import ImportanceError


def token_ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of every vision token by importance, 0 = most important: scores `[…, N]` → int64 `[…, N]`.

    Higher scores first; of equal ones the earlier token (paper §4, as calibration ranks them).
    """
    order = np.argsort(-np.asarray(scores, dtype=float), axis=-1, kind="stable")
    ranks = np.empty(order.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), axis=-1)
    return ranks


def key_tokens(scores: np.ndarray, key_ratio: float) -> np.ndarray:
    """The max(1, ⌊ρ·N⌋) best of N vision tokens: scores `[…, N]` → bool `[…, N]` (paper §4); ρ in whole per cents.

    Raises:
        ImportanceError: the ratio is not in (0, 1].
    """
    if not 0 < key_ratio <= 1:
        raise ImportanceError(f"key_ratio must lie in (0, 1]; got {key_ratio!r}.")
    kept = max(1, round(100 * key_ratio) * np.shape(scores)[-1] // 100)
    return token_ranks(scores) < kept


def jaccard(sets: np.ndarray) -> np.ndarray:
    """Overlap of every two of K sets, |A∩B| / |A∪B|: bool `[K, N]` → `[K, K]`, 1 where both are empty."""
    held = np.asarray(sets, dtype=float)
    both = held @ held.T
    sizes = held.sum(axis=1)
    either = sizes[:, None] + sizes[None] - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)
