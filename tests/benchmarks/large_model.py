"""A made-up checkpoint with the shapes of Qwen3-VL-30B-A3B's layers, written layer by layer.

Hidden 2048, 128 experts of 768, top-8, 32 heads of 128 over 4 key heads: 1.21 GB of experts a layer in bfloat16, stored
as on the hub (`[E, in, out]`). Random weights; vision tower, vocabulary and processor are those of the bundled model.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

BUNDLED = Path(__file__).resolve().parents[2] / "sample_data" / "model"
SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_local_experts": 128,
    "num_experts_per_tok": 8,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "max_position_embeddings": 4096,
}
EXPERT_BYTES = 2 * 128 * 3 * 768 * 2048  # of one layer


def configuration(layers: int, **changes: int) -> dict:
    """The bundled model's configuration with a larger language model."""
    config = json.loads((BUNDLED / "config.json").read_text(encoding="utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    text |= SHAPE | {"num_hidden_layers": layers} | changes
    text["rope_parameters"] = {**text["rope_parameters"], "mrope_section": [24, 20, 20]}
    vision["out_hidden_size"] = text["hidden_size"]
    return config


def make(folder: Path, layers: int, seed: int = 0, **changes: int) -> int:
    """Write the checkpoint, one shard a layer and one for the rest, with `changes` of the text model's configuration;
    returns its bytes. Memory: one layer's experts."""
    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    for file in BUNDLED.iterdir():
        if file.suffix in (".json", ".jinja") and file.name not in ("config.json", "training.json"):
            shutil.copy(file, folder / file.name)
    config = configuration(layers, **changes)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    with torch.device("meta"):
        model = Qwen3VLMoeForConditionalGeneration(Qwen3VLMoeConfig.from_dict(config))
    shapes = {k: v.shape for k, v in model.state_dict().items() if k != "lm_head.weight"}
    draw, where, total = torch.Generator().manual_seed(seed), {}, 0
    for layer in (*range(layers), None):
        mark = f".layers.{layer}." if layer is not None else None
        mine = [k for k in shapes if (mark in k if mark else ".layers." not in k)]
        shard = f"model-{'rest' if layer is None else layer}.safetensors"
        tensors = {key: _drawn(key, shapes[key], draw) for key in mine}
        save_file(tensors, folder / shard, metadata={"format": "pt"})
        where |= dict.fromkeys(mine, shard)
        total += sum(tensor.nbytes for tensor in tensors.values())
        del tensors
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return total


def _drawn(key: str, shape: torch.Size, draw: torch.Generator) -> torch.Tensor:
    """Random weights in bfloat16; norms are ones, biases zeros, experts transposed as on the hub."""
    if len(shape) == 1:
        return torch.zeros(shape, dtype=torch.bfloat16) if key.endswith("bias") else torch.ones(shape).bfloat16()
    stored = (shape[0], shape[2], shape[1]) if ".experts." in key else tuple(shape)
    made = torch.empty(stored, dtype=torch.bfloat16)
    for part in made if len(stored) == 3 else (made,):
        part.copy_(torch.randn(part.shape, generator=draw) * 0.02)
    return made
