"""A checkpoint read piece by piece gives the very export that the loaded model gives."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mode_core.allocation.records import Allocation
from mode_core.export import ExportError, export
from mode_core.export.shards import INDEX
from mode_core.models import ModelError

GROUP = 32


def allocation_for(loaded, widths=(2, 3, 4, 16)) -> Allocation:
    draw = np.random.default_rng(6)
    bits = {name: draw.choice(widths, (bank.experts, 2)) for name, bank in loaded.banks.items()}
    return Allocation(bits, widths, 0.0, 0.0, False, 0.0, 5.0, unit="expert_projection")


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.fixture
def by_expert(tiny_model_folder, tmp_path) -> Path:
    """The same checkpoint with a tensor for every expert's every matrix, in several files with an index."""
    folder = tmp_path / "by-expert"
    shutil.copytree(tiny_model_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    split: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        bank, _, part = name.rpartition(".")
        if not bank.endswith(".experts"):
            split[name] = tensor
            continue
        for expert, matrix in enumerate(tensor):
            matrix = matrix.T if tensor.shape[1] in (64, 24) and part == "gate_up_proj" else matrix
            matrix = matrix.T if part == "down_proj" and matrix.shape[0] != 64 else matrix
            pieces = matrix.chunk(2) if part == "gate_up_proj" else (matrix,)
            names = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
            split |= {f"{bank}.{expert}.{n}.weight": m.contiguous() for n, m in zip(names, pieces, strict=True)}
    (folder / "model.safetensors").unlink()
    places = {}
    for number in range(3):
        own = dict(list(split.items())[number::3])
        save_file(own, str(folder / f"part-{number}.safetensors"))
        places |= dict.fromkeys(own, f"part-{number}.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def test_dequantized_from_the_folder_is_what_the_loaded_model_gives(tiny_model_folder, tiny_model, tmp_path) -> None:
    allocation = allocation_for(tiny_model)
    export("dequantized", allocation, tmp_path / "whole", loaded=tiny_model, group_size=GROUP)
    read = export("dequantized", allocation, tmp_path / "read", checkpoint=tiny_model_folder, group_size=GROUP)
    assert read.manifest["predicted_expert_bytes"] > 0
    one, other = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "read")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {"processor_config.json", "tokenizer.json"} <= set(read.manifest["files"])
    from transformers import AutoModelForImageTextToText, AutoProcessor

    AutoProcessor.from_pretrained(tmp_path / "read")
    AutoModelForImageTextToText.from_pretrained(tmp_path / "read")


def test_experts_in_tensors_of_their_own_are_read_alike(tiny_model, by_expert, tmp_path) -> None:
    allocation = allocation_for(tiny_model)
    export("dequantized", allocation, tmp_path / "whole", loaded=tiny_model, group_size=GROUP)
    export("dequantized", allocation, tmp_path / "read", checkpoint=by_expert, group_size=GROUP, shard_bytes=20_000)
    names = json.loads((tmp_path / "read" / INDEX).read_text())["weight_map"]
    assert len({*names.values()}) > 5
    found, expected = tensors_of(tmp_path / "read"), tensors_of(tmp_path / "whole")
    assert set(names) == found.keys() == expected.keys()  # fused, as the family is published
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_refusals(tiny_model, tiny_model_folder, by_expert, tmp_path) -> None:
    allocation = allocation_for(tiny_model)
    (by_expert / "part-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks the shard part-1\.safetensors"):
        export("dequantized", allocation, tmp_path / "out", checkpoint=by_expert)
    with pytest.raises(ExportError, match="looks at data, so it needs the model loaded"):
        export("dequantized", allocation, tmp_path / "out", checkpoint=tiny_model_folder, method="gptq")
    other = Allocation({"layers.0.x": np.array([3])}, (3,), 0.0, 0.0, False, 0.0, 3.0)
    with pytest.raises(ExportError, match="are of different models"):
        export("dequantized", other, tmp_path / "out", checkpoint=tiny_model_folder)
    with pytest.raises(ModelError, match="holds no safetensors weights"):
        empty = tmp_path / "empty"
        empty.mkdir()
        (empty / "config.json").write_text((tiny_model_folder / "config.json").read_text())
        export("dequantized", allocation, tmp_path / "out", checkpoint=empty)
    assert not (tmp_path / "out").exists()
