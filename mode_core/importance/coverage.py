"""Which experts saw too few tokens, and about how many samples more would cover them.

An expert that n tokens chose over S samples gets n/S a sample, so it reaches `LEAST_TOKENS` after about
(`LEAST_TOKENS` − n)·S/n samples more of the same kind. That is an estimate: for small n it can be wrong by a factor of
a few. Of one that no token chose only this is known: as many samples again may well not reach it either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mode_core.modalities import ALL, TEXT_TOKENS
from mode_core.quantization.settings import LEAST_TOKENS
from mode_core.statistics import ExpertStatistics
from mode_core.statistics.bank_statistics import endings

LISTED = 5  # experts that a sentence names


@dataclass(frozen=True)
class Uncovered:
    """An expert that `tokens` tokens chose, fewer than enough; `more`: samples to reach them (inf: none chose it)."""

    bank: str
    layer: int
    expert: int
    tokens: int
    more: float


@dataclass(frozen=True)
class Coverage:
    """The `experts` of a model after `samples` samples, counting tokens of one `kind` ("all" or "text"); `uncovered`
    begins with those that need most."""

    kind: str
    samples: int
    experts: int
    uncovered: tuple[Uncovered, ...]

    def named(self, listed: int = LISTED) -> str:
        """The experts with what they need, the first `listed` by name; empty where all are covered."""
        words = [f"layer {one.layer}, expert {one.expert} ({self._need(one)})" for one in self.uncovered[:listed]]
        more = len(self.uncovered) - listed
        return "; ".join([*words, f"and {more:,} more"] if more > 0 else words)

    def sentence(self, listed: int = LISTED) -> str:
        """How many are not covered, which, and what would cover them."""
        text = "text " if self.kind == TEXT_TOKENS else ""
        if not self.uncovered:
            return f"every expert saw at least {LEAST_TOKENS} {text}tokens"
        return (
            f"{len(self.uncovered):,} of {self.experts:,} experts saw fewer than {LEAST_TOKENS} {text}tokens: "
            f"{self.named(listed)}"
        )

    def _need(self, one: Uncovered) -> str:
        if not one.tokens:
            return f"no token in {self.samples:,} samples: more than as many again"
        tokens = f"{one.tokens} token{'s' if one.tokens > 1 else ''}"
        return f"{tokens}: an estimated {one.more:,.0f} samples more"


def samples_more(tokens: np.ndarray, samples: int, least: int = LEAST_TOKENS) -> np.ndarray:
    """Samples to come until `least` tokens, an estimate: tokens so far `[…]` → `[…]`, 0 where there are enough, inf
    where there are none."""
    tokens = np.asarray(tokens, dtype=float)
    missing = np.maximum(least - tokens, 0)
    return np.ceil(np.divide(missing * samples, tokens, out=np.full(tokens.shape, np.inf), where=tokens > 0))


def coverage(statistics: ExpertStatistics, kind: str = ALL) -> Coverage | None:
    """Who saw too few tokens, of all modalities or of text alone; None where no sample is known (imported runs)."""
    if not (samples := len(statistics.samples)):
        return None
    found: list[Uncovered] = []
    for bank in statistics:
        tokens = np.zeros(bank.shape.experts)
        for name in bank.modalities if kind == ALL else (kind,):
            for end in endings(name, statistics.signals[:1]):
                tokens += bank.total(f"{name}_selections{end}").reshape(len(tokens), -1).sum(axis=1)
        more = samples_more(tokens, samples)
        found += [
            Uncovered(bank.name, bank.shape.layer, expert, int(tokens[expert]), float(more[expert]))
            for expert in np.flatnonzero(more).tolist()
        ]
    found.sort(key=lambda one: (one.tokens, one.layer, one.expert))
    return Coverage(kind, samples, sum(bank.shape.experts for bank in statistics), tuple(found))


def coverage_sentences(statistics: ExpertStatistics, listed: int = LISTED) -> dict[str, str]:
    """ "all" and "text" → who saw too few tokens, of all kinds and of text alone; nothing where no sample is known."""
    found = {kind: coverage(statistics, kind) for kind in (ALL, TEXT_TOKENS)}
    return {kind: one.sentence(listed) for kind, one in found.items() if one is not None}
