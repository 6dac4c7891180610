"""The logits of a sequence's last positions, asked for in the one way that every family understands."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def keeping(model: nn.Module, positions: int) -> dict[str, int]:
    """The option that makes a model compute logits for the last positions alone, where it has one."""
    return {"logits_to_keep": positions} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def last_logits(model: nn.Module, inputs: Mapping[str, Any], positions: int) -> Tensor:
    """One pass over inputs that are padded on the left: logits `[batch, positions, V]` of their last positions."""
    return model(**inputs, use_cache=False, **keeping(model, positions)).logits[:, -positions:]


def longer_inputs(inputs: Mapping[str, Any], tokens: Tensor, real: Tensor) -> dict[str, Any]:
    """Inputs with `tokens` `[batch, n]` of text behind them; `real` bool alike: which are no padding."""
    ids, tails = inputs["input_ids"], {"input_ids": tokens, "attention_mask": real}
    return {
        name: torch.cat([value, tails.get(name, torch.zeros_like(tokens)).to(value.dtype)], dim=1)
        if name.endswith(("ids", "mask")) and value.shape == ids.shape
        else value
        for name, value in inputs.items()
    }
