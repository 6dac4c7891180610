"""What the evaluation asks is never trained on, and the bundled samples are what the scripts draw."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sample_data
from sample_data.architecture import vocabulary
from sample_data.batches import Encoder
from sample_data.draw import ASKED_OF_PICTURES, TEXT_TASKS, calibration_items, evaluation_items
from sample_data.train import KINDS, SEEN, TASKS, Crew, Plan, Source
from sample_data.world import FACTS, SEVERAL, SUMS

FOLDER = Path(sample_data.__file__).parent


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / name / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(Plan(), Encoder(vocabulary(), TASKS), Crew())


def test_text_questions_of_the_evaluation_are_never_trained_on(source: Source) -> None:
    trained = {question.text for questions in source.questions.values() for question in questions}
    asked = [line["messages"][0]["content"] for line in lines("evaluation") if not line["images"]]
    calibrated = [line["messages"][0]["content"] for line in lines("calibration") if not line["images"]]
    assert asked
    assert trained.isdisjoint(asked)
    assert calibrated
    assert set(calibrated).isdisjoint(asked)


def test_every_fact_keeps_one_phrasing_back() -> None:
    for fact in (*FACTS, *SEVERAL, *SUMS):
        trained = {question.text for question in fact.training_questions()}
        assert len(trained) == 3
        assert fact.held_out_question().text not in trained


def test_pictures_are_nowhere_the_same(source: Source) -> None:
    def fingerprints(pictures) -> list[bytes]:
        return [picture.pixels.tobytes() for picture in pictures]

    calibration = fingerprints(picture for _, picture in calibration_items() if picture is not None)
    evaluation = fingerprints(picture for _, picture in evaluation_items() if picture is not None)
    trained = [
        p
        for step in range(20)
        for stage, shares in enumerate((SEEN, KINDS))
        for p in fingerprints(source.drawn(source.random(stage, step), shares))
    ]
    drawn = calibration + evaluation + trained
    assert len(set(drawn)) == len(drawn)


def test_the_evaluation_covers_every_task_evenly() -> None:
    counts = Counter(line["task"] for line in lines("evaluation"))
    assert set(counts) == {*ASKED_OF_PICTURES, *TEXT_TASKS}
    assert set(counts.values()) == {40}


@pytest.mark.parametrize("name, items", [("calibration", calibration_items), ("evaluation", evaluation_items)])
def test_the_bundled_samples_are_what_the_script_draws(name: str, items) -> None:
    for line, (question, picture) in zip(lines(name), items(), strict=True):
        assert (line["task"], line["answer"]) == (question.task, question.answer)
        assert line["messages"][0]["content"].removeprefix("<image>") == question.text
        assert bool(line["images"]) == (picture is not None)
        if picture is not None:
            with Image.open(FOLDER / name / line["images"][0]) as stored:
                assert np.array_equal(np.asarray(stored), picture.pixels)


def test_other_calibration_draws_have_the_same_mix_and_no_evaluation_item() -> None:
    asked = {line["messages"][0]["content"] for line in lines("evaluation") if not line["images"]}
    evaluated = {picture.pixels.tobytes() for _, picture in evaluation_items() if picture is not None}
    bundled, seen = list(calibration_items()), []
    for draw in (1, 2):
        items = list(calibration_items(draw))
        assert Counter(question.task for question, _ in items) == Counter(question.task for question, _ in bundled)
        assert asked.isdisjoint(question.text for question, picture in items if picture is None)
        seen += [picture.pixels.tobytes() for _, picture in items if picture is not None]
    seen += [picture.pixels.tobytes() for _, picture in bundled if picture is not None]
    assert len(set(seen)) == len(seen)
    assert evaluated.isdisjoint(seen)
