"""How often the router chose each expert: by text, and by all, key and redundant tokens of pictures and sounds."""

from __future__ import annotations

import numpy as np

from mode_core.importance.records import Frequencies
from mode_core.importance.stacks import View, in_order, views
from mode_core.modalities import KEY_RATIO, SIGNAL
from mode_core.statistics import ExpertStatistics


def share(counts: np.ndarray) -> np.ndarray:
    """Share of the row's total: counts `[…, E]` → `[…, E]`; every row sums to 1 (all-zero rows: 1/E)."""
    total = counts.sum(axis=-1, keepdims=True)
    even = np.full_like(counts, 1 / counts.shape[-1], dtype=float)
    return np.divide(counts, total, out=even, where=total > 0)


def frequencies(
    statistics: ExpertStatistics,
    key_ratio: float = KEY_RATIO,
    signal: str = SIGNAL,
    leave_out_fold: int | None = None,
) -> dict[str, Frequencies]:
    """Frequencies of every bank: name → `Frequencies`, arrays `[E]` that each sum to 1 (paper §4).

    `key_ratio` is the share of vision tokens counted as key, in whole per cents. `signal` says what ranked
    them; "none" takes all vision tokens as key. `leave_out_fold` computes them without one fold's samples.

    Raises:
        ImportanceError: key ratio outside (0, 1], or a signal that was not calibrated.
    """
    made = {}
    for view in views(statistics, key_ratio, signal, leave_out_fold):
        counts = {kind: view.sums(kind, "selections") for kind in view.kinds}
        shares = {kind: share(count) for kind, count in counts.items()}
        none = {kind: count.sum(axis=-1) == 0 for kind, count in counts.items()}
        for row, name in enumerate(view.stack.names):
            empty = frozenset(kind for kind in view.kinds if none[kind][row])
            made[name] = Frequencies(**{kind: share[row] for kind, share in shares.items()}, empty=empty)
    return in_order(statistics, made)


def one_token_share(view: View, kind: str) -> np.ndarray:
    """Share that one more token would be: 1 / selections of the whole bank, `[N, 1]`; 0 where there are none."""
    total = view.sums(kind, "selections").sum(axis=-1, keepdims=True)
    return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
