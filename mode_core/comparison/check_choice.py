"""Which of the allocations that a check measured is taken: the best, unless the evidence's own cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.importance import Recommendation
from mode_core.importance.recommended import BY_EVIDENCE
from mode_core.modalities import ALL
from mode_core.prediction import Ranking, Trial

UNIFORM = "uniform"
TINY = 1e-12  # nats

Asked = tuple[str, str, float]  # method, scope, shrinkage


def chosen(
    tried: Sequence[tuple[Trial, np.ndarray]], rankings: Sequence[Ranking], redrawn: Resamples, mask: np.ndarray
) -> Recommendation:
    """The lowest geometric mean over the budgets of KL against uniform; earlier trials win ties.

    What the evidence of the bundled model recommends is taken in its place where it was tried and is not surely worse
    (paired 95 % bootstrap over samples): some dozens of samples cannot tell near relatives apart.

    Args:
        tried: trials with the KL of every sample, `[n]`. mask: the samples that count, bool `[n]`.
    """
    by_asked: dict[Asked, list[tuple[Trial, np.ndarray]]] = {}
    for trial, kl in tried:
        by_asked.setdefault((trial.method, trial.scope, trial.shrinkage), []).append((trial, kl))
    worth = {asked: np.mean([np.log(trial.ratio) for trial, _ in own]) for asked, own in by_asked.items()}
    best = min(worth, key=worth.__getitem__)
    usual = next((one for one in map(_asked, BY_EVIDENCE) if one in by_asked), best)
    asked = best if _surely_worse(by_asked[usual], by_asked[best], redrawn, mask) else usual
    return Recommendation(*asked, _why(asked, asked == best, by_asked, rankings, int(mask.sum())))


def _asked(one: Recommendation) -> Asked:
    return one.method, one.scope, one.shrinkage


def _surely_worse(
    one: Sequence[tuple[Trial, np.ndarray]],
    other: Sequence[tuple[Trial, np.ndarray]],
    redrawn: Resamples,
    mask: np.ndarray,
) -> bool:
    logs = [
        np.log(redrawn.of_draws(np.stack([kl for _, kl in own]).astype(np.float32), mask) + TINY).mean(axis=0)
        for own in (one, other)
    ]
    return bool(bounds(logs[0] - logs[1])[0] > 0)


def _why(
    asked: Asked,
    best: bool,
    by_asked: dict[Asked, list[tuple[Trial, np.ndarray]]],
    rankings: Sequence[Ranking],
    samples: int,
) -> str:
    own = [trial for trial, _ in by_asked[asked]]
    told = ", ".join(f"{trial.kl[ALL]:.3g} at {trial.average_bits:g} bits" for trial in own)
    level = {trial.average_bits: trial.kl[ALL] for trial, _ in by_asked[UNIFORM, "bank", 0.0]}
    other = ", ".join(f"{level[trial.average_bits]:.3g}" for trial in own)
    ranks = next((one for one in rankings if (one.method, one.modality) == (asked[0], ALL)), None)
    word = f"; it ranks groups of experts at {ranks.spearman:.2f} [{ranks.low:.2f}, {ranks.high:.2f}]" if ranks else ""
    how = "Best measured" if best else "Not told apart from the best measured"
    return f"{how} on this model, {samples} samples: KL {told}, uniform bits of the same size {other}{word}."
