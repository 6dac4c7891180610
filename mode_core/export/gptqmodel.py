"""GPTQModel's format: a packed checkpoint whose `dynamic` states the width of every matrix, and that setting alone.

As GPTQModel 7.7.0 reads it: `dynamic` maps patterns to settings, the first match wins; `+:` changes a module, `-:`
leaves it unquantized. Every pattern here is `^name$` with the name escaped, so each module has its own and they are
looked up without matching. Symmetric files have the format `gptq` (zero points less one), asymmetric `gptq_v2`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.int32 import check_names, check_shape, most_common_width, packed_parts
from mode_core.export.request import Request
from mode_core.export.shards import ShardWriter
from mode_core.export.weights import open_weights, write_config
from mode_core.quantization.widths import UNTOUCHED, group_length

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.statistics import BankShape

FAMILIES = ("qwen3_vl_moe",)  # model types whose loading by GPTQModel was proven
WIDTHS = (2, 3, 4, 8, UNTOUCHED)
CONFIG = "quantize_config.json"
REST_BITS = 4  # attention and shared experts, as in the paper's released code; only in the setting alone


def write_gptqmodel(request: Request, folder: Path) -> None:
    """Save the experts packed, everything else in bfloat16, with the processor. Memory as in `write_auto_round`.

    Raises:
        ExportError: a family whose loading was not proven, or channels that do not fill whole words.
    """
    writer, dynamic = ShardWriter(folder, request.shard_bytes), {}
    with open_weights(request) as weights:
        config = weights.config()
        if (family := config.get("model_type")) not in FAMILIES:
            raise ExportError(
                f"Loading of {family!r} checkpoints by GPTQModel was not proven here (proven: {', '.join(FAMILIES)}); "
                "use the target 'dequantized', or 'gptqmodel_config' to quantize with GPTQModel itself."
            )
        check_names(weights)
        for name, shape in weights.shapes.items():
            check_shape(name, shape, request.group_size)
        for name, tensor in weights.others():
            writer.add(name, tensor)
            if tensor.ndim == 2 and name.endswith(".weight"):
                dynamic |= untouched(name.removesuffix(".weight"))
        for matrix in weights.experts():
            if matrix.packed is None:
                writer.add(f"{matrix.module}.weight", matrix.original)
                dynamic |= untouched(matrix.module)
                continue
            for part, tensor in packed_parts(matrix.packed, less_one=request.symmetric).items():
                writer.add(f"{matrix.module}.{part}", tensor)
            writer.add(f"{matrix.module}.g_idx", group_index(matrix.packed.shape[1], matrix.packed.group_size))
            dynamic |= quantized(matrix.module, matrix.packed.bits, matrix.packed.group_size, request.group_size)
        writer.close()
        settings = quantize_config(request, most_common_width(request.allocation.bits), dynamic)
        write_config(folder, config | {"quantization_config": settings})
        _write(folder, settings)
        weights.companions(folder)


def write_gptqmodel_config(request: Request, folder: Path) -> None:
    """Only quantize_config.json, for those who quantize with GPTQModel at these bits; attention gets 4 bits."""
    dynamic = {}
    for module, bits in expert_modules(request.allocation.bits, request.shapes()):
        dynamic |= untouched(module) if bits == UNTOUCHED else quantized(module, bits)
    _write(folder, quantize_config(request, REST_BITS, dynamic))


def expert_modules(bits: dict[str, np.ndarray], shapes: dict[str, BankShape]) -> Iterator[tuple[str, int]]:
    """Every matrix of every routed expert as a linear layer: (module name, width)."""
    for bank, widths in bits.items():
        gated = bank not in shapes or shapes[bank].has_gate
        columns = np.asarray(widths)
        columns = columns if columns.ndim == 2 else np.stack([columns, columns], axis=1)
        for expert, (entrance, exit_) in enumerate(columns.tolist()):
            for projection in ("gate", "up", "down") if gated else ("up", "down"):
                yield f"{bank}.{expert}.{projection}_proj", exit_ if projection == "down" else entrance


def quantized(module: str, bits: int, group: int = 0, usual: int = 0) -> dict[str, dict[str, int]]:
    """The entry of `dynamic` that gives one module its width, and its group size where that is not the usual one."""
    return {f"+:^{re.escape(module)}$": {"bits": bits} | ({"group_size": group} if group != usual else {})}


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
