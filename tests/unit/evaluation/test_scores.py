"""Averages by hand, and scores that survive JSON."""

import json
import math
from dataclasses import replace

import pytest

from mode_core.evaluation import ScoredAnswer, Scores, ScoresError, normalised, side_by_side

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
    with pytest.raises(ScoresError, match="damaged: seconds: field required"):
        Scores.from_dict({key: value for key, value in record.items() if key != "seconds"})


def test_answers_are_compared_without_case_and_spacing() -> None:
    assert normalised("  The  Grey\nHeron ") == normalised("the grey heron")
    assert normalised("grey heron") != normalised("grey heron.")


def test_one_modality_or_task_alone() -> None:
    assert SCORES.interval("correct", modality="text").mean == 1.0
    assert SCORES.interval("correct", task="colour").mean == 0.5
    assert SCORES.interval("kl", modality="vision").mean == pytest.approx(0.2)
    assert SCORES.interval("kl", other=SCORES, modality="vision") == (0.0, 0.0, 0.0)
    assert [answer.id for answer in SCORES.of("text").answers] == ["c", "d"]
    assert SCORES.of("vision").perplexity == pytest.approx(math.exp(1.5))
    found = SCORES.perplexity_interval()
    assert found.mean == pytest.approx(SCORES.perplexity)
    assert math.exp(0.5) <= found.low <= found.mean <= found.high <= math.exp(2.0)
    with pytest.raises(ValueError, match="at least one value"):
        SCORES.interval("correct", task="counting")
    with pytest.raises(ValueError, match="at least one token of every sample"):
        SCORES.perplexity_interval(task="counting")


def test_answers_side_by_side() -> None:
    changed = replace(SCORES.answers[0], given="green", correct=False)
    other = Scores((changed, *SCORES.answers[1:]))
    rows = side_by_side({"original": SCORES, "2 bits": other})
    assert [row.differs for row in rows] == [True, False, False, False]
    assert rows[0].given == {"original": "Red", "2 bits": "green"}
    assert rows[0].correct == {"original": True, "2 bits": False}
    assert (rows[3].expected, rows[3].correct["2 bits"], rows[0].task) == (None, None, "colour")
    with pytest.raises(ValueError, match="'original' and '2 bits' were not evaluated on the same samples"):
        side_by_side({"original": SCORES, "2 bits": Scores(SCORES.answers[1:])})
    with pytest.raises(ValueError, match="no scores"):
        side_by_side({})
