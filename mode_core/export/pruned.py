"""A plain checkpoint without the experts at width 0: fewer in every layer, and fewer rows in its router.

As REAP (arXiv 2510.13999) writes its own. The router's probabilities are over the experts that are left, so the tokens
of the others go to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.checkpoint import check_family, write_checkpoint
from mode_core.export.dequantized import values
from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.export.weights import Weights, open_weights
from mode_core.quantization.widths import DROPPED

if TYPE_CHECKING:
    from torch import Tensor

FAMILIES = {"qwen3_vl_moe": "Qwen3-VL-MoE", "qwen3_moe": "Qwen3-MoE"}  # a router's rows are `<layer>.mlp.gate.weight`


def write_pruned(request: Request, folder: Path) -> tuple[str, ...]:
    """Write the source again without the experts at width 0, the others at the values of their codes.

    Raises:
        ExportError: a family whose router is not known here, no expert to leave out, another number in each layer, or
            fewer left than a token visits.
    """
    weights = open_weights(request)
    check_family(weights.config, FAMILIES, "stock transformers without some of its experts")
    kept = {bank: np.flatnonzero(sides.any(axis=1)) for bank, sides in request.allocation.by_side().items()}
    count = _count(request, kept)
    text = weights.config.get("text_config", weights.config)
    told = {
        name: count for name in ("num_experts", "num_local_experts") if name in text
    }  # transformers 5 saves the second
    changes = {"text_config": {**text, **told}} if "text_config" in weights.config else told
    numbers = {bank: {int(old): new for new, old in enumerate(stay)} for bank, stay in kept.items()}
    notes = write_checkpoint(weights, folder, partial(values, kept=numbers), changes, partial(_others, kept=kept))
    return (*notes, f"{count} experts are left in each layer.")


def _count(request: Request, kept: Mapping[str, np.ndarray]) -> int:
    """How many experts are left in every bank."""
    shapes = request.shapes()
    left = {bank: len(stay) for bank, stay in kept.items()}
    if all(left[bank] == shapes[bank].experts for bank in left):
        raise ExportError("No expert has width 0, so there is none to leave out; use the target 'dequantized'.")
    if len(set(left.values())) > 1:
        most, least = max(left, key=left.__getitem__), min(left, key=left.__getitem__)
        raise ExportError(
            f"transformers has one number of experts for all layers, and {most} would have {left[most]}, {least} "
            f"{left[least]}; allocate with as many at width {DROPPED} in each: --at-least 0=N --at-most 0=N."
        )
    count, top_k = min(left.values()), max(shape.top_k for shape in shapes.values())
    if count < top_k:
        raise ExportError(f"{count} experts would be left in a layer, and a token visits {top_k}; leave fewer out.")
    return count


def _others(weights: Weights, kept: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Tensor]]:
    """What lies outside the experts, the routers with the rows of those that are left."""
    import torch

    routers = {f"{bank.rpartition('.')[0]}.gate.weight": bank for bank in kept}
    for name, tensor in weights.others():
        bank = routers.pop(weights.names[name], None)
        yield name, tensor if bank is None else tensor[torch.from_numpy(kept[bank])]
    if routers:
        raise ExportError(f"The checkpoint's files hold no router {next(iter(routers))}.")
