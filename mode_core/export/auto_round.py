"""A packed checkpoint in AutoRound's format, with a width of its own for every expert's every matrix.

Layout, as auto-round 0.16.1 reads it: experts are separate linear layers `<bank>.<expert>.gate_proj` and so on, each
with `qweight` int32 `[in·bits/32, out]` (a little-endian bit stream down the input channels), `qzeros` int32
`[groups, out·bits/32]` (the same along the output channels) and `scales` float16 `[groups, out]`. Symmetric files use
the packing `auto_round:auto_gptq`, which stores zero points less one; asymmetric ones `auto_round:gptqmodel`, which
stores them as they are (a zero point of 0 has no place in the other). Widths stand in `extra_config`, one entry for
every matrix, so that nothing depends on the order of patterns.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.export.shards import ShardWriter
from mode_core.quantization.widths import UNTOUCHED, group_length

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import ExpertBank
    from mode_core.quantization.packing import PackedMatrix

FAMILIES = ("qwen3_vl_moe",)  # model types whose loading by auto-round was proven
WIDTHS = (2, 3, 4, 5, 6, 8, UNTOUCHED)
BLOCK = 32  # channels that share whole int32 words at every width


def write_auto_round(request: Request, folder: Path) -> None:
    """Quantize the loaded model's experts and save them packed, everything else in bfloat16, with the processor.

    Memory: the originals of the experts and their packed codes (see `quantize_experts`), and one shard.

    Raises:
        ExportError: a family whose loading was not proven, biased experts, or channels that do not fill whole words.
    """
    from mode_core.quantization.apply import quantize_experts

    loaded = request.loaded
    _check_family(loaded)
    for bank in loaded.banks.values():
        _check_shape(bank, request.group_size)
    writer, entries = ShardWriter(folder), {}
    with quantize_experts(
        loaded,
        request.allocation,
        request.method,
        request.group_size,
        request.symmetric,
        progress=request.progress,
        cancel=request.cancel,
    ) as quantized:
        for name, tensor in _other_tensors(loaded):
            writer.add(name, tensor)
        for bank in loaded.banks.values():
            for expert in range(bank.experts):
                for projection in bank.projections:
                    module = f"{bank.name}.{expert}.{projection}_proj"
                    matrix = quantized.packed.get((bank.name, expert, projection))
                    if matrix is None:
                        writer.add(f"{module}.weight", bank.matrix(projection, expert).bfloat16())
                        entries[module] = {"bits": UNTOUCHED, "data_type": "float"}
                        continue
                    for part, tensor in packed_parts(matrix).items():
                        writer.add(f"{module}.{part}", tensor)
                    entries[module] = _entry(matrix)
    writer.close()
    _write_config(request, folder, entries)
    loaded.processor.save_pretrained(folder)


def packed_parts(matrix: PackedMatrix) -> dict[str, Tensor]:
    """One packed matrix as `qweight`, `qzeros` and `scales`; see the head of this file."""
    import torch

    codes = matrix.unpack()
    scales = codes.scales.t().contiguous()
    if codes.zeros is None:
        zeros = torch.full(scales.shape, 2 ** (codes.bits - 1) - 1, dtype=torch.uint8)
    else:
        zeros = codes.zeros.t().contiguous()
    words = _words(codes.codes, codes.bits).t().contiguous()
    return {"qweight": words, "qzeros": _words(zeros, codes.bits), "scales": scales}


def _words(codes: Tensor, bits: int) -> Tensor:
    """Codes uint8 `[rows, n]`, n a multiple of 32 → int32 `[rows, n·bits/32]`, a bit stream along each row."""
    import torch

    from mode_core.quantization.packing import pack

    return pack(codes, bits).view(torch.int32)


def _entry(matrix: PackedMatrix) -> dict[str, object]:
    return {"bits": matrix.bits, "group_size": matrix.group_size, "sym": matrix.zeros is None, "data_type": "int"}


def _check_family(loaded) -> None:
    family = loaded.model.config.model_type
    if family not in FAMILIES:
        raise ExportError(
            f"Loading of {family!r} checkpoints by auto-round was not proven here (proven: {', '.join(FAMILIES)}); "
            "use the target 'dequantized' or 'expert_bits'."
        )


def _check_shape(bank: ExpertBank, group_size: int) -> None:
    for size in (bank.hidden, bank.intermediate):
        if size % BLOCK or size % group_length(size, group_size):
            raise ExportError(
                f"Bank {bank.name} has matrices of {bank.intermediate} × {bank.hidden}; this format needs both to be "
                f"multiples of {BLOCK} and of the group size ({group_size})."
            )


def _other_tensors(loaded) -> Iterator[tuple[str, Tensor]]:
    """All tensors outside the expert banks, in bfloat16; tied ones once."""
    experts = {id(p) for bank in loaded.banks.values() for p in bank.module.parameters()}
    for name, parameter in loaded.model.named_parameters():
        if id(parameter) not in experts:
            yield name, parameter.bfloat16()
    kept = loaded.model.state_dict().keys()
    for name, buffer in loaded.model.named_buffers():
        if name in kept:
            yield name, buffer.bfloat16() if buffer.is_floating_point() else buffer


def _write_config(request: Request, folder: Path, entries: dict[str, dict[str, object]]) -> None:
    """The model's own configuration with the quantization's beside it."""
    loaded = request.loaded
    widths = Counter(entry["bits"] for entry in entries.values() if entry["bits"] != UNTOUCHED)
    quantization = {
        "quant_method": "auto-round",
        "packing_format": "auto_round:auto_gptq" if request.symmetric else "auto_round:gptqmodel",
        "bits": widths.most_common(1)[0][0] if widths else 4,
        "group_size": request.group_size,
        "sym": request.symmetric,
        "data_type": "int",
        "iters": 0,
        "block_name_to_quantize": list(loaded.banks),
        "extra_config": entries,
    }
    config = loaded.model.config.to_dict() | {"quantization_config": quantization}
    text = json.dumps(in_bfloat16(config), indent=1, default=str)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    loaded.model.generation_config.save_pretrained(folder)


def in_bfloat16(config: object) -> object:
    """A configuration that names bfloat16 wherever it named the type the model was loaded in."""
    if not isinstance(config, dict):
        return config
    return {k: "bfloat16" if k in ("dtype", "torch_dtype") else in_bfloat16(v) for k, v in config.items()}
