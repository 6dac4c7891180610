"""A plain bfloat16 checkpoint whose expert weights are the values of the quantized codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.auto_round import in_bfloat16
from mode_core.export.folder import ExportError
from mode_core.export.request import Request

if TYPE_CHECKING:
    from torch import Tensor

SHARD = "4GB"


def write_dequantized(request: Request, folder: Path) -> None:
    """Quantize the loaded model's experts and save it whole, with its processor, as stock transformers does.

    It takes as much room as the original: this is for tools that evaluate, not for saving memory. Weights are
    written in bfloat16. Memory: a bfloat16 copy of the model where it is loaded in another type.

    Raises:
        ExportError: no model at hand.
    """
    if request.loaded is None:
        raise ExportError("The target 'dequantized' writes the model's weights and needs it loaded (loaded=…).")
    import torch

    from mode_core.quantization.apply import quantize_experts

    loaded = request.loaded
    with quantize_experts(
        loaded,
        request.allocation,
        request.method,
        request.group_size,
        request.symmetric,
        progress=request.progress,
        cancel=request.cancel,
    ):
        if loaded.model.dtype == torch.bfloat16:
            loaded.model.save_pretrained(folder, max_shard_size=SHARD)
        else:
            halved = {name: _halved(tensor) for name, tensor in loaded.model.state_dict().items()}
            loaded.model.save_pretrained(folder, state_dict=halved, max_shard_size=SHARD)
            _state_type(folder / "config.json")
    loaded.processor.save_pretrained(folder)


def _halved(tensor: Tensor) -> Tensor:
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


def _state_type(path: Path) -> None:
    """Say bfloat16 wherever the saved configuration names the type the model was loaded in."""

    config = in_bfloat16(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
