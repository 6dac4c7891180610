"""Uneven channel scales: the same function, bit for bit, and a way back."""

from __future__ import annotations

import torch

from sample_data.architecture import build_model, vocabulary
from sample_data.channels import channel_scales, spread_channels


def test_scales_are_powers_of_two_around_one() -> None:
    scales = channel_scales(32, 32, 0.6, torch.Generator().manual_seed(0))
    exponents = torch.log2(scales)
    assert torch.equal(exponents, exponents.round())
    assert abs(exponents.mean()) < 0.1
    assert 0.5 < exponents.std() < 0.8


def test_the_model_computes_the_same_and_can_be_put_back() -> None:
    model = build_model(vocabulary(), seed=1).to(torch.bfloat16).eval()
    ids = torch.arange(40)[None] + 20
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        spread_channels(model, 0.6, seed=5)
        assert not torch.equal(
            model.state_dict()["model.language_model.layers.0.mlp.experts.down_proj"],
            before["model.language_model.layers.0.mlp.experts.down_proj"],
        )
        assert torch.equal(model(input_ids=ids).logits, expected)
    spread_channels(model, 0.6, seed=5, inverse=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
