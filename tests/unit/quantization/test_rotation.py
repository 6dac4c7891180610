"""Rotations: the matrix, the fold and the verb on a tiny Qwen3-VL-MoE; every family is in `test_families.py`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mode_core.allocation import uniform_allocation
from mode_core.cli import main
from mode_core.errors import QuantizationError
from mode_core.export import export
from mode_core.models import load_model
from mode_core.probing.residual_stream import residual_stream
from mode_core.quantization import quantize_experts
from mode_core.quantization.rotation import orthogonal, rotate
from tests.unit.models.test_families import logits


@pytest.mark.parametrize("size", [64, 48, 7])
def test_the_matrix_is_orthogonal_spreads_a_channel_over_all_and_follows_its_seed(size):
    turn = orthogonal(size, 3)
    assert torch.allclose(turn @ turn.T, torch.eye(size, dtype=torch.float64), atol=1e-12)
    assert torch.equal(turn, orthogonal(size, 3)) and not torch.equal(turn, orthogonal(size, 4))
    if size == 64:
        assert torch.allclose(turn.abs(), torch.full((64, 64), 1 / 8, dtype=torch.float64))


def test_readers_and_writers_are_those_of_the_architecture(tiny_model, tiny_samples):
    """Written down from Qwen3-VL-MoE's own description: layer 1 of three is dense, two features enter later layers."""
    stream = residual_stream(tiny_model, tiny_model.encode(tiny_samples).inputs)
    layers, text = "model.language_model.layers", "model.language_model"
    attention = {f"{layers}.{n}.self_attn.{p}_proj": f"{layers}.{n}.input_layernorm" for n in range(3) for p in "qkv"}
    after = {n: f"{layers}.{n}.post_attention_layernorm" for n in range(3)}
    dense = {f"{layers}.1.mlp.{name}_proj": after[1] for name in ("gate", "up")}
    routers = {f"{layers}.{n}.mlp.gate": after[n] for n in (0, 2)}
    assert stream.readers == attention | dense | routers | {"lm_head": f"{text}.norm"}
    assert stream.banks_reading == {f"{layers}.{n}.mlp.experts": after[n] for n in (0, 2)}
    eyes = ["merger", "deepstack_merger_list.0", "deepstack_merger_list.1"]
    assert set(stream.writers) == {
        *(f"model.visual.{name}.linear_fc2" for name in eyes),
        f"{text}.embed_tokens",
        *(f"{layers}.{n}.self_attn.o_proj" for n in range(3)),
        f"{layers}.1.mlp.down_proj",
    }
    assert set(stream.banks_writing) == set(stream.banks_reading) and not stream.parameters


def test_a_model_that_reads_pictures_is_not_rotated_on_text_alone(tiny_model_folder, tiny_samples):
    loaded = load_model(tiny_model_folder, device="cpu")
    with pytest.raises(QuantizationError, match=r"the samples never reach model\.visual.*a picture, or sound"):
        rotate(loaded, [sample for sample in tiny_samples if not sample.images])


def test_a_model_in_another_type_than_float32_is_refused(packable_model, tiny_samples):
    with pytest.raises(QuantizationError, match="in float32 to prove itself"):
        rotate(packable_model, tiny_samples)


@pytest.fixture(scope="module")
def rotated_folder(tiny_model_folder, tiny_samples, tmp_path_factory):
    """What the verb writes, of samples in a file."""
    place = tmp_path_factory.mktemp("rotated")
    lines = [
        {"text": s.messages[-1]["content"].replace("<image>", ""), "images": [str(i.path) for i in s.images]}
        for s in tiny_samples
    ]
    (place / "samples.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ["rotate", "--model", tiny_model_folder, "--out", place / "model", "--samples", place / "samples.jsonl"]
    assert main([*map(str, command), "--quiet"]) == 0
    return place / "model"


def test_the_verb_writes_a_model_with_the_same_answers_and_says_so_in_its_configuration(
    rotated_folder, tiny_model, tiny_samples, tiny_model_folder, capsys
):
    opened = load_model(rotated_folder, device="cpu")
    assert (logits(opened, tiny_samples) - logits(tiny_model, tiny_samples)).abs().max() < 1e-4
    assert opened.model.config.mode_rotation["seed"] == 0
    assert main(["rotate", "--model", str(tiny_model_folder), "--out", str(rotated_folder), "--quiet"]) == 1
    assert "holds something other than an earlier" in capsys.readouterr().err


def test_an_export_of_a_rotated_model_opens_in_stock_transformers(rotated_folder, tiny_samples, tmp_path):
    """The plain one; the packed one is in `test_auto_round.py`."""
    from transformers import AutoModelForImageTextToText

    loaded = load_model(rotated_folder, device="cpu")
    plain = {name: np.zeros([bank.experts, 1]) for name, bank in loaded.banks.items()}
    allocation = uniform_allocation(plain, (4,), 4)
    export("dequantized", allocation, tmp_path / "out", loaded=loaded, group_size=16)
    opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()
    with quantize_experts(loaded, allocation, "rtn", 16):
        expected = logits(loaded, tiny_samples)
    assert (logits(replace(loaded, model=opened), tiny_samples) - expected).abs().max() < 1e-5
    assert opened.config.mode_rotation["seed"] == 0
