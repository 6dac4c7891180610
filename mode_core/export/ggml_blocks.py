"""Our codes as ggml's blocks, byte for byte what llama.cpp reads; and tensors in plain types.

A block is its float16 scale d, a minimum m where the type has one, then the codes q of its weights:

| type | value | codes in the block |
|---|---|---|
| Q2_0 | (q − 1)·d | four a byte, the first lowest |
| Q4_0, Q4_1 | (q − 8)·d, q·d + m | of 32: low halves of 16 bytes, then the high halves |
| Q5_0, Q5_1 | (q − 16)·d, q·d + m | their fifth bits in 4 bytes first, then as Q4_0 |
| Q8_0 | q·d | a signed byte each |

Q2_0's levels are −1 … 2 and ours at 2 bits −2 … 1, so d is our scale negated there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.ggml_types import GgmlType

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.quantization.packing import PackedMatrix


def blocks(matrix: PackedMatrix, kind: GgmlType) -> np.ndarray:
    """A packed matrix `[out, in]` → uint8 `[out, row bytes]`. `ggml_types.holds` says which types can.

    Raises:
        ExportError: scales that are not float16; a value that float16 cannot hold (a minimum of Q4_1 or Q5_1).
    """
    import torch

    codes = matrix.unpack()
    if codes.scales.dtype != torch.float16:
        raise ExportError(f"Scales in {codes.scales.dtype} cannot be written to a GGUF file, which has float16.")
    rows, columns = matrix.shape
    scale = _by_block(codes.scales.numpy(), matrix.group_size, columns, kind.block)
    levels = codes.codes.numpy().astype(np.int32)
    heads = [scale]
    if kind.offset:
        zero = _by_block(codes.zeros.float().numpy(), matrix.group_size, columns, kind.block)
        with np.errstate(over="ignore"):
            heads.append((-zero * scale.astype(np.float32)).astype(np.float16))
        if not np.isfinite(heads[1]).all():
            raise ExportError("A minimum (scale × zero point) is too large for float16; use a symmetric grid.")
    elif codes.zeros is not None:
        zero = codes.zeros.numpy().astype(np.int32)
        levels -= np.repeat(zero, matrix.group_size, axis=1)[:, :columns]
    elif codes.bits == 1:
        levels = 2 * levels - 1
    else:
        levels -= 1 << (codes.bits - 1)
    if kind.name == "Q2_0":
        heads[0], levels = -scale, 1 - levels
    elif not kind.offset:
        levels = levels - (kind.levels[0] if kind.name != "Q8_0" else 0)
    body = _packed(levels.reshape(rows, -1, kind.block), kind)
    head = np.stack(heads, axis=-1).view(np.uint8).reshape(*body.shape[:2], -1)
    return np.concatenate([head, body], axis=2).reshape(rows, -1)


def _by_block(values: np.ndarray, group: int, columns: int, block: int) -> np.ndarray:
    """One value a group `[rows, groups]` → one a block `[rows, blocks]`."""
    return np.ascontiguousarray(values[:, np.arange(0, columns, block) // group])


def _packed(levels: np.ndarray, kind: GgmlType) -> np.ndarray:
    """Codes `[rows, blocks, block]` → bytes `[rows, blocks, …]`."""
    if kind.name == "Q8_0":
        return levels.astype(np.int8).view(np.uint8)
    codes = levels.astype(np.uint8)
    if kind.name == "Q2_0":
        fours = codes.reshape(*codes.shape[:2], -1, 4)
        return fours[..., 0] | fours[..., 1] << 2 | fours[..., 2] << 4 | fours[..., 3] << 6
    low = codes & 15
    halves = low[..., :16] | low[..., 16:] << 4
    if kind.levels[1] - kind.levels[0] < 16:
        return halves
    fifth = np.packbits(codes >> 4, axis=-1, bitorder="little")
    return np.concatenate([fifth, halves], axis=-1)


def plain(tensor: Tensor, kind: GgmlType) -> np.ndarray:
    """A tensor in F32, F16 or BF16: uint8 `[..., bytes]`."""
    import torch

    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind.name]
    flat = tensor.detach().to(dtype).contiguous()
    return flat.view(torch.uint8).numpy().reshape(*tensor.shape[:-1], -1)
