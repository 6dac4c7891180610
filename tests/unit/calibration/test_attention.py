"""Importance from a few rows against attention computed whole."""

import pytest
import torch

from mode_core.probing import attention
from mode_core.probing.attention import weighted_rows

BATCH, HEADS, KEY_HEADS, LENGTH, SIZE = 3, 4, 2, 11, 8


def whole(query, key, seen, scaling, weights):
    """Σ_i w_i · mean_h A[h, i, j] from the full L × L attention."""
    logits = query @ key.repeat_interleave(HEADS // KEY_HEADS, dim=1).mT * scaling
    shares = logits.masked_fill(~seen, -torch.inf).softmax(dim=-1).nan_to_num().mean(dim=1)
    return torch.einsum("sbi,bij->sbj", weights, shares)


@pytest.fixture
def drawn():
    torch.manual_seed(3)
    query, key = torch.randn(BATCH, HEADS, LENGTH, SIZE), torch.randn(BATCH, KEY_HEADS, LENGTH, SIZE)
    weights = torch.rand(2, BATCH, LENGTH) * (torch.rand(2, BATCH, LENGTH) < 0.4)
    weights[:, 1] = 0  # a sample that asks nothing
    return query, key, weights


@pytest.mark.parametrize("at_once", [1, 300, 1 << 26])
@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
def test_rows_equal_whole_attention(drawn, monkeypatch, kind, at_once):
    monkeypatch.setattr(attention, "AT_ONCE", at_once)
    query, key, weights = drawn
    causal = torch.ones(LENGTH, LENGTH).tril().bool()
    padding = torch.ones(BATCH, 1, 1, LENGTH, dtype=torch.bool)
    padding[2, ..., :4] = False  # left padding: its first rows see nothing at all
    seen = causal if kind == "none" else causal & padding
    mask = {"none": None, "boolean": seen, "additive": torch.where(seen, 0.0, -torch.inf)}[kind]
    weights[:, 2, :4] = 0
    expected = whole(query, key, seen, 0.3, weights)
    assert torch.allclose(weighted_rows(query, key, mask, 0.3, weights), expected, atol=1e-6)


def test_attention_of_one_row_sums_to_one(drawn):
    query, key, _ = drawn
    weights = torch.zeros(1, BATCH, LENGTH)
    weights[0, :, 5] = 1
    assert torch.allclose(weighted_rows(query, key, None, 0.3, weights).sum(dim=2), torch.ones(1, BATCH))


def test_sinks_take_their_share(drawn):
    """Against a softmax over one more column, dropped afterwards."""
    query, key, weights = drawn
    sinks = torch.tensor([0.0, 2.0, -1.0, 5.0])
    logits = query @ key.repeat_interleave(HEADS // KEY_HEADS, dim=1).mT * 0.3
    logits = logits.masked_fill(~torch.ones(LENGTH, LENGTH).tril().bool(), -torch.inf).exp()
    shares = logits / (logits.sum(dim=-1, keepdim=True) + sinks.exp()[None, :, None, None])
    expected = torch.einsum("sbi,bij->sbj", weights, shares.mean(dim=1))
    assert torch.allclose(weighted_rows(query, key, None, 0.3, weights, sinks), expected, atol=1e-6)
