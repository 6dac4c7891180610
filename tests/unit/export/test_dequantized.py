"""The plain checkpoint, loaded by stock transformers: weights and logits equal those of the quantized model."""

import json

import numpy as np
import pytest
import torch

from mode_core.allocation.records import Allocation
from mode_core.export import export
from mode_core.quantization import quantize_experts


def banks_of(loaded) -> list:
    return list(loaded.banks.values())


def allocation_for(loaded) -> Allocation:
    draw = np.random.default_rng(3)
    bits = {bank.name: draw.choice([2, 3, 16], bank.experts) for bank in banks_of(loaded)}
    return Allocation(bits, (2, 3, 16), 0.0, 0.0, False, 0.0, 5.0)


def logits(model, inputs: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits.float()


@pytest.fixture(scope="module")
def in_bfloat16(tiny_model_folder):
    """The tiny model as loaded in the type that the export has."""
    from mode_core.models import load_model

    return load_model(tiny_model_folder, device="cpu", dtype="bfloat16")


def test_stock_loading_gives_the_quantized_model(in_bfloat16, tmp_path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    loaded, allocation = in_bfloat16, allocation_for(in_bfloat16)
    conversation = [{"role": "user", "content": [{"type": "text", "text": "how many are there ?"}]}]
    result = export("dequantized", allocation, tmp_path / "out", loaded=loaded, group_size=32)
    with quantize_experts(loaded, allocation, group_size=32):
        stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()
        processor = AutoProcessor.from_pretrained(tmp_path / "out")
        inputs = processor.apply_chat_template(
            conversation, tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
        )
        assert stock.dtype == torch.bfloat16
        ours = dict(loaded.model.named_parameters())
        for name, parameter in stock.named_parameters():
            assert torch.equal(parameter, ours[name]), name
        assert torch.equal(logits(stock, inputs), logits(loaded.model, inputs))
        quantized = logits(loaded.model, inputs)
    assert not torch.equal(quantized, logits(loaded.model, inputs))  # the original is back, and differs
    assert "model.safetensors" in result.manifest["files"]


def test_a_model_loaded_in_float32_is_written_in_bfloat16(tiny_model, tmp_path) -> None:
    from safetensors import safe_open

    if tiny_model.model.dtype != torch.float32:
        pytest.skip("the fixture's model is not in float32")
    allocation = allocation_for(tiny_model)
    export("dequantized", allocation, tmp_path / "out", loaded=tiny_model, group_size=32)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as opened:
        assert {opened.get_tensor(name).dtype for name in opened.keys()} == {torch.bfloat16}  # noqa: SIM118
