"""Measurements are kept and read back whole, and their tables are those of a hand-worked example."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dashboard.jobs import stages as stages_of
from dashboard.state.measured import (
    MODELS,
    Measurement,
    accuracy_frame,
    divergence_frame,
    evaluation_frame,
    loss_sentence,
    measurements_of,
    read_records,
    size_frame,
)
from dashboard.words.sizes import size_text
from mode_core.evaluation import ScoredAnswer, Scores
from mode_core.jobs import Progress


def scores(right: int, kl: float | None) -> Scores:
    """Ten picture questions of one task, the first `right` of them answered."""
    answers = tuple(
        ScoredAnswer(f"q{n}", "vision", "colour", "?", "red", "red" if n < right else "blue", n < right, kl, kl and 0.5)
        for n in range(10)
    )
    return Scores(answers)


@pytest.fixture
def measured() -> Measurement:
    sizes = {"original": 1600, "allocation": 300, "uniform": 280}
    each = {"original": scores(10, None), "allocation": scores(9, 0.1), "uniform": scores(5, 0.4)}
    return Measurement(each, sizes, sizes, 3, "seal", {"method": "mode", "key_ratio": 0.2}, 1000.0)


def test_accuracy_per_model_and_task(measured):
    frame = accuracy_frame(measured)
    assert frame["model"].tolist() == ["original", "this allocation", "uniform 3 bits"]
    assert frame["accuracy"].tolist() == [1.0, 0.9, 0.5] and set(frame["items"]) == {10}
    assert ((frame["low"] <= frame["accuracy"]) & (frame["accuracy"] <= frame["high"])).all()


def test_divergence_leaves_out_what_was_not_there(measured):
    frame = divergence_frame(measured)
    assert frame["KL on pictures"].tolist() == pytest.approx([0.1, 0.4])
    assert all(math.isnan(value) for value in frame["KL on text"])  # no text sample: not zero


def test_sizes_beside_the_original(measured):
    assert size_frame(measured)["of original"].tolist() == pytest.approx([1.0, 0.1875, 0.175])


def test_a_loss_is_coloured_only_where_it_is_sure(measured):
    assert loss_sentence(measured, "allocation")[0].startswith("-10.0 points (")
    assert loss_sentence(measured, "allocation")[1] == "off"  # one item of ten: the interval reaches 0
    assert loss_sentence(measured, "uniform")[1] == "off"  # it does not with five, which are too few all the same
    six = replace(measured, scores=measured.scores | {"uniform": scores(4, 0.4)})
    assert loss_sentence(six, "uniform")[1] == "normal"


def test_records_come_back_whole(measured):
    damaged = {}
    kept = read_records(measured.records() | {"other": {"settings": {}}, "alone": scores(3, None).to_dict()}, damaged)
    [again] = measurements_of(kept, damaged)
    assert list(damaged) == ["other"] and evaluation_frame(kept)["name"].tolist() == ["alone"]
    assert again.measured_bytes == measured.measured_bytes and again.uniform_bits == 3
    assert again.settings == measured.settings
    assert {model: again.scores[model].accuracy for model in MODELS} == {
        "original": 1.0,
        "allocation": 0.9,
        "uniform": 0.5,
    }


def test_a_measurement_that_was_cut_short_is_left_out(measured):
    records = measured.records()
    records.pop("seal-uniform")
    assert measurements_of(read_records(records, {}), {}) == []


def test_a_measurement_whose_models_answered_different_items_is_damaged(measured):
    records, damaged = measured.records(), {}
    records["seal-uniform"]["answers"].pop()
    assert measurements_of(read_records(records, damaged), damaged) == []
    assert damaged == {"seal": "its models were scored on different items."}


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 bytes"), (31_600, "31.6 kB"), (12_300_000, "12.3 MB"), (4.2e9, "4.2 GB")]
)
def test_sizes_as_people_read_them(size, text):
    assert size_text(size) == text


def test_stages_tell_the_time_that_is_left_from_what_the_pieces_took(monkeypatch):
    """Loading 10 s; answers (weight 3) 6 s; rounding (weight 1) really 4 s where 2 s were expected; answers again."""
    clock = [100.0]
    monkeypatch.setattr(stages_of.time, "monotonic", lambda: clock[0])
    seen: list[Progress] = []

    def told(hook, seconds: float, done: int) -> Progress:
        clock[0] += seconds
        hook(Progress(done, 4, "part"))
        return seen[-1]

    stages = stages_of.Stages(seen.append, (1, 3, 1, 3))
    stages.hook("loading")
    assert seen[-1].seconds_left is None and seen[-1].fraction == 0
    clock[0] += 10
    answers = stages.hook("answers")
    assert seen[-1].seconds_left is None  # loading says nothing of the pace of the rest
    half = told(answers, 3, 2)  # 3 s of 6; then 2 s and 6 s by the weights
    assert (half.seconds_left, half.fraction, half.what) == (11.0, round(13 / 24, 3), "answers: part")
    told(answers, 3, 4)
    rounding = stages.hook("rounding")
    assert seen[-1].seconds_left == 8.0 and seen[-1].fraction == round(16 / 24, 3)
    assert told(rounding, 2, 2).seconds_left == 8.0  # half of it took 2 s: 2 s more, and answers as before
    told(rounding, 2, 4)
    last = stages.hook("answers")
    assert seen[-1].seconds_left == 6.0  # as the first answers took, not by the pace of all
    assert told(last, 6, 4).fraction == 1.0
    shares = [progress.fraction for progress in seen]
    assert shares == sorted(shares)
