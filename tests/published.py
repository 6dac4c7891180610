"""The bundled model's folder as such models are really found, with files of other tools beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mode_core.export.shards import INDEX

Tensors = dict[str, torch.Tensor]
STRANGERS = ("consolidated.safetensors", "adapter_model.safetensors", "adapter_config.json", "optimizer.pt")
FUSED = ("experts.gate_up_proj", "experts.down_proj")


def resaved(loaded, folder: Path) -> Path:
    """A model as transformers 5 makes and saves it, with the companion files that it came with."""
    source = Path(loaded.source)
    _copy(source, folder, *(path.name for path in source.iterdir() if path.name != "model.safetensors"))
    loaded.model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].pop("norm_topk_prob", None)  # kept where it was read, but of no use to its own classes
    _write(folder / "config.json", config)
    return folder


def as_on_the_hub(source: Path, folder: Path) -> Path:
    """As Qwen3-VL-30B-A3B is published: experts in × out, companion files and configuration of transformers 4; and
    beside it what must not travel."""
    _copy(source, folder, "generation_config.json", "tokenizer.json")
    processor = json.loads((source / "processor_config.json").read_text())
    _write(folder / "preprocessor_config.json", processor["image_processor"] | {"processor_class": "Qwen3VLProcessor"})
    if "video_processor" in processor:
        video = processor["video_processor"] | {"processor_class": "Qwen3VLProcessor"}
        _write(folder / "video_preprocessor_config.json", video)
    _write(folder / "chat_template.json", {"chat_template": (source / "chat_template.jinja").read_text()})
    tokenizer = json.loads((source / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens", [])
    _write(folder / "tokenizer_config.json", tokenizer)
    config = json.loads((source / "config.json").read_text())
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    scaling = {"mrope_interleaved": True, "mrope_section": rope["mrope_section"], "rope_type": "default"}
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": scaling, "torch_dtype": "bfloat16"}
    text |= {"num_experts": text.pop("num_local_experts"), "norm_topk_prob": True}
    _write(folder / "config.json", config | {"transformers_version": "4.57.0"})
    save(turned(load_file(source / "model.safetensors")), folder / "model.safetensors")
    (folder / "LICENSE").write_text("Apache License\n")
    for name in STRANGERS:
        (folder / name).write_bytes(b"of another tool")
    save({"consolidated.weight": torch.ones(2)}, folder / "consolidated.safetensors")
    return folder


def in_shards(source: Path, folder: Path) -> Path:
    """The same companion files as the source; experts in × out, in three shards with an index."""
    _copy(source, folder, *(path.name for path in source.iterdir() if path.name != "model.safetensors"))
    tensors = turned(load_file(source / "model.safetensors"))
    names = sorted(tensors)
    places = {
        name: f"model-{number * 3 // len(names) + 1:05d}-of-00003.safetensors" for number, name in enumerate(names)
    }
    for file in sorted(set(places.values())):
        save({name: tensors[name] for name in names if places[name] == file}, folder / file)
    _write(folder / INDEX, {"metadata": {}, "weight_map": places})
    return folder


def with_experts_apart(source: Path, folder: Path) -> Path:
    """The source with a tensor for every expert's every matrix, as other tools unfuse them."""
    _copy(source, folder, *(path.name for path in source.iterdir() if path.name != "model.safetensors"))
    save(separate(load_file(source / "model.safetensors")), folder / "model.safetensors")
    return folder


def in_fp8(source: Path, folder: Path) -> Path:
    """Experts as block-scaled FP8 (32 × 32), a tensor for every expert's every matrix, as Qwen publishes it."""
    _copy(source, folder, *(path.name for path in source.iterdir() if path.name != "model.safetensors"))
    settings = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
    config = json.loads((source / "config.json").read_text())
    _write(folder / "config.json", config | {"quantization_config": settings})
    tensors: Tensors = {}
    for name, tensor in separate(load_file(source / "model.safetensors")).items():
        if ".experts." not in name:
            tensors[name] = tensor
            continue
        rows, columns = tensor.shape
        blocks = tensor.float().reshape(rows // 32, 32, columns // 32, 32)
        scale = blocks.abs().amax((1, 3), keepdim=True) / 448
        tensors[name] = (blocks / scale).reshape(rows, columns).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale[:, 0, :, 0]
    save(tensors, folder / "model.safetensors")
    return folder


def turned(tensors: Tensors) -> Tensors:
    """Fused experts with their last two axes changed."""
    return {name: tensor.mT if name.endswith(FUSED) else tensor for name, tensor in tensors.items()}


def separate(tensors: Tensors) -> Tensors:
    """Fused experts `[E, out, in]` as a tensor for every matrix."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        bank, _, part = name.rpartition(".")
        if not name.endswith(FUSED):
            found[name] = tensor
            continue
        for expert, matrix in enumerate(tensor):
            pieces = {"down_proj": matrix}
            if part == "gate_up_proj":
                pieces = dict(zip(("gate_proj", "up_proj"), matrix.chunk(2), strict=True))
            found |= {f"{bank}.{expert}.{piece}.weight": own for piece, own in pieces.items()}
    return found


def save(tensors: Tensors, path: Path) -> None:
    """A safetensors file; views are copied."""
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _copy(source: Path, folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / name, folder / name)


def _write(path: Path, record: object) -> None:
    path.write_text(json.dumps(record, indent=1))
