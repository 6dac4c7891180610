"""Training computes what the stock model computes on what the stock processor makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sample_data.architecture import build_config, build_model, build_processor, split_words, vocabulary
from sample_data.batches import IGNORED, Encoder, patches
from sample_data.forward import answer_losses, vision_features
from sample_data.pictures import DRAWERS
from sample_data.questions import questions_about
from sample_data.train import KINDS, TASKS, Plan, learning_rate


@pytest.fixture(scope="module", params=[1, 0.5])
def model(request):
    return build_model(vocabulary(), 0, request.param).eval()


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def test_vision_features_are_the_models_own(model) -> None:
    random = np.random.default_rng(3)
    pixels = patches([draw(random) for draw in DRAWERS.values()])
    with torch.no_grad():
        found = vision_features(model.model.visual, pixels)
        both_frames = pixels.reshape(-1, 3, 1, 256).expand(-1, -1, 2, -1).reshape(-1, 1536)
        expected = model.model.visual(both_frames, torch.tensor([[1, 8, 8]] * len(pixels))).pooler_output
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_block_is_a_single_question_through_the_chat_template(model, processor, kind: str) -> None:
    picture = DRAWERS[kind](np.random.default_rng(4))
    encoder = Encoder(vocabulary(), TASKS)
    batch = encoder.pictures([picture], np.random.default_rng(5), room=90)
    with torch.no_grad():
        losses = answer_losses(model, batch)[0]
    at = 0
    for question in questions_about(picture, np.random.default_rng(5))[:3]:
        asked = [{"type": "image", "image": Image.fromarray(picture.pixels)}, {"type": "text", "text": question.text}]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": question.answer}]
        inputs = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
        count = len(split_words(question.answer)) + 1
        with torch.no_grad():
            logits = model(**inputs).logits[0, -count - 1 : -1]
        expected = torch.nn.functional.cross_entropy(logits, inputs["input_ids"][0, -count:], reduction="none")
        torch.testing.assert_close(losses[at : at + count], expected, atol=1e-4, rtol=1e-4)
        at += count
    assert at <= int((batch.targets != IGNORED).sum())


def test_models_of_another_size_differ_in_the_language_models_width_alone() -> None:
    """Twice as wide in all of it; the vision tower ends in the new width."""
    one, two = (build_config(vocabulary(), scale).to_dict() for scale in (1, 2))
    text, vision = (
        {key: (value, two[part][key]) for key, value in one[part].items() if value != two[part][key]}
        for part in ("text_config", "vision_config")
    )
    assert text.pop("initializer_range") == pytest.approx((128**-0.5, 256**-0.5))
    assert text == {"hidden_size": (128, 256), "intermediate_size": (512, 1024), "moe_intermediate_size": (32, 64)}
    assert vision == {"out_hidden_size": (128, 256)}


def test_the_tokenizer_gives_texts_back(processor) -> None:
    for text in ("which crop grows in the land with this emblem?", "what is 37 + 4?", "grey heron", "472", "top left"):
        ids = processor.tokenizer(text)["input_ids"]
        assert processor.tokenizer.decode(ids) == text
        assert processor.tokenizer.convert_ids_to_tokens(ids) == split_words(text)


def test_the_learning_rate_warms_up_and_ends_at_nothing() -> None:
    plan = Plan()
    rates = [learning_rate(step, plan.steps, plan.warmup, plan.rate) for step in range(plan.steps + 1)]
    assert rates[0] < plan.rate / 100
    assert max(rates) == rates[plan.steps // 2] == plan.rate
    assert rates[-1] == pytest.approx(0, abs=1e-12)
