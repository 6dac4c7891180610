"""compressed-tensors' `pack-quantized` format, which llm-compressor writes and vLLM reads.

Per matrix (compressed-tensors 0.20): `weight_packed` int32 `[out, in·bits/32]`, codes counted from the lowest level as
a little-endian bit stream along each row; `weight_scale` `[out, groups]`; `weight_shape` int64 `[2]`; and, asymmetric,
`weight_zero_point` int32 `[out·bits/32, groups]`, packed down the rows. (3-bit packing was another before 0.18.)
Which module has which width stands in `config_groups`, one group per width with one pattern per bank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.checkpoint import other_linears, packable_weights, separate, write_checkpoint
from mode_core.export.expert_modules import expert_modules
from mode_core.export.folder import ExportError
from mode_core.export.int32 import whole_zeros, words
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED, group_length

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.quantization.packing import PackedMatrix
    from mode_core.statistics import BankShape

WIDTHS = (2, 3, 4, 5, 6, 8, UNTOUCHED)
FAMILIES = {"qwen3_vl_moe": "Qwen3-VL-MoE"}  # experts are written as separate layers, which was tried with these


def write_compressed_tensors(request: Request, folder: Path) -> tuple[str, ...]:
    """Write the experts packed, everything else as the source has it. Memory: see `weights.Weights`.

    Raises:
        ExportError: another family, or channels that do not fill whole words.
    """
    weights = packable_weights(request, FAMILIES, "compressed-tensors")
    check_groups(weights.shapes, request.group_size)
    modules = expert_modules(request.allocation.bits, weights.shapes)
    ignored = other_linears(weights) + [module.name for module in modules if module.bits == UNTOUCHED]
    settings = _settings(config_groups(request, weights.shapes), ignored)
    return write_checkpoint(weights, folder, separate(packed_parts), {"quantization_config": settings})


def check_groups(shapes: Mapping[str, BankShape], group_size: int) -> None:
    """vLLM takes one group size for gate, up and down of a layer; narrow matrices would have shorter groups.

    Raises:
        ExportError: names the size that fits all.
    """
    for name, shape in shapes.items():
        if group_length(shape.hidden, group_size) != group_length(shape.intermediate, group_size):
            raise ExportError(
                f"Bank {name} has matrices of {shape.intermediate} × {shape.hidden}: with groups of {group_size} gate, "
                "up and down would differ in group size, which vLLM refuses; choose group size "
                f"{math.gcd(shape.hidden, shape.intermediate)} or a divisor of it."
            )


def common_group(shapes: Mapping[str, BankShape], group_size: int) -> int:
    """`group_size` where `check_groups` takes it, else the largest size that does for the shorter rows too."""
    rows = [(group_length(shape.hidden, group_size), group_length(shape.intermediate, group_size))
            for shape in shapes.values()]  # fmt: skip
    return group_size if all(one == other for one, other in rows) else math.gcd(*sum(rows, ()))


def packed_parts(matrix: PackedMatrix) -> dict[str, Tensor]:
    """One matrix in the tensors of this format; see the head of this file."""
    import torch

    codes = whole_zeros(matrix)
    parts = {
        "weight_packed": words(codes.codes, codes.bits),
        "weight_scale": codes.scales,
        "weight_shape": torch.tensor(codes.shape),
    }
    if codes.zeros is not None:
        parts["weight_zero_point"] = words(codes.zeros.t().contiguous(), codes.bits).t().contiguous()
    return parts


def config_groups(request: Request, shapes: dict[str, BankShape]) -> dict[str, dict[str, object]]:
    """One group per width and group size: its patterns (`re:` on module names) and how its weights are stored."""
    groups: dict[tuple[int, int], list[str]] = {}
    for bank, bits in request.allocation.by_side().items():
        for width, size, pattern in patterns(bank, bits, shapes[bank], request.group_size):
            if width != UNTOUCHED:
                groups.setdefault((width, size), []).append(f"re:{pattern}")
    return {
        f"group_{number}": {"targets": targets, "weights": weight_arguments(width, size, request.symmetric)}
        for number, ((width, size), targets) in enumerate(sorted(groups.items()))
    }


def patterns(bank: str, bits: np.ndarray, shape: BankShape, group_size: int) -> Iterator[tuple[int, int, str]]:
    """(width, group size, pattern) so that every matrix of the bank matches exactly one pattern; `bits` `[E, 2]`."""
    entrance = ("gate", "up") if shape.has_gate else ("up",)
    sides = ((entrance, shape.hidden, bits[:, 0]), (("down",), shape.intermediate, bits[:, 1]))
    for projections, channels, widths in sides:
        for width in np.unique(widths):
            experts = np.flatnonzero(widths == width)
            whose = r"\d+" if len(experts) == len(widths) else _either(map(str, experts))
            pattern = rf".*{_place(bank)}\.{whose}\.{_either(projections)}_proj$"
            yield int(width), group_length(channels, group_size), pattern


def _place(bank: str) -> str:
    """From the layer's number on: vLLM calls what stands before it otherwise than transformers, and patterns are never
    renamed."""
    found = re.search(r"(?<![^.])layers\.\d+\..+$", bank)
    return rf"(?<![^.]){re.escape(found[0])}" if found else re.escape(bank)


def _either(names: Iterable[str]) -> str:
    return f"({'|'.join(names)})"


def weight_arguments(bits: int, group_size: int, symmetric: bool) -> dict[str, object]:
    """compressed-tensors' QuantizationArgs for weights."""
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": symmetric,
        "strategy": "group",
        "group_size": group_size,
        "dynamic": False,
    }


def _settings(groups: dict[str, dict[str, object]], ignored: list[str]) -> dict[str, object]:
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            name: group | {"input_activations": None, "output_activations": None, "format": "pack-quantized"}
            for name, group in groups.items()
        },
        "ignore": ignored,
        "kv_cache_scheme": None,
    }
