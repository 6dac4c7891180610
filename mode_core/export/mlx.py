"""MLX: per-path bits for its own converter, and a converted checkpoint that mlx-vlm opens.

MLX keeps all experts of a layer's projection in one `switch_mlp.<projection>`: `weight` uint32 `[E, out, in·bits/32]`
(codes as a little-endian bit stream along each row), `scales` and `biases` `[E, out, groups]`; a weight is
scale·code + bias. Our grids fit: bias is scale × lowest level, or −scale × zero point. `config.json` names the bits of
each path under `quantization`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.checkpoint import packable_weights, write_checkpoint
from mode_core.export.folder import ExportError
from mode_core.export.int32 import words
from mode_core.export.request import Request
from mode_core.export.weights import ExpertMatrix, Weights
from mode_core.quantization.widths import UNTOUCHED

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.statistics import BankShape

WIDTHS = (2, 3, 4, 5, 6, 8, UNTOUCHED)
GROUP_SIZES = (32, 64, 128)
FAMILIES = {"qwen3_vl_moe": "Qwen3-VL-MoE"}  # families whose paths in mlx-vlm are known here
FILE = "quantization.json"


def path_of(bank: str, projection: str) -> str:
    """Where mlx-vlm keeps a bank's projection: `language_model.model.layers.3.mlp.switch_mlp.gate_proj`."""
    renamed = bank.replace("model.language_model.", "language_model.model.")
    return f"{renamed.removesuffix('.experts')}.switch_mlp.{projection}_proj"


def quantization(request: Request) -> dict[str, object]:
    """The `quantization` entry of an MLX config.json: defaults, and bits for each path (false: left as it is)."""
    shapes, entries = request.shapes(), {}
    if request.group_size not in GROUP_SIZES:
        raise ExportError(
            f"MLX has groups of {', '.join(map(str, GROUP_SIZES))} channels, not of {request.group_size}."
        )
    for bank, bits in request.allocation.bits.items():
        first = np.atleast_1d(np.asarray(bits)[0])
        for projection in ("gate", "up", "down") if bank not in shapes or shapes[bank].has_gate else ("up", "down"):
            width = int(first[-1] if projection == "down" else first[0])
            size = request.group_size
            entries[path_of(bank, projection)] = False if width == UNTOUCHED else {"group_size": size, "bits": width}
    return {"group_size": request.group_size, "bits": 4, "mode": "affine", **entries}


def mlx_group(shapes: Mapping[str, BankShape], group_size: int) -> int:
    """The largest of MLX's groups that is no larger than `group_size` (-1: any) and fits every row; as it is where none
    does, and writing says so."""
    most = min([*(min(shape.hidden, shape.intermediate) for shape in shapes.values()), group_size % 2**31])
    return max((size for size in GROUP_SIZES if size <= most), default=group_size)


def write_mlx_config(request: Request, folder: Path) -> None:
    """Only the `quantization` entry, for those who convert with mlx-vlm and a predicate of their own."""
    (folder / FILE).write_text(json.dumps(quantization(request), indent=1) + "\n", encoding="utf-8")


def write_mlx(request: Request, folder: Path) -> tuple[str, ...]:
    """A checkpoint that mlx-vlm opens: experts packed as MLX packs them, other tensors under their own names.

    Memory: one bank's packed experts beside what `weights.Weights` needs.

    Raises:
        ExportError: another family, a group size MLX does not have, or channels that do not fill whole groups.
    """
    settings, weights = quantization(request), packable_weights(request, FAMILIES, "mlx-vlm")
    for name, shape in weights.shapes.items():
        if min(shape.hidden, shape.intermediate) < request.group_size:
            raise ExportError(f"Bank {name} is narrower than one group of {request.group_size} channels.")
    changes = as_mlx_reads(weights.config, weights.shapes)
    return write_checkpoint(
        weights, folder, _stacked, changes | {"quantization": settings, "quantization_config": settings}
    )


def as_mlx_reads(config: dict[str, object], shapes: dict[str, BankShape]) -> dict[str, object]:
    """The parts of the configuration with the names that mlx-vlm asks for; transformers 5 renamed some."""
    text, vision = dict(config["text_config"]), dict(config["vision_config"])
    rope = text.get("rope_parameters") or {}
    text["num_experts"] = next(iter(shapes.values())).experts
    text["rope_theta"] = text.get("rope_theta", rope.get("rope_theta"))
    if rope:
        text["rope_scaling"] = {"rope_type": "default"} | rope
    text["tie_word_embeddings"] = config.get("tie_word_embeddings", False)
    vision["model_type"] = config["model_type"]
    return {"text_config": text, "vision_config": vision}


def _stacked(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Tensors of every `switch_mlp`."""
    import torch

    for bank, matrices in groupby(weights.experts(), key=lambda matrix: matrix.bank):
        held: dict[tuple[str, str], list[Tensor]] = {}
        for matrix in matrices:
            for part, tensor in parts(matrix).items():
                held.setdefault((path_of(bank, matrix.projection), part), []).append(tensor)
        for (path, part), tensors in held.items():
            yield f"{path}.{part}", torch.stack(tensors)


def parts(matrix: ExpertMatrix) -> dict[str, Tensor]:
    """One matrix as MLX stores it, without the leading expert axis."""
    import torch

    if matrix.packed is None:
        return {"weight": matrix.original}
    codes = matrix.packed.unpack()
    lowest = -(2.0 ** (codes.bits - 1)) if codes.zeros is None else -codes.zeros.float()
    biases = (codes.scales.float() * lowest).to(codes.scales.dtype)
    weight = words(codes.codes, codes.bits).view(torch.uint32)
    return {"weight": weight, "scales": codes.scales, "biases": biases}
