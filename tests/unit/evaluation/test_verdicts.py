"""Which of two models is better, worked by hand on few items."""

from __future__ import annotations

import pytest

from mode_core.errors import SettingsError
from mode_core.evaluation import ScoredAnswer, Scores, paired
from mode_core.evaluation.verdicts import verdict


def scores(kl: list[float], right: list[bool | None]) -> Scores:
    return Scores(
        tuple(
            ScoredAnswer(f"q{n}", "vision" if n % 2 else "text", correct=correct, kl=value)
            for n, (value, correct) in enumerate(zip(kl, right, strict=True))
        )
    )


NEAR, FAR = scores([0.1] * 10, [True] * 10), scores([0.3] * 10, [True] * 7 + [False] * 3)


def test_less_divergence_and_more_right_answers_are_better() -> None:
    found = paired(NEAR, FAR, "kl")
    assert found.verdict == "better" and (found.mean, found.items, found.apart) == (pytest.approx(-0.2), 10, 10)
    assert paired(FAR, NEAR, "kl").verdict == "worse"
    wrong = scores([0.1] * 10, [False] * 10)
    assert paired(NEAR, wrong, "correct").verdict == "better" and paired(wrong, NEAR, "correct").verdict == "worse"


def test_few_items_that_differ_tell_nothing_whatever_the_bootstrap_says() -> None:
    """Five of five: the interval is a point beside 0, a two-sided sign test gives 2 / 2⁵ = 6 %; six of six: 3 %."""
    five, six = ([scores([value] * count, [None] * count) for value in (0.1, 0.3)] for count in (5, 6))
    assert paired(*five, "kl").high < 0 and paired(*five, "kl").verdict == "level"
    assert paired(*six, "kl").verdict == "better"
    assert paired(NEAR, FAR, "correct").apart == 3 and paired(NEAR, FAR, "correct").verdict == "level"


def test_one_rule_for_tables_of_evidence_too() -> None:
    """By interval, direction of the measure and number of items; where that was not kept, by the interval alone."""
    assert verdict("kl", -0.2, -0.1, 6) == verdict("accuracy", 0.1, 0.2, 6) == "better"
    assert verdict("kl", 0.1, 0.2, 60) == verdict("agreement", -0.2, -0.1, 60) == "worse"
    assert verdict("kl", -0.2, -0.1, 5) == verdict("kl", -0.1, 0.1, 60) == verdict("accuracy", 0.0, 0.2, 9) == "level"
    assert verdict("kl", -0.2, -0.1, float("nan")) == "better"


def test_an_interval_that_holds_nought_is_level_and_so_is_the_same_model() -> None:
    mixed = scores([0.1, 0.3] * 5, [True] * 10)
    assert paired(mixed, scores([0.3, 0.1] * 5, [True] * 10), "kl").verdict == "level"
    assert paired(NEAR, NEAR, "kl").verdict == "level" and paired(NEAR, NEAR, "kl").apart == 0


def test_what_nobody_has_is_none_and_other_samples_are_refused() -> None:
    assert paired(scores([0.1], [None]), scores([0.2], [None]), "correct") is None
    assert paired(NEAR, FAR, "kl", "vision").items == 5
    with pytest.raises(SettingsError, match="same samples"):
        paired(NEAR, Scores(FAR.answers[1:]), "kl")
