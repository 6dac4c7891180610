"""Averages by hand, and scores that survive JSON."""

import json
import math

import pytest

from mode_core.evaluation import ScoredAnswer, Scores, ScoresError, normalised

SCORES = Scores(
    (
        ScoredAnswer("a", "vision", "colour", "?", "red", "Red", True, 0.1, 1.0, 2.0, 2),
        ScoredAnswer("b", "vision", "colour", "?", "red", "blue", False, 0.3, 0.5, 4.0, 2),
        ScoredAnswer("c", "text", "facts", "?", "yes", "yes", True, 0.0, 1.0, 0.5, 1),
        ScoredAnswer("d", "text", None, "?", None, "perhaps", None, 0.4, 0.5),
    ),
    seconds=1.5,
)


def test_averages_by_hand() -> None:
    assert SCORES.accuracy == pytest.approx(2 / 3)
    assert SCORES.accuracy_by_task == {"colour": 0.5, "facts": 1.0}
    assert SCORES.task_accuracy == 0.75
    assert SCORES.accuracy_by_modality == {"text": 1.0, "vision": 0.5}
    assert SCORES.kl == pytest.approx(0.2)
    assert SCORES.kl_by_modality == {"text": pytest.approx(0.2), "vision": pytest.approx(0.2)}
    assert SCORES.agreement_by_modality == {"text": 0.75, "vision": 0.75}
    assert SCORES.perplexity == pytest.approx(math.exp(6.5 / 5))
    assert SCORES.perplexity_by_modality == {
        "text": pytest.approx(math.exp(0.5)),
        "vision": pytest.approx(math.exp(1.5)),
    }


def test_what_was_not_measured_is_absent_not_zero() -> None:
    nothing = Scores((ScoredAnswer("a", "text", given="hm"),))
    assert nothing.accuracy is nothing.kl is nothing.perplexity is nothing.task_accuracy is None
    assert nothing.accuracy_by_task == nothing.kl_by_modality == nothing.perplexity_by_modality == {}
    with pytest.raises(ValueError, match="at least one value"):
        nothing.interval("kl")


def test_intervals_and_pairs() -> None:
    assert SCORES.interval("correct").mean == pytest.approx(2 / 3)
    assert SCORES.interval("kl", other=SCORES) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same samples"):
        SCORES.interval("kl", other=Scores(SCORES.answers[:2]))


def test_json_round_trip_and_damage() -> None:
    record = json.loads(json.dumps(SCORES.to_dict()))
    assert Scores.from_dict(record) == SCORES
    assert record["summary"]["accuracy_by_task"] == {"colour": 0.5, "facts": 1.0}
    with pytest.raises(ScoresError, match="no evaluation"):
        Scores.from_dict({"answers": []})
    with pytest.raises(ScoresError, match="damaged: 'seconds'"):
        Scores.from_dict({key: value for key, value in record.items() if key != "seconds"})


def test_answers_are_compared_without_case_and_spacing() -> None:
    assert normalised("  The  Grey\nHeron ") == normalised("the grey heron")
    assert normalised("grey heron") != normalised("grey heron.")
