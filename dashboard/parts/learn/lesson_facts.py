"""What the lessons ask about one bank, computed from the open run; no Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def half_of_work(shares: np.ndarray) -> int:
    """The least number of experts that do at least half of the work: shares `[E]`, sum 1."""
    running = np.cumsum(np.sort(shares)[::-1])
    return int(np.searchsorted(running, 0.5 - 1e-12)) + 1


def tokens_for_half(scores: np.ndarray) -> float:
    """Share of the vision tokens that hold half of the attention: scores `[N]`, not negative → 0–1."""
    running = np.cumsum(np.sort(scores)[::-1])
    return (int(np.searchsorted(running, 0.5 * running[-1] - 1e-12)) + 1) / scores.size


def stay_among(before: np.ndarray, after: np.ndarray, top: int) -> int:
    """How many of the `top` largest of `before` are among the `top` largest of `after`: `[E]` each."""
    first, then = (set(np.argsort(-values, kind="stable")[:top].tolist()) for values in (before, after))
    return len(first & then)


def growth(errors: np.ndarray, bits: Sequence[int]) -> tuple[int, int, float] | None:
    """(more bits, fewer bits, how many times the error, median over experts) for one bit less: errors `[E, B]`.

    From 3 to 2 bits where both were measured, else between the two narrowest widths; None where nothing was.
    """
    widths = sorted(bits)
    if len(widths) < 2:
        return None
    few, many = (2, 3) if {2, 3} <= set(widths) else (widths[0], widths[1])
    low, high = (errors[:, list(bits).index(width)] for width in (few, many))
    known = np.isfinite(low) & np.isfinite(high) & (low > 0) & (high > 0)
    return (many, few, float(np.median(low[known] / high[known]))) if known.any() else None


def nearest(options: Sequence[float], value: float, ratio: bool = False) -> int:
    """Place of the option nearest to the value; `ratio`: nearest by factor, for values that multiply."""
    if ratio:
        return int(np.argmin(np.abs(np.log(np.asarray(options, float)) - np.log(value))))
    return int(np.argmin(np.abs(np.asarray(options, float) - value)))


def band(edges: Sequence[int], value: int) -> int:
    """Place of the last edge that the value reaches: edges (0, 1, 3, 5), value 4 → 2."""
    return int(np.searchsorted(edges, value, side="right")) - 1
