"""The bootstrap against scipy's."""

import numpy as np
import pytest
from scipy import stats

from mode_core.evaluation import bootstrap_interval, bootstrap_perplexity


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=120)
    ours = bootstrap_interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, random_state=np.random.default_rng(1)
    ).confidence_interval
    spread = theirs.high - theirs.low
    assert ours.mean == pytest.approx(values.mean())
    assert abs(ours.low - theirs.low) < 0.06 * spread
    assert abs(ours.high - theirs.high) < 0.06 * spread


def test_pairs_cancel_what_both_share() -> None:
    draw = np.random.default_rng(0)
    hard = draw.normal(size=200)
    better, worse = hard + 0.1 + 0.01 * draw.normal(size=200), hard
    paired = bootstrap_interval(better, worse)
    assert 0.09 < paired.low < paired.mean < paired.high < 0.11
    alone = bootstrap_interval(better)
    assert alone.high - alone.low > 20 * (paired.high - paired.low)


def test_same_seed_same_interval_whatever_fits_into_memory(monkeypatch) -> None:
    values = np.arange(50.0)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)
    whole = bootstrap_interval(values, seed=4)
    monkeypatch.setattr("mode_core.evaluation.intervals.DRAWN_AT_ONCE", 500)
    assert bootstrap_interval(values, seed=4) == whole


def test_perplexity_agrees_with_scipy() -> None:
    draw = np.random.default_rng(2)
    tokens = draw.integers(1, 9, 80)
    losses = tokens * draw.exponential(0.7, 80)
    ours = bootstrap_perplexity(losses, tokens)
    theirs = stats.bootstrap(
        (losses, tokens),
        lambda loss, count, axis: np.exp(loss.sum(axis=axis) / count.sum(axis=axis)),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    spread = theirs.high - theirs.low
    assert ours.mean == pytest.approx(np.exp(losses.sum() / tokens.sum()))
    assert abs(ours.low - theirs.low) < 0.06 * spread
    assert abs(ours.high - theirs.high) < 0.06 * spread


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="same samples; got 2 and 3"):
        bootstrap_interval([1, 2], [1, 2, 3])
