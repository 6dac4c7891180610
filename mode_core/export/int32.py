"""Quantized matrices as GPTQ and its heirs store them: bit streams in int32 words.

| tensor | shape | content |
|---|---|---|
| `qweight` int32 | `[in·bits/32, out]` | codes, a little-endian bit stream down the input channels |
| `qzeros` int32 | `[groups, out·bits/32]` | zero points, a stream along the output channels |
| `scales` float16 | `[groups, out]` | |
| `g_idx` int32 | `[in]` | the group of every input channel (GPTQModel only) |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mode_core.export.folder import ExportError
from mode_core.quantization.widths import UNTOUCHED, group_length
from mode_core.statistics import BankShape

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.quantization.grids import Codes
    from mode_core.quantization.packing import PackedMatrix

BLOCK = 32  # channels that share whole int32 words at every width


def packed_parts(matrix: PackedMatrix, less_one: bool) -> dict[str, Tensor]:
    """One packed matrix as `qweight`, `qzeros` and `scales`.

    `less_one`: zero points are stored less one, as the first GPTQ format does; then a zero point of 0 has no place,
    so asymmetric matrices are stored as they are.
    """
    import torch

    codes = whole_zeros(matrix)
    scales = codes.scales.t().contiguous()
    if codes.zeros is None:
        zeros = torch.full(scales.shape, 2 ** (codes.bits - 1) - int(less_one), dtype=torch.uint8)
    else:
        zeros = codes.zeros.t().contiguous()
    qweight = words(codes.codes, codes.bits).t().contiguous()
    return {"qweight": qweight, "qzeros": words(zeros, codes.bits), "scales": scales}


def whole_zeros(matrix: PackedMatrix) -> Codes:
    """Unpacked codes, refusing fractional zero points (hqq's), which integer formats have no place for."""
    codes = matrix.unpack()
    if codes.zeros is not None and codes.zeros.is_floating_point():
        raise ExportError(
            "The quantizer 'hqq' has fractional zero points, which this format cannot hold; use 'rtn' or 'gptq', or "
            "the targets 'mlx' or 'dequantized'."
        )
    return codes


def words(codes: Tensor, bits: int) -> Tensor:
    """Codes uint8 `[rows, n]`, n a multiple of 32 → int32 `[rows, n·bits/32]`, a bit stream along each row."""
    import torch

    from mode_core.quantization.packing import pack

    return pack(codes, bits).view(torch.int32)


def check_shapes(shapes: Mapping[str, BankShape], group_size: int) -> None:
    """Refuse matrices whose channels do not fill whole words or groups.

    Raises:
        ExportError: with the sizes.
    """
    for name, shape in shapes.items():
        for size in (shape.hidden, shape.intermediate):
            if size % BLOCK or size % group_length(size, group_size):
                raise ExportError(
                    f"Bank {name} has matrices of {shape.intermediate} × {shape.hidden}; this format needs both to be "
                    f"multiples of {BLOCK} and of the group size ({group_size})."
                )


def most_common_width(bits: dict) -> int:
    """The width that most matrices have: what a format without a width for everything states as its own."""
    import numpy as np

    widths, counts = np.unique(np.concatenate([np.ravel(b) for b in bits.values()]), return_counts=True)
    kept = widths != UNTOUCHED
    return int(widths[kept][counts[kept].argmax()]) if kept.any() else 4
