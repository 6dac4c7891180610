"""Codes at their true width: a bit stream of b bits a code in bytes, and matrices kept that way.

Eight codes of b bits are b bytes. Within the stream the first code takes the lowest bits of the first byte
(little endian), so a stream of n codes has ceil(n·b/8) bytes; spare bits of the last byte are 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mode_core.errors import SettingsError
from mode_core.quantization.grids import Codes, dequantize, dropped
from mode_core.quantization.widths import DROPPED

LANES = 8  # codes that share a word of `bits` bytes


def packed_length(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes uint8 `[..., n]`, each below 2^bits → uint8 `[..., ceil(n·bits/8)]`. Widths 1 to 8.

    Memory: two bytes a code beside the result.

    Raises:
        SettingsError: a code that does not fit into `bits` bits.
    """
    _check_width(bits)
    if codes.dtype != torch.uint8 or (codes.numel() and int(codes.max()) >= 1 << bits):
        raise SettingsError(
            f"Codes to pack at {bits} bits must be uint8 below {1 << bits}; got {codes.dtype}, max {codes.max()}."
        )
    count = codes.shape[-1]
    padded = torch.nn.functional.pad(codes, (0, -count % LANES)).unflatten(-1, (-1, LANES))
    words = torch.zeros(padded.shape[:-1], dtype=torch.int64, device=codes.device)
    for lane in range(LANES):
        words |= padded[..., lane].to(torch.int64) << (bits * lane)
    stream = torch.empty(*words.shape, bits, dtype=torch.uint8, device=codes.device)
    for place in range(bits):
        stream[..., place] = (words >> (8 * place)) & 0xFF
    return stream.flatten(-2)[..., : packed_length(count, bits)].contiguous()


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of `pack`: uint8 `[..., ceil(count·bits/8)]` → codes uint8 `[..., count]`."""
    _check_width(bits)
    if packed.shape[-1] != packed_length(count, bits):
        raise SettingsError(
            f"{count} codes of {bits} bits take {packed_length(count, bits)} bytes; got {packed.shape[-1]}."
        )
    padded = torch.nn.functional.pad(packed, (0, -packed.shape[-1] % bits)).unflatten(-1, (-1, bits))
    words = torch.zeros(padded.shape[:-1], dtype=torch.int64, device=packed.device)
    for place in range(bits):
        words |= padded[..., place].to(torch.int64) << (8 * place)
    codes = torch.empty(*words.shape, LANES, dtype=torch.uint8, device=packed.device)
    for lane in range(LANES):
        codes[..., lane] = (words >> (bits * lane)) & ((1 << bits) - 1)
    return codes.flatten(-2)[..., :count].contiguous()


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise SettingsError(f"Codes are packed at 1 to 8 bits; got {bits}.")


@dataclass(frozen=True)
class PackedMatrix:
    """One expert's matrix as it is stored: the bit stream of its codes, float16 scales, zero points.

    `codes` uint8 `[ceil(out·in·bits/8)]`, `scales` `[out, groups]`, `shape` = (out, in). `zeros` is None on a symmetric
    grid, uint8 `[ceil(out·groups·bits/8)]` where zero points are codes, float16 `[out, groups]` where they are
    fractions (hqq). At width 0 all three are empty.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    bits: int
    group_size: int
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes really taken."""
        parts = (self.codes, self.scales, self.zeros)
        return sum(part.numel() * part.element_size() for part in parts if part is not None)

    def unpack(self) -> Codes:
        """One code a byte again."""
        if self.bits == DROPPED:
            return dropped(self.shape, self.group_size, self.codes.device)
        count = self.shape[0] * self.shape[1]
        zeros = self.zeros
        if zeros is not None and zeros.dtype == torch.uint8:
            zeros = unpack(zeros, self.bits, self.scales.numel()).reshape(self.scales.shape)
        codes = unpack(self.codes, self.bits, count).reshape(self.shape)
        return Codes(codes, self.scales, zeros, self.bits, self.group_size, self.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix `[out, in]` that the codes stand for."""
        return dequantize(self.unpack(), dtype)

    def to(self, device: torch.device | str) -> PackedMatrix:
        """The same on another device."""
        zeros = None if self.zeros is None else self.zeros.to(device)
        return replace(self, codes=self.codes.to(device), scales=self.scales.to(device), zeros=zeros)


def pack_matrices(codes: Codes) -> list[PackedMatrix]:
    """Codes of a stack `[n, out, in]` → n packed matrices, each with storage of its own."""
    count, rows, columns = codes.shape
    if codes.bits == DROPPED:
        streams = torch.empty(count, 0, dtype=torch.uint8)
    else:
        streams = pack(codes.codes.flatten(1), codes.bits)
    zeros = codes.zeros
    if zeros is not None and zeros.dtype == torch.uint8:
        zeros = pack(zeros.flatten(1), codes.bits)
    return [
        PackedMatrix(
            stream.clone(),
            codes.scales[i].clone(),
            None if zeros is None else zeros[i].clone(),
            codes.bits,
            codes.group_size,
            (rows, columns),
        )
        for i, stream in enumerate(streams)
    ]
