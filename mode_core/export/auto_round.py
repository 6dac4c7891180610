"""A packed checkpoint in AutoRound's format, with a width of its own for every expert's every matrix.

As auto-round 0.16.1 reads it: experts are separate linear layers `<bank>.<expert>.gate_proj` and so on, each stored
as `int32` says. Symmetric files use the packing `auto_round:auto_gptq`, which stores zero points less one; asymmetric
ones `auto_round:gptqmodel`, which stores them as they are. Widths stand in `extra_config`, one entry for every matrix,
so that nothing depends on the order of patterns; and one for a bank whose experts share a width, the only kind that
vLLM looks at (0.32: any other bank is read at the file's own width, without a word).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mode_core.export.checkpoint import packable_weights, separate, write_checkpoint
from mode_core.export.expert_modules import ExpertModule, expert_modules
from mode_core.export.int32 import most_common_width, packed_parts
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED

FAMILIES = {  # model types (with their language model's) whose loading by auto-round was proven -> what they are called
    "qwen3_vl_moe/qwen3_vl_moe_text": "Qwen3-VL-MoE",
    "internvl/qwen3_moe": "InternVL with Qwen3-MoE",
    "glm4v_moe/glm4v_moe_text": "GLM-4.5V",
}
WIDTHS = (2, 3, 4, 5, 6, 8, UNTOUCHED)
OF_VLLM = {  # what vLLM 0.32 makes of a file that it was not written for
    "widths": "vLLM does not run this file: it takes one width and group size for all matrices of a layer, silently "
    "the file's own where a layer has several, and stops at sizes that do not match (seen with 0.32). For it, solve "
    "with unit 'layer' and take a group size that fits gate, up and down; transformers reads every width.",
    "zeros": "vLLM does not run this file: it refuses zero points in this format (seen with 0.32). Asymmetric files "
    "are for transformers alone.",
}


def write_auto_round(request: Request, folder: Path) -> tuple[str, ...]:
    """Write the experts packed, everything else as the source has it. Memory: see `weights.Weights`.

    Raises:
        ExportError: a family whose loading was not proven, or channels that do not fill whole words.
    """
    weights = packable_weights(request, FAMILIES, "auto-round")
    entries = _entries(expert_modules(request.allocation.bits, weights.shapes), request)
    settings = {
        "quant_method": "auto-round",
        "packing_format": "auto_round:auto_gptq" if request.symmetric else "auto_round:gptqmodel",
        "bits": most_common_width(request.allocation.bits),
        "group_size": request.group_size,
        "sym": request.symmetric,
        "data_type": "int",
        "iters": 0,
        "block_name_to_quantize": list(weights.shapes),
        "extra_config": entries,
    }
    tensors = separate(lambda matrix: packed_parts(matrix, less_one=request.symmetric))
    foreign = {"widths": not entries.keys() >= weights.shapes.keys(), "zeros": not request.symmetric}
    notes = tuple(OF_VLLM[what] for what, so in foreign.items() if so)
    return notes + write_checkpoint(weights, folder, tensors, {"quantization_config": settings})


def _entries(modules: Iterable[ExpertModule], request: Request) -> dict[str, dict[str, object]]:
    """By the name of every matrix; and by the bank's where its matrices have one entry in common."""
    found = {module.name: _entry(module, request) for module in modules}
    banks: dict[str, list[dict[str, object]]] = {}
    for name, entry in found.items():
        banks.setdefault(name.rsplit(".", 2)[0], []).append(entry)
    return found | {bank: own[0] for bank, own in banks.items() if all(entry == own[0] for entry in own)}


def _entry(module: ExpertModule, request: Request) -> dict[str, object]:
    if module.bits == UNTOUCHED:
        return {"bits": UNTOUCHED, "data_type": "float"}
    grid = {"group_size": module.group(request.group_size), "sym": request.symmetric, "data_type": "int"}
    return {"bits": module.bits} | grid
