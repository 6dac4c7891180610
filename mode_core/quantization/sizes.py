"""What things weigh, to the byte: experts at every width as `packing` stores them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mode_core.quantization.quantizers import DATA_FREE, quantizer_kind
from mode_core.quantization.widths import DROPPED, GROUP_SIZE, UNTOUCHED, check_width, group_length
from mode_core.statistics import BankShape

SCALE_BYTES = 2  # float16
VISION_PARTS = (  # and what listens beside them
    *("visual", "vision", "vision_tower", "vision_model", "vision_encoder", "image_encoder", "vit"),
    *("audio_tower", "audio_encoder"),
)
VISION_BRIDGES = ("multi_modal_projector", "mm_projector", "mlp1", "embed_vision", "vision_projector")


def matrix_bytes(
    rows: int, columns: int, bits: int, group_size: int = GROUP_SIZE, symmetric: bool = True, method: str = DATA_FREE
) -> int:
    """Bytes of one packed matrix `[rows, columns]`: codes, float16 scales and the zero points that `method` keeps.

    Codes and zero points are each one bit stream per matrix, rounded up to a whole byte. Width 0 takes nothing.
    """
    check_width(bits)
    if bits == DROPPED:
        return 0
    groups = rows * -(-columns // group_length(columns, group_size))
    zeros = -(-groups * quantizer_kind(method).zero_point_bits(bits, symmetric) // 8)
    return -(-rows * columns * bits // 8) + groups * SCALE_BYTES + zeros


def expert_bytes(
    shape: BankShape,
    widths: Sequence[int],
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    by_projection: bool = False,
    method: str = DATA_FREE,
) -> np.ndarray:
    """Bytes of one packed expert at each width: int64 `[B]`; by projection `[B, 2]` (gate+up, down).

    Width 16 is the expert left as it was, at two bytes a weight; width 0 is no expert. `rtn` and `gptq` take the
    same; `hqq` takes 2 bytes more a group.
    """
    rows = [_projection_bytes(shape, int(width), (group_size, symmetric, method)) for width in widths]
    table = np.array(rows, dtype=np.int64).reshape(len(widths), 2)
    return table if by_projection else table.sum(axis=1)


def _projection_bytes(shape: BankShape, width: int, grid: tuple[int, bool, str]) -> tuple[int, int]:
    entrances = 2 if shape.has_gate else 1
    weights = shape.intermediate * shape.hidden
    if width == UNTOUCHED:
        return entrances * weights * 2, weights * 2
    entrance = matrix_bytes(shape.intermediate, shape.hidden, width, *grid)
    return entrances * entrance, matrix_bytes(shape.hidden, shape.intermediate, width, *grid)


def original_expert_bytes(shape: BankShape, dtype_bytes: int = 2) -> int:
    """Bytes of one expert as it came, `dtype_bytes` a weight (2: bfloat16)."""
    return (3 if shape.has_gate else 2) * shape.intermediate * shape.hidden * dtype_bytes
