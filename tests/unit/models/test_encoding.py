"""What every position of an encoded batch is."""

import io
from dataclasses import replace

import pytest
import torch
from PIL import Image

from mode_core.models import PADDING, TEXT, VISION, usable
from mode_core.samples import ImageSource, Sample, SampleError, SampleList

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


def test_a_conversation_is_encoded_with_its_answer_at_the_end(tiny_model, tiny_samples):
    """LLaVA's several turns on one picture: all but the last answer are prompt, as content and in their places."""
    turns = (
        {"role": "user", "content": "<image>what is it ?"},
        {"role": "assistant", "content": "square"},
        {"role": "user", "content": "is it red ?"},
    )
    sample = Sample(tiny_samples[0].images, turns, "yes", id="talk")
    encoded = tiny_model.encode([sample], answers=True)
    content = (encoded.modality == TEXT) & ~encoded.template_mask
    said = ["what", "is", "it", "?", "square", "is", "it", "red", "?", "yes"]
    assert words(tiny_model, encoded, 0, content) == said
    assert words(tiny_model, encoded, 0, encoded.answer_mask) == ["yes"]
    tokens = words(tiny_model, encoded, 0, encoded.modality == TEXT)
    assert tokens[tokens.index("square") - 2 : tokens.index("square") + 2] == [
        "assistant",
        "\n",
        "square",
        "<|im_end|>",
    ]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "chat template refuses its turns .Roles must alternate"),
        (
            "{%- for m in messages if m.role == 'user' -%}{{- m.content[0].text -}}{%- endfor -%}",
            "leaves out an earlier",
        ),
    ],
)
def test_templates_that_cannot_take_the_turns_are_told(tiny_model, monkeypatch, template, text):
    turns = (TURN, {"role": "assistant", "content": "square"}, TURN)
    monkeypatch.setattr(tiny_model.processor, "chat_template", template)
    with pytest.raises(
        SampleError, match=f"Sample talk: the model's {text if 'chat' in text else 'chat template ' + text}"
    ):
        tiny_model.encode([Sample((), turns, id="talk")])


def test_of_a_batch_the_sample_at_fault_is_named(tiny_model, tiny_samples):
    thin = replace(tiny_samples[0], images=(ImageSource("thin", data=drawn(2, 500)),), id="thin")
    with pytest.raises(SampleError, match="processor refused thin: absolute aspect ratio"):
        tiny_model.encode([*tiny_samples[:3], thin])


def test_usable_keeps_the_order_and_names_the_others(tiny_model, tiny_samples):
    broken = replace(tiny_samples[0], images=(ImageSource("cut.png", data=drawn(64, 64)[:90]),), id="cut")
    thin = replace(tiny_samples[0], images=(ImageSource("thin.png", data=drawn(2, 500)),), answer=None, id="thin")
    given = SampleList([broken, *tiny_samples, thin], ["s.jsonl, line 9: gone"])
    found = usable(tiny_model, given)
    assert [s.id for s in found] == [s.id for s in tiny_samples]
    assert [error.partition(":")[0] for error in found.errors] == ["s.jsonl, line 9", "cut", "thin"]
    with pytest.raises(SampleError, match=r"The sample cut: cut\.png: the picture is damaged"):
        usable(tiny_model, given, strict=True)
    with pytest.raises(SampleError, match=r"None of the 2 samples can be used\. The first, cut"):
        usable(tiny_model, [broken, thin])


def drawn(width: int, height: int) -> bytes:
    held = io.BytesIO()
    Image.effect_noise((width, height), 50).save(held, "PNG")
    return held.getvalue()
