"""Weights on a grid that is known already: what their codes stand for, made again from the scales alone.

Scales take one value per group where codes take one per weight (group size 128: 1/64 byte a weight), and rounding to a
known grid is a few passes over the weights where the search for the grid is dozens. So who needs rounded weights again
and again, and cannot keep them, keeps their scales.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mode_core.quantization.search import levels
from mode_core.quantization.widths import DROPPED

CHUNK = {"cpu": 1 << 17, "other": 1 << 25}  # weights rounded at once: stays in cache, or fills an accelerator


def regrid(
    weights: Tensor, scales: Tensor, zeros: Tensor | None, bits: int, group_size: int, out: Tensor | None = None
) -> Tensor:
    """Weights `[out, in]` rounded to the grid of `Codes` (`scales`, `zeros` `[out, groups]`): float32 `[out, in]`.

    Equal to `dequantize(quantize(weights, …))` to the last bit where the scales come from there. `group_size` is that
    of the codes; `out` float32 is written and returned where it is given. Memory: `CHUNK` float32 weights beside it.
    """
    out = torch.empty(weights.shape, device=weights.device) if out is None else out
    if bits == DROPPED:
        return out.zero_()
    chunk = CHUNK["cpu" if weights.device.type == "cpu" else "other"]
    step = max(1, chunk // weights.shape[1])
    whole = weights.shape[1] // group_size * group_size
    for first in range(0, len(weights), step):
        rows = slice(first, first + step)
        for channels, groups in (
            (slice(0, whole), slice(0, whole // group_size)),
            (slice(whole, None), slice(-1, None)),
        ):
            if (block := weights[rows, channels]).numel():
                zero = None if zeros is None else zeros[rows, groups]
                out[rows, channels] = _rounded(block, scales[rows, groups], zero, bits)
    return out


def _rounded(block: Tensor, scales: Tensor, zeros: Tensor | None, bits: int) -> Tensor:
    """Whole groups of one length, `[rows, groups · length]`, on their grids."""
    values = block.float().reshape(*scales.shape, -1)
    scale = scales.float()[..., None]
    if bits == 1:
        return torch.where(values >= 0, scale, -scale).reshape(block.shape)
    lowest, highest = levels(bits, zeros is None)
    level = torch.div(values, scale).round_()
    if zeros is None:
        level.clamp_(lowest, highest)
    else:
        zero = zeros.float()[..., None]
        level.add_(zero).clamp_(lowest, highest).sub_(zero)
    return level.mul_(scale).reshape(block.shape)
