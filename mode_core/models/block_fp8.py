"""Block-scaled FP8: 8-bit floats, and for every block of a matrix the number that they are multiplied by.

The form that DeepSeek and Qwen publish: beside `X` (float8_e4m3fn `[…, R, C]`) lies `X_scale_inv` with a scale for
every block, `[…, ⌈R/128⌉, ⌈C/128⌉]`; blocks at the edges are smaller. One scale for a whole matrix is a block too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mode_core.models.errors import ModelError
from mode_core.models.quantized import quantization_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BYTE_FLOATS = ("F8_E4M3", "F8_E5M2")  # as safetensors names them
BLOCK = (128, 128)


def block_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of a block, from a config.json; 128 × 128 where it tells none."""
    size = (quantization_of(config) or {}).get("weight_block_size")
    return (int(size[0]), int(size[1])) if isinstance(size, Sequence) and len(size) == 2 else BLOCK


def check_grid(name: str, shape: Sequence[int], grid: Sequence[int], block: tuple[int, int]) -> None:
    """Refuse scales `grid` that cannot belong to a tensor of sizes `shape`.

    Raises:
        ModelError: names the tensor, and how many scales it needs.
    """
    whole = (*shape[:-2], *(-(-size // part) for size, part in zip(shape[-2:], block, strict=False)))
    single = (*shape[:-2], 1, 1)
    if tuple(grid) not in (whole, single, (1,) * len(grid)):
        raise ModelError(
            f"{name} {list(shape)} has {list(grid)} scales; blocks of {block[0]} × {block[1]} need {list(whole)}. "
            "Take the original weights (bfloat16)."
        )


def sliced_scale(scale: Tensor, shape: Sequence[int], block: tuple[int, int], first: int, last: int) -> Tensor:
    """The scales of `tensor[first:last]`: a stack's own, or those of some rows of a matrix, one row of them a row."""
    import torch

    if scale.dim() < 2 or scale.shape[0] == 1:
        return scale
    if len(shape) > 2:
        return scale[first:last]
    return scale[torch.arange(first, min(last, shape[0])) // block[0]]


def dequantized(tensor: Tensor, scale: Tensor, block: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """FP8 `[…, R, C]` times its blocks' scales, computed in float32, matrix by matrix → `dtype` of the same sizes.

    `scale` holds one number for every block, for every row of blocks when there are as many as rows, or one in all.
    """
    import torch

    made = torch.empty(tensor.shape, dtype=dtype)
    matrices, results = _matrices(tensor), _matrices(made)
    scale = exponents(scale) if scale.dtype == torch.uint8 else scale.float()
    scales = scale.reshape(-1, *scale.shape[-2:]) if scale.dim() > 1 else scale.reshape(1, 1, 1)
    for place, (matrix, result) in enumerate(zip(matrices, results, strict=True)):
        own = scales[place if len(scales) > 1 else 0]
        rows, columns = matrix.shape
        wide = own.repeat_interleave(block[1], 1)[:, :columns] if own.shape[1] > 1 else own
        tall = wide if wide.shape[0] in (1, rows) else wide.repeat_interleave(block[0], 0)[:rows]
        result.copy_(matrix.float() * tall)
    return made


def exponents(stored: Tensor) -> Tensor:
    """Scales that are powers of two, kept as a biased exponent in a byte (ue8m0)."""
    return (stored.float() - 127.0).exp2()


def _matrices(tensor: Tensor) -> Tensor:
    """`[…, R, C]` → a view `[N, R, C]`; a vector is one row."""
    return tensor.reshape(-1, *tensor.shape[-2:]) if tensor.dim() > 1 else tensor.reshape(1, 1, -1)
