"""Half-quadratic quantization, through its own package (Badri and Shaji, 2023): data-free, fractional zero points.

The package looks for the zero point that makes the error sparse (Σ abs(w−ŵ)^0.7), with the scale of the full range
kept. It stops its steps for a whole matrix at a time, so matrices are handed over one by one: what comes back is what
the package gives for that matrix alone. Scales and zero points are kept in float16, as the package keeps them.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from mode_core.errors import QuantizerMissing
from mode_core.quantization.grids import Codes, check_weights

PACKAGE = "hqq"


def hqq_package() -> ModuleType:
    """The package's module with its `Quantizer`.

    Raises:
        QuantizerMissing: it is not installed; the text says how to get it.
    """
    try:
        from hqq.core import quantize
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != PACKAGE:
            raise
        raise QuantizerMissing(
            "The quantizer 'hqq' needs the package hqq, which is not installed: pip install hqq==0.2.8.post1, "
            "or choose 'rtn' or 'gptq'."
        ) from None
    return quantize


def hqq(weights: Tensor, bits: int, group_size: int) -> Codes:
    """Weights `[n, out, in]` → `Codes` with float16 zero points; groups along the last axis, the last may be shorter.

    Memory: the package's, about five times one matrix in float32, and the codes.

    Raises:
        QuantizerMissing: the package is not installed. ValueError: as `quantize`.
    """
    size = check_weights(weights, bits, group_size, torch.float16)
    quantizer = hqq_package().Quantizer
    whole = weights.shape[-1] // size * size
    spans = [slice(0, whole)] + ([slice(whole, None)] if whole < weights.shape[-1] else [])
    parts = [[_matrix(quantizer, matrix[:, span], bits, size) for span in spans] for matrix in weights.detach()]
    codes, scales, zeros = (
        torch.stack([torch.cat([part[kind] for part in row], dim=1) for row in parts]) for kind in range(3)
    )
    return Codes(codes, scales, zeros, bits, size, tuple(weights.shape))


def _matrix(quantizer: type, matrix: Tensor, bits: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes uint8 `[out, in]`, scales and zero points float16 `[out, groups]` of one matrix."""
    rows, columns = matrix.shape
    codes, meta = quantizer.quantize(
        matrix.float().contiguous(),
        nbits=bits,
        group_size=min(size, columns),
        axis=1,
        bitpack=False,
        device=str(matrix.device),
    )
    grid = (meta[name].to(torch.float16).reshape(rows, -1) for name in ("scale", "zero"))
    return codes.to(torch.uint8).reshape(rows, columns), *grid
