"""Gives the hidden channels of every expert uneven scales, without changing what the expert computes.

An expert is `down · (silu(gate x) * (up x))`. Multiplying row j of `up` by s and dividing column j of `down` by s
changes nothing in its output; with s a power of two not even a bit of it (bfloat16 keeps the same digits). But the
columns of `down` that share a quantization scale now differ in size. Large language models have such uneven channels
by themselves; a model this small, trained for an hour, has not, and is then hardly hurt by few bits. All experts of
all banks get the same distribution of scales, so no expert is favoured.
"""

from __future__ import annotations

import torch
from torch import nn


def channel_scales(experts: int, channels: int, spread: float, generator: torch.Generator) -> torch.Tensor:
    """Powers of two `[E, I]` whose exponents are a normal distribution of width `spread`, rounded."""
    return torch.exp2((torch.randn(experts, channels, generator=generator) * spread).round())


@torch.no_grad()
def spread_channels(model: nn.Module, spread: float, seed: int, inverse: bool = False) -> None:
    """Rescales all experts of the model in place; `inverse` takes the same rescaling back, exactly."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.model.language_model.layers:
        experts = layer.mlp.experts
        channels = experts.down_proj.shape[-1]
        scales = channel_scales(len(experts.down_proj), channels, spread, generator)
        scales = (1 / scales if inverse else scales).to(experts.down_proj)
        experts.gate_up_proj[:, channels:].mul_(scales[:, :, None])
        experts.down_proj.div_(scales[:, None, :])
