"""A plain bfloat16 checkpoint whose expert weights are the values of the quantized codes."""

from __future__ import annotations

import json
from pathlib import Path

from mode_core.export.request import Request
from mode_core.export.shards import ShardWriter
from mode_core.export.weights import LoadedWeights, in_bfloat16, naming_bfloat16, open_weights, write_config


def write_dequantized(request: Request, folder: Path) -> None:
    """Save the whole model, its experts at the values of their codes, as stock transformers would.

    It takes as much room as the original: this is for tools that evaluate, not for saving memory. Weights are
    written in bfloat16. Memory: from a loaded model, a bfloat16 copy of it where it is loaded in another type; from
    a checkpoint's folder, one bank in bfloat16.

    Raises:
        ExportError: no model at hand.
    """
    with open_weights(request) as weights:
        if isinstance(weights, LoadedWeights):
            _save_loaded(request, folder)
        else:
            writer = ShardWriter(folder, request.shard_bytes)
            for tensors in (weights.others(), weights.replaced()):
                for name, tensor in tensors:
                    writer.add(name, tensor)
            writer.close()
            write_config(folder, weights.config())
        weights.companions(folder)


def _save_loaded(request: Request, folder: Path) -> None:
    """As transformers saves it, which knows each family's names on the disk."""
    import torch

    model = request.loaded.model
    if model.dtype == torch.bfloat16:
        model.save_pretrained(folder, max_shard_size=request.shard_bytes)
        return
    halved = {name: in_bfloat16(tensor) for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=halved, max_shard_size=request.shard_bytes)
    path = folder / "config.json"
    write_config(folder, naming_bfloat16(json.loads(path.read_text(encoding="utf-8"))))
