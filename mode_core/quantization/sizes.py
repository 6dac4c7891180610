"""What things weigh, to the byte: experts at every width as `packing` stores them, and a model by its parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mode_core.quantization.widths import DROPPED, GROUP_SIZE, UNTOUCHED, check_width, group_length, zero_point_bits
from mode_core.statistics import BankShape

if TYPE_CHECKING:
    from torch import nn

    from mode_core.models import LoadedModel

SCALE_BYTES = 2  # float16
VISION_PARTS = ("visual", "vision", "vision_tower", "vision_model", "vision_encoder", "image_encoder", "vit")
VISION_BRIDGES = ("multi_modal_projector", "mm_projector", "mlp1", "embed_vision", "vision_projector")


def matrix_bytes(
    rows: int, columns: int, bits: int, group_size: int = GROUP_SIZE, symmetric: bool = True, method: str = "rtn"
) -> int:
    """Bytes of one packed matrix `[rows, columns]`: codes, float16 scales and the zero points that `method` keeps.

    Codes and zero points are each one bit stream per matrix, rounded up to a whole byte. Width 0 takes nothing.
    """
    check_width(bits)
    if bits == DROPPED:
        return 0
    groups = rows * -(-columns // group_length(columns, group_size))
    zeros = -(-groups * zero_point_bits(bits, symmetric, method) // 8)
    return -(-rows * columns * bits // 8) + groups * SCALE_BYTES + zeros


def expert_bytes(
    shape: BankShape,
    widths: Sequence[int],
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    by_projection: bool = False,
    method: str = "rtn",
) -> np.ndarray:
    """Bytes of one packed expert at each width: int64 `[B]`; by projection `[B, 2]` (gate+up, down).

    Width 16 is the expert left as it was, at two bytes a weight; width 0 is no expert. `rtn` and `gptq` take the
    same; `hqq` takes 2 bytes more a group.
    """
    table = [_projection_bytes(shape, int(width), (group_size, symmetric, method)) for width in widths]
    table = np.array(table, dtype=np.int64).reshape(len(widths), 2)
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


@dataclass(frozen=True)
class ModelBytes:
    """Bytes of a model's parameters by part; `rest` holds routers, norms, shared experts and dense layers."""

    experts: int
    attention: int
    vision_tower: int
    embeddings: int
    rest: int

    @property
    def total(self) -> int:
        """All parameters; tied ones once."""
        return self.experts + self.attention + self.vision_tower + self.embeddings + self.rest


def model_bytes(loaded: LoadedModel) -> ModelBytes:
    """Split the parameter bytes of a loaded model (`.model`, `.banks`) by part; a tied parameter counts once."""
    experts = {id(p) for bank in loaded.banks.values() for p in bank.module.parameters()}
    embeddings = {id(p) for p in _embedding_parameters(loaded.model)}
    parts = dict.fromkeys(("experts", "attention", "vision_tower", "embeddings", "rest"), 0)
    for name, parameter in loaded.model.named_parameters():
        if id(parameter) in experts:
            part = "experts"
        elif id(parameter) in embeddings:
            part = "embeddings"
        else:
            part = _part_of(name)
        parts[part] += parameter.numel() * parameter.element_size()
    return ModelBytes(**parts)


def _embedding_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None:
            yield from module.parameters()


def _part_of(name: str) -> str:
    steps = name.lower().split(".")
    if any(step in VISION_PARTS or step in VISION_BRIDGES for step in steps):
        return "vision_tower"
    return "attention" if any("attn" in step or "attention" in step for step in steps[:-1]) else "rest"
