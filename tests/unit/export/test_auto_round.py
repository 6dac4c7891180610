"""AutoRound's format: read by plain loops over bits, and, where the package is installed, by stock transformers."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mode_core.export import ExportError, export
from mode_core.export.auto_round import WIDTHS
from mode_core.export.shards import INDEX, ShardWriter
from mode_core.quantization import quantize_experts
from tests.conftest import packable_allocation
from tests.packed import read_matrix

GROUP = 32


@pytest.fixture(scope="module")
def loaded(packable_model):
    return packable_model


def last_bank_at_3(allocation):
    """The same with one width for the last bank, which then has an entry of its own."""
    *_, last = allocation.bits
    return replace(allocation, bits=allocation.bits | {last: np.full_like(allocation.bits[last], 3)})


@pytest.mark.parametrize("symmetric", [True, False])
def test_tensors_unpack_to_the_quantized_weights(loaded, tmp_path, symmetric) -> None:
    allocation = last_bank_at_3(packable_allocation(loaded, WIDTHS))
    result = export("auto_round", allocation, tmp_path / "out", loaded=loaded, group_size=GROUP, symmetric=symmetric)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    quantized = quantize_experts(loaded, allocation, group_size=GROUP, symmetric=symmetric)
    quantized.restore()
    modules = set()
    for name, bank in loaded.banks.items():
        for expert in range(bank.experts):
            for projection in bank.projections:
                module = f"{name}.{expert}.{projection}_proj"
                modules.add(module)
                width = int(allocation.bits[name][expert, int(projection == "down")])
                assert settings["extra_config"][module]["bits"] == width
                if width == 16:
                    assert torch.equal(tensors[f"{module}.weight"], bank.matrix(projection, expert))
                    continue
                expected = quantized.packed[name, expert, projection].dequantize().numpy()
                np.testing.assert_array_equal(read_matrix(tensors, module, width, symmetric), expected)
    *_, last = allocation.bits
    assert settings["extra_config"].keys() == {*modules, last}
    assert settings["extra_config"][last]["bits"] == 3
    told = " ".join(result.manifest["notes"])
    assert "one width and group size for all matrices of a layer, silently the" in told
    assert ("refuses zero points" in told) == (not symmetric)
    stored = {name.rsplit(".", 1)[0] for name in tensors if ".experts." in name}
    assert stored == modules
    others = {name for name, _ in loaded.model.named_parameters() if ".experts." not in name}
    assert others <= set(tensors)


# In a process of its own: auto-round changes how transformers reads this family for the rest of the process.
# What a layer computes for unit vectors is its weight, transposed. float16 is the type that auto-round computes in
# (a model loaded in float32 it turns to float16).
STOCK = """
import sys, torch
from safetensors.torch import save_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
from transformers import AutoModelForImageTextToText
found = {}
for number, folder in enumerate(sys.argv[2:]):
    for dtype in (torch.float16, torch.bfloat16)[: 1 + (number == 0)]:
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        with torch.no_grad():
            if dtype == torch.float16:
                for name, layer in model.named_modules():
                    if ".experts." in name and name.endswith("_proj"):
                        width = getattr(layer, "infeatures", None) or layer.in_features
                        found[f"{number} {name}"] = layer(torch.eye(width, dtype=dtype)).T.contiguous()
                        found[f"{number} {name}.bits"] = torch.tensor(getattr(layer, "bits", 16))
            ids = torch.arange(10, 40)[None]
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
            found[f"{number} {dtype}"] = logits
save_file(found, sys.argv[1])
"""


def logits(model) -> torch.Tensor:
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()


@pytest.mark.skipif(
    importlib.util.find_spec("auto_round") is None, reason="the optional package auto-round is not installed"
)
def test_stock_transformers_loads_the_right_weights(loaded, tiny_samples, tmp_path, forks) -> None:
    """With and without zero points, and of a rotated model."""
    from mode_core.export.rotated import write_rotated
    from mode_core.models import load_model

    write_rotated(load_model(loaded.source, device="cpu", dtype="float32"), tmp_path / "rotated", tiny_samples)
    allocation, rotated = last_bank_at_3(packable_allocation(loaded, WIDTHS)), load_model(tmp_path / "rotated")
    cases = [(model, {"group_size": GROUP, "symmetric": model is not loaded or turn})
             for model, turn in ((loaded, True), (loaded, False), (rotated, True))]  # fmt: skip
    folders = [str(tmp_path / str(number)) for number in range(len(cases))]
    for folder, (model, grid) in zip(folders, cases, strict=True):
        export("auto_round", allocation, folder, loaded=model, **grid)
    forks.run(STOCK, tmp_path / "found.safetensors", *folders)
    found = load_file(tmp_path / "found.safetensors")
    for number, (model, grid) in enumerate(cases):
        ours = load_model(model.source, device="cpu", dtype="float16")
        plain = logits(ours.model)
        with quantize_experts(ours, allocation, **grid):
            away = (found.pop(f"{number} torch.float16") - logits(ours.model)).abs().max()
            for name, bank in ours.banks.items():
                for projection in bank.projections:
                    for expert in range(bank.experts):
                        module = f"{name}.{expert}.{projection}_proj"
                        width = allocation.bits[name][expert, int(projection == "down")]
                        assert found.pop(f"{number} {module}.bits") == width
                        assert torch.equal(found.pop(f"{number} {module}"), bank.matrix(projection, expert)), module
            damage = (logits(ours.model) - plain).abs().max()
        print(f"float16: {away:.5f} (quantizing changed them by {damage:.2f})")
        assert away < 5e-3
    with quantize_experts(loaded, allocation, **cases[0][1]):
        apart = (found.pop("0 torch.bfloat16") - logits(loaded.model)).abs().max()
    print(f"bfloat16: {apart:.5f}")
    # bfloat16 has 8 bits of precision: sums in another order differ by more, and far less than wrong weights would
    assert apart < 0.05 * damage
    assert not found


def test_from_the_checkpoint_s_folder_the_same_files_come_out(loaded, tmp_path) -> None:
    allocation = packable_allocation(loaded, WIDTHS)
    export("auto_round", allocation, tmp_path / "whole", loaded=loaded, group_size=GROUP)
    export("auto_round", allocation, tmp_path / "read", checkpoint=loaded.source, group_size=GROUP)
    one, other = (load_file(tmp_path / place / "model.safetensors") for place in ("whole", "read"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    settings = [
        json.loads((tmp_path / p / "config.json").read_text())["quantization_config"] for p in ("whole", "read")
    ]
    assert settings[0] == settings[1]


def test_a_file_for_vllm_names_its_banks_where_one_entry_holds_for_all(loaded, tmp_path) -> None:
    bits = {name: np.full(bank.experts, 2 + number) for number, (name, bank) in enumerate(loaded.banks.items())}
    allocation = replace(packable_allocation(loaded, WIDTHS, by_projection=False), bits=bits)
    result = export("auto_round", allocation, tmp_path / "out", loaded=loaded, group_size=GROUP)
    entries = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]["extra_config"]
    assert {name: entries[name]["bits"] for name in bits} == {name: own[0] for name, own in bits.items()}
    assert not any("vLLM" in note for note in result.manifest["notes"])
    wide = export(
        "auto_round", allocation, tmp_path / "wide", loaded=loaded, group_size=96
    )  # 64 columns: shorter groups
    entries = json.loads((tmp_path / "wide" / "config.json").read_text())["quantization_config"]["extra_config"]
    assert not entries.keys() & bits.keys()
    assert any("group size that fits gate, up and down" in note for note in wide.manifest["notes"])


def test_refusals(loaded, tiny_model, tmp_path) -> None:
    with pytest.raises(ExportError, match="no 1-bit experts"):
        export("auto_round", packable_allocation(loaded, (1, 2)), tmp_path / "out", loaded=loaded)
    with pytest.raises(ExportError, match="24 × 64; this format needs both to be multiples of 32"):
        export("auto_round", packable_allocation(tiny_model, (2, 3)), tmp_path / "out", loaded=tiny_model)
    assert list(tmp_path.iterdir()) == []


def test_shards_read_back_through_their_index(tmp_path) -> None:
    kinds = (torch.float32, torch.bfloat16, torch.int32, torch.uint8, torch.float16, torch.int64, torch.uint32)
    tensors = {f"tensor.{n}": torch.full((101,), n + 1).to(kind) for n, kind in enumerate(kinds)}
    tensors["one number"] = torch.tensor(3.5)
    writer = ShardWriter(tmp_path, limit=900)
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    writer.close()
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    assert len({*index["weight_map"].values()}) > 2
    for file in {*index["weight_map"].values()}:
        held = load_file(tmp_path / file)
        assert set(held) == {name for name, place in index["weight_map"].items() if place == file}
        for name, tensor in held.items():
            assert tensor.dtype == tensors[name].dtype
            assert torch.equal(tensor, tensors[name])
    assert not list(tmp_path.glob("*.part"))
