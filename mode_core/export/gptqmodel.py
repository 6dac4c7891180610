"""GPTQModel's format: a packed checkpoint whose `dynamic` states the width of every matrix, and that setting alone.

As GPTQModel 7.7.0 reads it: `dynamic` maps patterns to settings, the first match wins; `+:` changes a module, `-:`
leaves it unquantized. Every pattern here is `^name$` with the name escaped, so each module has its own and they are
looked up without matching. Symmetric files have the format `gptq` (zero points less one), asymmetric `gptq_v2`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.checkpoint import other_linears, packable_weights, separate, write_checkpoint
from mode_core.export.expert_modules import expert_modules
from mode_core.export.int32 import most_common_width, packed_parts
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED, group_length

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.quantization.packing import PackedMatrix

FAMILIES = {"qwen3_vl_moe": "Qwen3-VL-MoE"}  # model types whose loading by GPTQModel was proven
WIDTHS = (2, 3, 4, 8, UNTOUCHED)
CONFIG = "quantize_config.json"
REST_BITS = 4  # attention and shared experts, as in the paper's released code; only in the setting alone


def write_gptqmodel(request: Request, folder: Path) -> tuple[str, ...]:
    """Write the experts packed, everything else as the source has it. Memory: see `weights.Weights`.

    Raises:
        ExportError: a family whose loading was not proven, or channels that do not fill whole words.
    """
    weights = packable_weights(request, FAMILIES, "GPTQModel")
    dynamic = {}
    for module in other_linears(weights):
        dynamic |= untouched(module)
    for module in expert_modules(request.allocation.bits, weights.shapes):
        group = module.group(request.group_size)
        own_group = None if group == request.group_size else group
        kept = module.bits == UNTOUCHED
        dynamic |= untouched(module.name) if kept else quantized(module.name, module.bits, own_group)
    settings = quantize_config(request, most_common_width(request.allocation.bits), dynamic)
    _write(folder, settings)

    def parts(matrix: PackedMatrix) -> dict[str, Tensor]:
        own = packed_parts(matrix, less_one=request.symmetric)
        return own | {"g_idx": group_index(matrix.shape[1], matrix.group_size)}

    return write_checkpoint(weights, folder, separate(parts), {"quantization_config": settings})


def write_gptqmodel_config(request: Request, folder: Path) -> None:
    """Only quantize_config.json, for those who quantize with GPTQModel at these bits; attention gets 4 bits."""
    dynamic = {}
    for module in expert_modules(request.allocation.bits, request.shapes()):
        dynamic |= untouched(module.name) if module.bits == UNTOUCHED else quantized(module.name, module.bits)
    _write(folder, quantize_config(request, REST_BITS, dynamic))


def quantized(module: str, bits: int, group: int | None = None) -> dict[str, dict[str, int]]:
    """The entry of `dynamic` that gives one module its width, and a group size of its own."""
    return {f"+:^{re.escape(module)}$": {"bits": bits} | ({} if group is None else {"group_size": group})}


def untouched(module: str) -> dict[str, dict[str, int]]:
    """The entry of `dynamic` that leaves one module as it is."""
    return {f"-:^{re.escape(module)}$": {}}


def group_index(channels: int, group_size: int) -> Tensor:
    """The group of every input channel, int32 `[channels]`."""
    import torch

    return (torch.arange(channels) // group_length(channels, group_size)).to(torch.int32)


def quantize_config(request: Request, bits: int, dynamic: dict[str, dict[str, int]]) -> dict[str, object]:
    """GPTQModel's own record of how a checkpoint was, or is to be, quantized."""
    return {
        "quant_method": "gptq",
        "checkpoint_format": "gptq" if request.symmetric else "gptq_v2",
        "bits": bits,
        "group_size": request.group_size,
        "sym": request.symmetric,
        "desc_act": False,
        "lm_head": False,
        "pack_dtype": "int32",
        "dynamic": dynamic,
    }


def _write(folder: Path, settings: dict[str, object]) -> None:
    (folder / CONFIG).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
