"""A checkpoint without its experts at width 0: stock transformers computes with it what the quantized model computes
whose router cannot choose them."""

import dataclasses
import json
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mode_core.export import ExportError, export
from mode_core.models import load_model
from mode_core.quantization import quantize_experts
from tests.conftest import packable_allocation

GRID = {"group_size": 32}


def allocation_for(loaded, dropped: tuple[tuple[int, ...], ...]):
    """3, 4 or 16 bits drawn for every expert, and width 0 for those named, bank by bank."""
    allocation = packable_allocation(loaded, (3, 4, 16), by_projection=False)
    bits = {name: own.copy() for name, own in allocation.bits.items()}
    for own, which in zip(bits.values(), dropped, strict=True):
        own[list(which)] = 0
    return dataclasses.replace(allocation, bits=bits, widths=(0, 3, 4, 16))


def without(dropped: np.ndarray):
    """A router's forward that gives those experts no chance: their probability is 0 before any other step."""

    def forward(self, states):
        scores = states.reshape(-1, self.hidden_dim) @ self.weight.T
        scores[:, dropped] = -torch.inf
        chance, chosen = torch.exp(scores.float() - scores.float().amax(-1, keepdim=True)).topk(self.top_k)
        return scores, (chance / chance.sum(-1, keepdim=True)).to(scores.dtype), chosen

    return forward


@pytest.mark.parametrize("streamed", [False, True])
def test_stock_transformers_gives_the_same_logits(packable_model, tmp_path, streamed) -> None:
    from transformers import AutoModelForImageTextToText

    allocation = allocation_for(packable_model, ((1, 4), (0, 5)))
    source = {"checkpoint": packable_model.source} if streamed else {"loaded": packable_model}
    result = export("pruned", allocation, tmp_path / "out", **source, **GRID)
    assert "4 experts are left in each layer." in result.manifest["notes"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]["num_local_experts"] == 4
    before = sum(t.numel() for t in load_file(f"{packable_model.source}/model.safetensors").values())
    after = sum(t.numel() for t in load_file(tmp_path / "out" / "model.safetensors").values())
    assert before - after == 2 * 2 * (3 * 96 * 64 + 64)  # two banks, two experts, three matrices and a router's row
    pruned = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    ours = load_model(packable_model.source, device="cpu", dtype="float32")
    ids = torch.arange(10, 40)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    # rounded in the type that they are stored in, as the export is
    with torch.no_grad(), quantize_experts(packable_model, allocation, **GRID):
        ours.model.load_state_dict(packable_model.model.state_dict())
        dull = ours.model(**inputs).logits
        for name, bits in allocation.bits.items():
            router = ours.model.get_submodule(name.replace("experts", "gate"))
            router.forward = types.MethodType(without(np.flatnonzero(bits == 0)), router)
        logits, found = ours.model(**inputs).logits, pruned(**inputs).logits
    torch.testing.assert_close(found, logits, atol=2e-5, rtol=1e-4)
    assert (found - dull).abs().max() > 0.01  # zeros in their place are another model


def test_what_cannot_be_is_told(packable_model, tmp_path) -> None:
    for dropped, words in (
        (((1,), (2, 3)), "one number of experts for all layers, and .*layers.0.* would have 5, .*layers.1.* 4;"),
        (((), ()), "No expert has width 0"),
        (((0, 1, 2, 3, 4), (1, 2, 3, 4, 5)), "1 experts would be left in a layer, and a token visits 2"),
    ):
        with pytest.raises(ExportError, match=words):
            export("pruned", allocation_for(packable_model, dropped), tmp_path / "o", loaded=packable_model, **GRID)
    assert not (tmp_path / "o").exists()
