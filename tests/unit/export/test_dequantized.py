"""The plain checkpoint, loaded by stock transformers: weights and logits equal those of the quantized model."""

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
        stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.bfloat16).eval()
        processor = AutoProcessor.from_pretrained(tmp_path / "out")
        inputs = processor.apply_chat_template(
            conversation, tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
        )
        ours = dict(loaded.model.named_parameters())
        for name, parameter in stock.named_parameters():
            assert torch.equal(parameter, ours[name]), name
        assert torch.equal(logits(stock, inputs), logits(loaded.model, inputs))
        quantized = logits(loaded.model, inputs)
    assert not torch.equal(quantized, logits(loaded.model, inputs))  # the original is back, and differs
    assert "model.safetensors" in result.manifest["files"]


def test_the_rest_comes_from_the_files_whatever_type_the_model_is_loaded_in(
    in_bfloat16, tiny_model_folder, tmp_path
) -> None:
    from safetensors.torch import load_file

    export("dequantized", allocation_for(in_bfloat16), tmp_path / "out", loaded=in_bfloat16, group_size=32)
    written, source = (load_file(place / "model.safetensors") for place in (tmp_path / "out", tiny_model_folder))
    assert {tensor.dtype for tensor in written.values()} == {torch.float32}  # as the files have it
    rest = [name for name in source if ".experts." not in name]
    assert rest and all(torch.equal(written[name], source[name]) for name in rest)
