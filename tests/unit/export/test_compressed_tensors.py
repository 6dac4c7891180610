"""compressed-tensors' own decompressor on our files, and what stock transformers makes of them."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from mode_core.allocation.records import Allocation
from mode_core.export import TARGETS, ExportError, export
from mode_core.export.compressed_tensors import check_groups, common_group
from mode_core.export.mlx import mlx_group
from mode_core.models import ensure_torchvision
from mode_core.quantization import quantize_experts
from mode_core.statistics import BankShape
from tests.conftest import packable_allocation

ensure_torchvision()  # compressed-tensors imports transformers' models
compressors = pytest.importorskip("compressed_tensors.compressors", reason="compressed-tensors is not installed")

GROUP, WIDTHS = 32, (2, 3, 4, 5, 6, 8, 16)


def by_layer(loaded, widths: tuple[int, int]) -> Allocation:
    """One width for each of the two layers."""
    bits = {
        name: torch.full((bank.experts,), width).numpy()
        for (name, bank), width in zip(loaded.banks.items(), widths, strict=True)
    }
    return Allocation(bits, tuple(sorted(set(widths))), 0.0, 0.0, False, 0.0, 3.0, unit="layer")


def groups_for(settings: dict, module: str) -> list[dict]:
    """The config groups with a target that matches a module, each as often as it matches."""
    return [
        group
        for group in settings["config_groups"].values()
        for target in group["targets"]
        if re.match(target.removeprefix("re:"), module)
    ]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("target", ["compressed_tensors", "compressed_tensors_expert"])
def test_the_library_s_decompressor_gives_the_quantized_weights(packable_model, tmp_path, target, symmetric) -> None:
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme

    layered = target == "compressed_tensors"
    allocation = by_layer(packable_model, (3, 5)) if layered else packable_allocation(packable_model, WIDTHS)
    grid = {"group_size": GROUP, "symmetric": symmetric}
    export(target, allocation, tmp_path / "out", loaded=packable_model, **grid)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    QuantizationConfig.model_validate(settings)
    quantized = quantize_experts(packable_model, allocation, **grid)
    quantized.restore()
    compressor = compressors.PackedQuantizationCompressor
    for name, bank in packable_model.banks.items():
        for expert in range(bank.experts):
            for projection in bank.projections:
                module = f"{name}.{expert}.{projection}_proj"
                packed = quantized.packed.get((name, expert, projection))
                if packed is None:
                    assert module in settings["ignore"]
                    assert not groups_for(settings, module)
                    assert torch.equal(tensors[f"{module}.weight"], bank.matrix(projection, expert))
                    continue
                (group,) = groups_for(settings, module)
                assert group["weights"]["num_bits"] == packed.bits
                scheme = QuantizationScheme.model_validate(group)
                own = {k.removeprefix(f"{module}."): v for k, v in tensors.items() if k.startswith(f"{module}.")}
                found = compressor.decompress(own, scheme)["weight"]
                assert torch.equal(found, packed.dequantize(torch.float16)), module


# In a process of its own: it prints, for every expert matrix, whether stock transformers has the right weight.
STOCK = """
import sys, torch
from safetensors.torch import load_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float16).eval()
ids = torch.arange(10, 40)[None]
with torch.no_grad():
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
print("away", float((logits - load_file(sys.argv[2])["logits"]).abs().max()))
"""


@pytest.mark.xfail(strict=True, reason="transformers 5.23 loads files with several widths with wrong weights")
def test_stock_transformers_loads_a_file_with_several_widths(packable_model, tmp_path, forks) -> None:
    from safetensors.torch import save_file

    from mode_core.models import load_model

    allocation = by_layer(packable_model, (3, 5))
    export("compressed_tensors", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    ours = load_model(packable_model.source, device="cpu", dtype="float16")
    ids = torch.arange(10, 40)[None]
    with torch.no_grad(), quantize_experts(ours, allocation, group_size=GROUP):
        logits = ours.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    save_file({"logits": logits}, str(tmp_path / "logits.safetensors"))
    said = forks.run(STOCK, tmp_path / "out", tmp_path / "logits.safetensors")
    assert float(said.split()[-1]) < 5e-3


def test_patterns_match_the_names_of_both_engines(packable_model, tmp_path) -> None:
    allocation = by_layer(packable_model, (3, 5))
    export("compressed_tensors", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    for layer, width in ((0, 3), (1, 5)):
        for head in ("model.language_model", "language_model.model"):  # transformers', vLLM's
            (group,) = groups_for(settings, f"{head}.layers.{layer}.mlp.experts.5.down_proj")
            assert group["weights"]["num_bits"] == width
            assert not groups_for(settings, f"{head}.layers.1{layer}.mlp.experts.5.down_proj")
    with pytest.raises(ExportError, match="would differ in group size, which vLLM refuses; choose group size 32 or"):
        export("compressed_tensors", allocation, tmp_path / "other", loaded=packable_model, group_size=96)


def test_a_group_size_that_all_rows_share_by_hand() -> None:
    shapes = {"a": BankShape(0, 2, hidden=64, intermediate=96, top_k=1), "b": BankShape(1, 2, 64, 64, 1)}
    assert common_group(shapes, 32) == 32  # both rows hold whole groups of it
    assert common_group(shapes, 96) == common_group(shapes, -1) == 32  # rows of 64 and of 96
    assert mlx_group(shapes, 128) == mlx_group(shapes, -1) == 64 and mlx_group(shapes, 32) == 32
    check_groups(shapes, common_group(shapes, 128))  # which writing takes
    narrow = {"a": BankShape(0, 2, 24, 24, 1)}
    assert mlx_group(narrow, 16) == 16  # none fits; writing says so


def test_the_targets_name_what_breaks() -> None:
    assert "wrong weights" in TARGETS["compressed_tensors"].warning
    assert "No engine runs this" in TARGETS["compressed_tensors_expert"].warning
