"""Round to nearest on a grid per group of input channels, with the clip search of the paper's released code.

A group of g neighbouring input channels shares one scale s (and, asymmetric, one zero point z):

| | codes q | value | scale before the clip search |
|---|---|---|---|
| symmetric, b ≥ 2 | −2^(b−1) … 2^(b−1)−1 | q·s | max abs(w) / (2^(b−1)−1) |
| asymmetric, b ≥ 2 | 0 … 2^b−1 | (q−z)·s | (max(w,0) − min(w,0)) / (2^b−1) |
| 1 bit | −1, +1 | q·s | mean abs(w), no search |

The search tries the range times 1.00, 0.99, …, 0.21 and keeps the one with the least Σ abs(w−ŵ)^2.4 (the
first of equals). Scales are rounded to the type they are stored in *before* their error is measured, so
what is measured is what is stored. With `scale_dtype=torch.float32` and `signed_maximum_quirk=True` the values at
2 to 8 bits were bit for bit those of the released code (tried on groups of both signs). At 1 bit that code rounds
weights below the mean to 0, which makes three levels; here there are the two of the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mode_core.quantization.widths import GROUP_SIZE, PER_CHANNEL, WIDTHS, check_width, group_length

__all__ = ["GROUP_SIZE", "PER_CHANNEL", "WIDTHS", "Codes", "dequantize", "fake_quantize", "quantize", "requantize"]

SEARCH_STEPS, SEARCH_GRID, ERROR_NORM = 80, 100, 2.4
SCALE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
PRUNE_EVERY = 8  # search steps between two looks at which groups cannot improve any more
CHUNK = {"cpu": 1 << 17, "other": 1 << 25}  # weights searched at once: stays in cache, or fills an accelerator


@dataclass(frozen=True)
class Codes:
    """Quantized weights, one code a byte (see `packing` for their true width).

    `codes` uint8 `[..., out, in]` counts the levels from 0, the lowest; `scales` `[..., out, groups]` in the
    stored type; `zeros` uint8 `[..., out, groups]`, or None where the grid is symmetric. `group_size` is the
    number of input channels per group; the last group of a row may be shorter.
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
        ValueError: a width or group size that is not offered; weights that are not finite floating-point
            numbers, or too large for the scales' type.
    """
    size = _check(weights, bits, group_size, scale_dtype)
    grid = _Grid(bits, symmetric or bits == 1, signed_maximum_quirk, scale_dtype)
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
    rows = codes.codes.reshape(-1, codes.shape[-1])
    values = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    scales = codes.scales.reshape(rows.shape[0], -1)
    zeros = None if codes.zeros is None else codes.zeros.reshape(scales.shape)
    lowest = _levels(codes.bits, codes.symmetric)[0]
    for picked, channels, columns in _blocks(rows, codes.group_size):
        block = rows[picked, channels]
        level = block.float().reshape(block.shape[0], columns.stop - columns.start, -1)
        if zeros is not None:
            level -= zeros[picked, columns, None]
        elif codes.bits == 1:
            level.mul_(2).sub_(1)
        else:
            level += lowest
        values[picked, channels] = level.mul_(scales[picked, columns, None].float()).reshape(block.shape).to(dtype)
    return values.reshape(codes.shape)


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
    grid = _Grid(codes.bits, codes.symmetric, False, codes.scales.dtype)
    lengths = torch.arange(codes.shape[-1], device=values.device) // codes.group_size
    scale = codes.scales.float()[..., lengths].reshape(-1)
    zero = None if codes.zeros is None else codes.zeros.float()[..., lengths].reshape(-1)
    return grid.codes(values.float().reshape(-1, 1), scale, zero).reshape(codes.shape)


def _check(weights: Tensor, bits: int, group_size: int, scale_dtype: torch.dtype) -> int:
    """Refuse what cannot be quantized; the group length otherwise."""
    check_width(bits)
    size = group_length(weights.shape[-1], group_size)
    if scale_dtype not in SCALE_DTYPES:
        raise ValueError(f"scale_dtype must be one of {SCALE_DTYPES}; got {scale_dtype}.")
    if not weights.is_floating_point() or weights.numel() == 0:
        raise ValueError(
            f"weights must be floating-point numbers [..., out, in]; got {weights.dtype} {tuple(weights.shape)}."
        )
    largest = max(abs(float(bound)) for bound in torch.aminmax(weights.detach()))
    if not largest < float("inf"):
        raise ValueError(
            "The weights hold NaN or infinity and cannot be quantized; check the checkpoint they come from."
        )
    if largest > torch.finfo(scale_dtype).max:
        raise ValueError(f"A weight of {largest:.3g} is too large for scales in {scale_dtype}; use torch.bfloat16.")
    return size


def _levels(bits: int, symmetric: bool) -> tuple[int, int]:
    """Lowest and highest integer level of the grid (1 bit: its two levels are −1 and +1)."""
    if bits == 1:
        return -1, 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


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


@dataclass(frozen=True)
class _Grid:
    """The levels of one width and the search for the scale of each group `[n, g]`."""

    bits: int
    symmetric: bool
    signed_maximum: bool
    scale_dtype: torch.dtype

    def codes(self, groups: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """Nearest codes, uint8 `[n, g]`, counted from the lowest level."""
        if self.bits == 1:
            return (groups >= 0).to(torch.uint8)
        lowest, highest = _levels(self.bits, self.symmetric)
        level = torch.div(groups, scale[:, None]).round_()
        if zero is not None:
            level += zero[:, None]
        return level.clamp_(lowest, highest).sub_(lowest).to(torch.uint8)

    def search(self, groups: Tensor) -> tuple[Tensor, Tensor | None]:
        """Best scale `[n]` (float32, rounded as stored) and zero point `[n]` of groups `[n, g]`."""
        if self.bits == 1:
            return self._stored(groups.abs().mean(dim=1)), None
        low, high = torch.aminmax(groups, dim=1)
        if self.symmetric:
            top = torch.maximum(high, -low)
            scale, zero = self._stored(top / _levels(self.bits, True)[1]), None
            low, high = None, (high if self.signed_maximum else top)
        else:
            low, high = low.clamp_max(0), high.clamp_min(0)
            scale, zero = self._candidate(low, high, 1.0)
        return self._descend(groups, low, high, scale, zero)

    def _descend(
        self, groups: Tensor, low: Tensor | None, high: Tensor, scale: Tensor, zero: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Try every shrink step; groups that no later step can improve are dropped on the way.

        That is exact: the range only shrinks from step to step, so the error of what lies outside it is a
        lower bound on the error of every later step.
        """
        best = torch.full_like(scale, float("inf"))
        active = torch.arange(len(groups), device=groups.device)
        for step in range(SEARCH_STEPS):
            tried, shift = self._candidate(low, high, 1 - step / SEARCH_GRID)
            error = self._error(groups, tried, shift)
            better = error < best[active]
            target = active[better]
            best[target], scale[target] = error[better], tried[better]
            if zero is not None:
                zero[target] = shift[better]
            if step % PRUNE_EVERY == PRUNE_EVERY - 1 and not self.signed_maximum:
                keep = self._clipped(groups, tried, shift) <= best[active] * 1.0001  # 1.0001: rounding of the sums
                if not bool(keep.any()):
                    break
                groups, active, high = groups[keep], active[keep], high[keep]
                low = None if low is None else low[keep]
        return scale, zero

    def _candidate(self, low: Tensor | None, high: Tensor, share: float) -> tuple[Tensor, Tensor | None]:
        """Scale and zero point of the range times `share`."""
        highest = _levels(self.bits, self.symmetric)[1]
        if low is None:
            return self._stored(share * high / highest), None
        scale = self._stored((share * high - share * low) / highest)
        return scale, torch.round(-share * low / scale).clamp_(0, highest)

    def _stored(self, scale: Tensor) -> Tensor:
        """The scale as it comes back from storage; never 0, so that a group of zeros stays zeros."""
        if self.signed_maximum:
            return scale.to(self.scale_dtype).float()
        smallest = torch.finfo(self.scale_dtype).smallest_normal / (1 << 10)
        smallest = max(smallest, torch.finfo(torch.float32).smallest_normal)
        return scale.clamp_min(smallest).to(self.scale_dtype).float()

    def _error(self, groups: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """Σ abs(w−ŵ)^2.4 over each group, `[n]`; NaN where a signed maximum is 0 (never better than any)."""
        lowest, highest = _levels(self.bits, self.symmetric)
        level = torch.div(groups, scale[:, None]).round_()
        if zero is None:
            level.clamp_(lowest, highest)
        else:
            level.add_(zero[:, None]).clamp_(lowest, highest).sub_(zero[:, None])
        return _norm(level.mul_(scale[:, None]).sub_(groups))

    def _clipped(self, groups: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """Part of the error that no range inside this one can avoid, `[n]`: that of the weights outside it.

        Rounded scales can move an asymmetric zero point by one level; the range is widened by as much.
        """
        lowest, highest = _levels(self.bits, self.symmetric)
        if zero is None:
            floor, ceiling = lowest * scale, highest * scale
        else:
            floor, ceiling = (lowest - zero - 1) * scale, (highest - zero + 1) * scale
        outside = groups - torch.clamp(groups, floor[:, None], ceiling[:, None])
        return _norm(outside)


def _norm(difference: Tensor) -> Tensor:
    """Σ abs(d)^2.4 over the last axis, in place; through logarithms, which take half the time of `pow`."""
    return difference.abs_().log2_().mul_(ERROR_NORM).exp2_().sum(dim=1)
