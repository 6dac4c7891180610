"""What every position of an encoded batch is."""

import pytest
import torch

from mode_core.models import PADDING, TEXT, VISION
from mode_core.samples import Sample, SampleError

TURN = {"role": "user", "content": "what is it ?"}


def words(model, encoded, row, mask):
    ids = encoded.inputs["input_ids"][row][mask[row]]
    return model.processor.tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("side", ["left", "right"])
def test_modality_masks_and_grids(tiny_model, tiny_samples, side):
    encoded = tiny_model.encode(tiny_samples, answers=True, padding_side=side)
    ids, modality = encoded.inputs["input_ids"], encoded.modality
    assert ((modality != PADDING) == encoded.inputs["attention_mask"].bool()).all()
    assert ((modality == VISION) == (ids == 6)).all()
    assert (modality[:, 0] == PADDING).any() == (side == "left")
    assert encoded.ids == tuple(sample.id for sample in tiny_samples)
    assert encoded.lengths == (modality != PADDING).sum(dim=1).tolist()
    for row, sample in enumerate(tiny_samples):
        text = modality[row] == TEXT
        content = text & ~encoded.template_mask[row]
        found = tiny_model.processor.tokenizer.convert_ids_to_tokens(ids[row][content])
        assert found == [*sample.text.split(), sample.answer]
        assert words(tiny_model, encoded, row, encoded.answer_mask) == [sample.answer]
        names = set(words(tiny_model, encoded, row, encoded.special_mask))
        assert names == {
            "<|im_start|>",
            "<|im_end|>",
            *(["<|vision_start|>", "<|vision_end|>"] if sample.images else []),
        }
        grid = sum(rows * columns for rows, columns in encoded.grids[row])
        assert grid == int((modality[row] == VISION).sum())


def test_without_answers_the_prompt_is_open(tiny_model, tiny_samples):
    encoded = tiny_model.encode(tiny_samples[:1])
    tokens = tiny_model.processor.tokenizer.convert_ids_to_tokens(encoded.inputs["input_ids"][0])
    assert tokens[-3:] == ["<|im_start|>", "assistant", "\n"] and not encoded.answer_mask.any()


def test_inputs_are_those_of_the_processors_own_chat_call(tiny_model, tiny_samples):
    sample = tiny_samples[3]
    chat = sample.prompt()
    chat[0]["content"][0]["image"] = sample.images[0].load()
    own = tiny_model.processor.apply_chat_template(
        [chat], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ours = tiny_model.encode([sample]).inputs
    assert set(own) == set(ours) and all(torch.equal(own[key], ours[key]) for key in own)


def test_several_images_and_turns(tiny_model, tiny_samples):
    pictures = (tiny_samples[0].images[0], tiny_samples[1].images[0])
    turns = (
        {"role": "system", "content": "red"},
        {"role": "user", "content": "is <image> it <image> ?"},
        {"role": "assistant", "content": "no"},
        TURN,
    )
    encoded = tiny_model.encode([Sample(pictures, turns, id="many")])
    content = (encoded.modality == TEXT) & ~encoded.template_mask
    assert words(tiny_model, encoded, 0, content) == ["red", "is", "it", "?", "no", "what", "is", "it", "?"]
    assert encoded.grids == (((4, 4), (4, 8)),)


def test_refusals(tiny_model):
    with pytest.raises(SampleError, match=r"Sample a: its text holds the model's control token '<\|image_pad\|>'"):
        tiny_model.encode([Sample((), ({"role": "user", "content": "x <|image_pad|>"},), id="a")])
    with pytest.raises(SampleError, match="Sample a has no answer"):
        tiny_model.encode([Sample((), (TURN,), id="a")], answers=True)
