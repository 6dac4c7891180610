"""From the token scores that a run keeps to what the Tokens page draws; no Streamlit here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dashboard.charts.tokens import Overlay
from mode_core.importance.key_tokens import jaccard, key_tokens, token_ranks
from mode_core.probing.signals import SIGNALS
from mode_core.runs.run import TokenScores

Scores = Mapping[str, np.ndarray]  # signal -> `[banks, N]`
ATTENTION = ("text_attention", "judge_layer_attention", "rater_attention")  # scores that are shares of attention


def image_slice(scores: TokenScores, image: int) -> slice:
    """Which of a sample's vision tokens are those of one of its pictures."""
    counts = [rows * columns for rows, columns in scores.grids or ()]
    begin = sum(counts[:image])
    return slice(begin, begin + counts[image])


def overlay(
    scores: TokenScores, signal: str, row: int, ratio: float, title: str, part: slice, held: Scores | None = None
) -> Overlay:
    """One panel: bank `row` under one signal. Ranks and key tokens are those of all pictures of the sample together.
    `held`: its scores of another kind of token (`scores.audio`), of all sounds together."""
    values = signal_scores(held or scores.scores, signal)[row]
    key = key_tokens(values, ratio if signal != "none" else 1.0)
    return Overlay(title, values[part], token_ranks(values)[part], key[part])


def signal_scores(held: Scores, signal: str) -> np.ndarray:
    """`[banks, N]` of one signal; "none" ranks nothing, so all are alike there."""
    return np.zeros_like(next(iter(held.values()))) if signal == "none" else held[signal]


def attention_held(scores: TokenScores, signal: str, row: int, ratio: float) -> float | None:
    """Share of the picture's attention that its key tokens hold; None for signals that are no attention."""
    values = signal_scores(scores.scores, signal)[row]
    if signal not in ATTENTION or values.sum() <= 0:
        return None
    return float(values[key_tokens(values, ratio)].sum() / values.sum())


def overlap_of_banks(samples: Iterable[TokenScores], signal: str, ratio: float) -> np.ndarray:
    """Jaccard overlap of the key tokens of every two banks, mean over samples: `[L, L]`."""
    return np.mean([jaccard(key_tokens(one.scores[signal], ratio)) for one in samples], axis=0)


def overlap_of_signals(samples: Iterable[TokenScores], signals: Sequence[str], ratio: float) -> np.ndarray:
    """Jaccard overlap of the key tokens of every two signals, mean over samples and banks: `[S, S]`."""
    found = []
    for one in samples:
        keys = np.stack([key_tokens(one.scores[signal], ratio) for signal in signals])  # [S, L, N]
        found += [jaccard(keys[:, row]) for row in range(keys.shape[1])]
    return np.mean(found, axis=0)


def kept_signals(samples: Sequence[TokenScores]) -> list[str]:
    """Signals that all of these samples have scores for, whether or not the statistics hold them as well."""
    shared = set.intersection(*(set(one.scores) for one in samples)) if samples else set()
    return [*(name for name in SIGNALS if name in shared), *sorted(shared - set(SIGNALS))]
