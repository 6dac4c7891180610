"""Round to nearest on a grid per group of input channels, with the clip search of the paper's released code.

A group of g neighbouring input channels shares one scale s (and, asymmetric, one zero point z):

| | codes q | value | scale before the clip search |
|---|---|---|---|
| symmetric, b ≥ 2 | −2^(b−1) … 2^(b−1)−1 | q·s | max abs(w) / (2^(b−1)−1) |
| asymmetric, b ≥ 2 | 0 … 2^b−1 | (q−z)·s | (max(w,0) − min(w,0)) / (2^b−1) |
| 1 bit | −1, +1 | q·s | mean abs(w), no search |

Scales are found by the clip search (`search`), and rounded to the type they are stored in *before* their error is
measured, so what is measured is what is stored. With `scale_dtype=torch.float32` and `signed_maximum_quirk=True` the
values at 2 to 8 bits were bit for bit those of the released code (tried on groups of both signs). At 1 bit that code
rounds weights below the mean to 0, which makes three levels; here there are the two of the paper. Width 0 is an expert
left out: no codes are kept, and every value is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mode_core.errors import SettingsError
from mode_core.quantization.search import Grid
from mode_core.quantization.widths import DROPPED, GROUP_SIZE, PER_CHANNEL, WIDTHS, check_width, group_length

__all__ = ["GROUP_SIZE", "PER_CHANNEL", "WIDTHS", "Codes", "dequantize", "fake_quantize", "quantize", "requantize"]

SCALE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
CHUNK = {"cpu": 1 << 17, "other": 1 << 25}  # weights searched at once: stays in cache, or fills an accelerator


@dataclass(frozen=True)
class Codes:
    """Quantized weights, one code a byte (see `packing` for their true width).

    `codes` uint8 `[..., out, in]` counts the levels from 0, the lowest; `scales` `[..., out, groups]` in the
    stored type; `zeros` `[..., out, groups]` uint8 (float16 where they are fractions, as hqq's), or None where the grid
    is symmetric. `group_size` is the number of input channels per group; the last group of a row may be shorter. Width
    0 has no groups, and codes of 0.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    bits: int
    group_size: int
    shape: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """True where no zero points are stored."""
        return self.zeros is None


def quantize(
    weights: Tensor,
    bits: int,
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    *,
    signed_maximum_quirk: bool = False,
    scale_dtype: torch.dtype = torch.float16,
) -> Codes:
    """Round weights `[..., out, in]` to `bits` bits, groups along the last axis → `Codes` of the same shape.

    `group_size` −1 is one group per output channel. An asymmetric range always includes 0, so that the zero
    point is itself one of the codes. `signed_maximum_quirk` repeats an oversight of the released search, which
    shrinks the signed maximum of a symmetric group (wrong where its largest weight is negative): for comparing
    numbers only.

    Memory: the codes (one byte a weight) and `CHUNK` float32 weights three times over.

    Raises:
        SettingsError: a width or group size that is not offered; weights that are not finite floating-point
            numbers, or too large for the scales' type.
    """
    size = check_weights(weights, bits, group_size, scale_dtype)
    if bits == DROPPED:
        return dropped(tuple(weights.shape), size, weights.device)
    grid = Grid(bits, symmetric or bits == 1, signed_maximum_quirk, scale_dtype)
    rows = weights.detach().reshape(-1, weights.shape[-1])
    groups = -(-rows.shape[1] // size)
    codes = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)
    scales = torch.empty(rows.shape[0], groups, dtype=scale_dtype, device=rows.device)
    zeros = None if grid.symmetric else torch.empty_like(scales, dtype=torch.uint8)
    for picked, channels, columns in _blocks(rows, size):
        block = rows[picked, channels]
        flat = block.float().reshape(block.shape[0] * (columns.stop - columns.start), -1)
        scale, zero = grid.search(flat)
        codes[picked, channels] = grid.codes(flat, scale, zero).reshape(block.shape)
        scales[picked, columns] = scale.reshape(block.shape[0], -1).to(scale_dtype)
        if zeros is not None:
            zeros[picked, columns] = zero.reshape(block.shape[0], -1).to(torch.uint8)
    lead = weights.shape[:-1]
    return Codes(
        codes.reshape(weights.shape),
        scales.reshape(*lead, groups),
        None if zeros is None else zeros.reshape(*lead, groups),
        bits,
        size,
        tuple(weights.shape),
    )


def dequantize(codes: Codes, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values that codes stand for, `[..., out, in]`; computed in float32 from the stored scales."""
    if codes.bits == DROPPED:
        return torch.zeros(codes.shape, dtype=dtype, device=codes.codes.device)
    rows = codes.codes.reshape(-1, codes.shape[-1])
    values = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    scales = codes.scales.reshape(rows.shape[0], -1)
    zeros = None if codes.zeros is None else codes.zeros.reshape(scales.shape)
    grid = Grid(codes.bits, codes.symmetric)
    for picked, channels, columns in _blocks(rows, codes.group_size):
        block = rows[picked, channels]
        groups = block.reshape(block.shape[0] * (columns.stop - columns.start), -1)
        zero = None if zeros is None else zeros[picked, columns].reshape(-1)
        made = grid.values(groups, scales[picked, columns].reshape(-1).float(), zero)
        values[picked, channels] = made.reshape(block.shape).to(dtype)
    return values.reshape(codes.shape)


def dropped(shape: tuple[int, ...], size: int, device: torch.device | str = "cpu") -> Codes:
    """Width 0 for weights `[..., out, in]`: nothing is kept of them. `size` is the length of a group."""
    scales = torch.empty(*shape[:-1], 0, dtype=torch.float16, device=device)
    return Codes(torch.zeros(shape, dtype=torch.uint8, device=device), scales, None, DROPPED, size, shape)


def fake_quantize(
    weights: Tensor,
    bits: int,
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    *,
    signed_maximum_quirk: bool = False,
    scale_dtype: torch.dtype = torch.float16,
) -> Tensor:
    """Weights `[..., out, in]` → the values their `bits`-bit codes stand for, same shape and type.

    Arguments, memory and errors as in `quantize`.
    """
    codes = quantize(
        weights,
        bits,
        group_size,
        symmetric,
        signed_maximum_quirk=signed_maximum_quirk,
        scale_dtype=scale_dtype,
    )
    return dequantize(codes, weights.dtype)


def requantize(values: Tensor, codes: Codes) -> Tensor:
    """Codes uint8 `[..., out, in]` of `values` on the grid (scales, zeros) that `codes` already has."""
    grid = Grid(codes.bits, codes.symmetric, False, codes.scales.dtype)
    lengths = torch.arange(codes.shape[-1], device=values.device) // codes.group_size
    scale = codes.scales.float()[..., lengths].reshape(-1)
    zero = None if codes.zeros is None else codes.zeros.float()[..., lengths].reshape(-1)
    return grid.codes(values.float().reshape(-1, 1), scale, zero).reshape(codes.shape)


def check_weights(weights: Tensor, bits: int, group_size: int, scale_dtype: torch.dtype) -> int:
    """Refuse what cannot be quantized; the group length otherwise."""
    check_width(bits)
    size = group_length(weights.shape[-1], group_size)
    if scale_dtype not in SCALE_DTYPES:
        raise SettingsError(f"scale_dtype must be one of {SCALE_DTYPES}; got {scale_dtype}.")
    if not weights.is_floating_point() or weights.numel() == 0:
        raise SettingsError(
            f"weights must be floating-point numbers [..., out, in]; got {weights.dtype} {tuple(weights.shape)}."
        )
    largest = max(abs(float(bound)) for bound in torch.aminmax(weights.detach()))
    if not largest < float("inf"):
        raise SettingsError(
            "The weights hold NaN or infinity and cannot be quantized; check the checkpoint they come from."
        )
    if largest > torch.finfo(scale_dtype).max:
        raise SettingsError(f"A weight of {largest:.3g} is too large for scales in {scale_dtype}; use torch.bfloat16.")
    return size


def _blocks(rows: Tensor, size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut `[R, in]` into (rows, channels, groups) blocks of whole groups of one length, at most `CHUNK` weights.

    Whole groups come first, then the shorter last group of every row.
    """
    count, width = rows.shape
    whole = width // size
    chunk = CHUNK["cpu" if rows.device.type == "cpu" else "other"]
    per_block = max(1, min(whole, chunk // size))  # groups of one row searched together
    spans = [slice(first, min(first + per_block, whole)) for first in range(0, whole, per_block)]
    cuts = [(slice(s.start * size, s.stop * size), s) for s in spans]
    if whole * size < width:
        cuts.append((slice(whole * size, width), slice(whole, whole + 1)))
    for channels, columns in cuts:
        step = max(1, chunk // (channels.stop - channels.start))
        for first in range(0, count, step):
            yield slice(first, min(first + step, count)), channels, columns
