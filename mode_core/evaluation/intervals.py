"""How sure an average is, given that other samples might have been drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mode_core.errors import SettingsError

DRAWS = 2000
DRAWN_AT_ONCE = 1 << 22  # resampled values in memory at one time


class Interval(NamedTuple):
    """An average and the bounds that cover the given share of resamplings."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    a: ArrayLike, b: ArrayLike | None = None, seed: int = 0, level: float = 0.95, draws: int = DRAWS
) -> Interval:
    """Percentile bootstrap of mean(a), or, paired by position, of mean(a − b): values `[n]` → (mean, low, high).

    Pairs stay together when the samples are redrawn, so what two results share cancels (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, ch. 13). Memory: `DRAWN_AT_ONCE` values.

    Raises:
        SettingsError: no values, or `a` and `b` of different length.
    """
    values = np.asarray(a, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise SettingsError(f"An interval needs a list of at least one value; got shape {values.shape}.")
    if b is not None:
        other = np.asarray(b, dtype=np.float64)
        if other.shape != values.shape:
            raise SettingsError(f"Paired results must be of the same samples; got {values.size} and {other.size}.")
        values = values - other
    means = np.concatenate([values[chosen].mean(axis=1) for chosen in _redrawn(values.size, draws, seed)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_perplexity(
    losses: ArrayLike, tokens: ArrayLike, seed: int = 0, level: float = 0.95, draws: int = DRAWS
) -> Interval:
    """Percentile bootstrap of exp(Σ losses / Σ tokens) over samples: summed −log p `[n]` and tokens `[n]` of each.

    Samples are redrawn whole, so that long and short answers keep their weight. Memory: `DRAWN_AT_ONCE` values.

    Raises:
        SettingsError: no samples, different lengths, or a sample without tokens.
    """
    loss, count = np.asarray(losses, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if loss.ndim != 1 or loss.size == 0 or loss.shape != count.shape or not (count > 0).all():
        raise SettingsError(
            f"A perplexity needs the loss and at least one token of every sample; got {loss.shape} losses and "
            f"{count.shape} counts."
        )
    redrawn = [
        np.exp(loss[chosen].sum(axis=1) / count[chosen].sum(axis=1)) for chosen in _redrawn(loss.size, draws, seed)
    ]
    low, high = np.quantile(np.concatenate(redrawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.exp(loss.sum() / count.sum())), float(low), float(high))


def _redrawn(size: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Places of resampled values, int `[some draws, size]`, until there are `draws` of them."""
    generator = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // size)
    for first in range(0, draws, step):
        yield generator.integers(0, size, (min(step, draws - first), size))
