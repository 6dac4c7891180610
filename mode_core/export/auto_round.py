"""A packed checkpoint in AutoRound's format, with a width of its own for every expert's every matrix.

As auto-round 0.16.1 reads it: experts are separate linear layers `<bank>.<expert>.gate_proj` and so on, each stored
as `int32` says. Symmetric files use the packing `auto_round:auto_gptq`, which stores zero points less one; asymmetric
ones `auto_round:gptqmodel`, which stores them as they are. Widths stand in `extra_config`, one entry for every matrix,
so that nothing depends on the order of patterns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.folder import ExportError
from mode_core.export.int32 import check_names, check_shape, most_common_width, packed_parts
from mode_core.export.request import Request
from mode_core.export.shards import ShardWriter
from mode_core.export.weights import open_weights, write_config
from mode_core.quantization.widths import UNTOUCHED

if TYPE_CHECKING:
    from mode_core.quantization.packing import PackedMatrix

FAMILIES = {  # (model type, its language model's) whose loading by auto-round was proven -> what they are called
    ("qwen3_vl_moe", "qwen3_vl_moe_text"): "Qwen3-VL-MoE",
    ("internvl", "qwen3_moe"): "InternVL with Qwen3-MoE",
    ("glm4v_moe", "glm4v_moe_text"): "GLM-4.5V",
}
WIDTHS = (2, 3, 4, 5, 6, 8, UNTOUCHED)


def write_auto_round(request: Request, folder: Path) -> None:
    """Save the experts packed, everything else in bfloat16, with the processor.

    Memory: from a loaded model, the originals of the experts and their packed codes (see `quantize_experts`);
    from a checkpoint's folder, some experts and the largest other tensor.

    Raises:
        ExportError: a family whose loading was not proven, or channels that do not fill whole words.
    """
    writer, entries = ShardWriter(folder, request.shard_bytes), {}
    with open_weights(request) as weights:
        config = weights.config()
        _check_family(config)
        check_names(weights)
        for name, shape in weights.shapes.items():
            check_shape(name, shape, request.group_size)
        for name, tensor in weights.others():
            writer.add(name, tensor)
        for matrix in weights.experts():
            if matrix.packed is None:
                writer.add(f"{matrix.module}.weight", matrix.original)
                entries[matrix.module] = {"bits": UNTOUCHED, "data_type": "float"}
                continue
            for part, tensor in packed_parts(matrix.packed, less_one=request.symmetric).items():
                writer.add(f"{matrix.module}.{part}", tensor)
            entries[matrix.module] = _entry(matrix.packed)
        writer.close()
        write_config(folder, config | {"quantization_config": _settings(request, list(weights.shapes), entries)})
        weights.companions(folder)


def _entry(matrix: PackedMatrix) -> dict[str, object]:
    return {"bits": matrix.bits, "group_size": matrix.group_size, "sym": matrix.zeros is None, "data_type": "int"}


def _check_family(config: dict[str, object]) -> None:
    text = config.get("text_config")
    family = config.get("model_type"), text.get("model_type") if isinstance(text, dict) else None
    if family not in FAMILIES:
        raise ExportError(
            f"Loading of {' with '.join(map(str, family))} by auto-round was not proven here (proven: "
            f"{', '.join(FAMILIES.values())}); use the target 'dequantized' or 'expert_bits'."
        )


def _settings(request: Request, banks: list[str], entries: dict[str, dict[str, object]]) -> dict[str, object]:
    """The quantization's part of the configuration."""
    return {
        "quant_method": "auto-round",
        "packing_format": "auto_round:auto_gptq" if request.symmetric else "auto_round:gptqmodel",
        "bits": most_common_width(request.allocation.bits),
        "group_size": request.group_size,
        "sym": request.symmetric,
        "data_type": "int",
        "iters": 0,
        "block_name_to_quantize": banks,
        "extra_config": entries,
    }
