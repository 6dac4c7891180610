"""Is one quantized model better than another, as far as the same items can tell?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mode_core.evaluation.records import Scores

FEWEST_APART = 6  # with fewer items that differ, even all on one side, a two-sided sign test stays above 5 %
LESS_IS_BETTER = ("kl",)
Verdict = Literal["better", "worse", "level"]


def verdict(measure: str, low: float, high: float, apart: float) -> Verdict:
    """What a difference ("ours minus theirs", `low` to `high`) says where `apart` of the items differ: "level" where
    the interval holds 0, or where so few items differ that a bootstrap is too sure of itself. `apart` nan: evidence of
    earlier versions does not say, and the interval decides alone."""
    if apart < FEWEST_APART or low <= 0 <= high:
        return "level"
    return "better" if (high < 0) == (measure in LESS_IS_BETTER) else "worse"


@dataclass(frozen=True)
class Paired:
    """Mean over items of one model's measure minus another's, with its 95 % bootstrap interval.

    `measure`: "kl" in nats, "correct" or "agreement" as shares. `items` have it, `apart` of them differ.
    """

    measure: str
    mean: float
    low: float
    high: float
    items: int
    apart: int

    @property
    def verdict(self) -> Verdict:
        """By the function of that name."""
        return verdict(self.measure, self.low, self.high, self.apart)


def paired(ours: Scores, others: Scores, measure: str, modality: str | None = None) -> Paired | None:
    """Ours minus the others' on the items that have the measure, of one modality (None: all); None where none has it.

    Raises:
        SettingsError: the two are of different samples.
    """
    one, two = (
        [value for each in scores.of(modality).answers if (value := getattr(each, measure)) is not None]
        for scores in (ours, others)
    )
    if not one or not two:
        return None
    interval = ours.interval(measure, others, modality=modality)
    return Paired(measure, *interval, len(one), sum(a != b for a, b in zip(one, two, strict=True)))
