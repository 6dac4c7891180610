"""GPTQModel's format without GPTQModel: tensors by an independent reader, and one rule for every module."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mode_core.export import ExportError, export
from mode_core.quantization import quantize_experts
from tests.conftest import packable_allocation
from tests.packed import read_matrix

GROUP, WIDTHS = 32, (2, 3, 4, 8, 16)


def rules_for(dynamic: dict, module: str) -> list[str]:
    """All patterns of `dynamic` that match a module, as GPTQModel matches them."""
    return [rule for rule in dynamic if re.match(rule[2:], module)]


@pytest.mark.parametrize("symmetric", [True, False])
def test_tensors_unpack_to_the_quantized_weights(packable_model, tmp_path, symmetric) -> None:
    allocation = packable_allocation(packable_model, WIDTHS)
    grid = {"group_size": GROUP, "symmetric": symmetric}
    export("gptqmodel", allocation, tmp_path / "out", loaded=packable_model, **grid)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert settings == json.loads((tmp_path / "out" / "quantize_config.json").read_text())
    assert settings["checkpoint_format"] == ("gptq" if symmetric else "gptq_v2")
    quantized = quantize_experts(packable_model, allocation, **grid)
    quantized.restore()
    for name, bank in packable_model.banks.items():
        for expert in range(bank.experts):
            for projection in bank.projections:
                module = f"{name}.{expert}.{projection}_proj"
                width = int(allocation.bits[name][expert, int(projection == "down")])
                (rule,) = rules_for(settings["dynamic"], module)
                if width == 16:
                    assert rule.startswith("-:")
                    assert torch.equal(tensors[f"{module}.weight"], bank.matrix(projection, expert))
                    continue
                assert settings["dynamic"][rule] == {"bits": width}
                expected = quantized.packed[name, expert, projection].dequantize().numpy()
                np.testing.assert_array_equal(read_matrix(tensors, module, width, symmetric), expected)
                groups = np.arange(expected.shape[1]) // GROUP
                np.testing.assert_array_equal(tensors[f"{module}.g_idx"].numpy(), groups)
    layers = [n for n, m in packable_model.model.named_modules() if isinstance(m, torch.nn.Linear)]
    for module in layers:
        (rule,) = rules_for(settings["dynamic"], module)
        assert rule.startswith("-:")


def test_the_settings_alone_name_every_expert_once(packable_model, tmp_path) -> None:
    allocation = packable_allocation(packable_model, WIDTHS)
    export("gptqmodel_config", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    settings = json.loads((tmp_path / "out" / "quantize_config.json").read_text())
    assert settings["bits"] == 4  # attention; the router is never quantized by GPTQModel
    for name, bits in allocation.bits.items():
        for expert, (entrance, exit_) in enumerate(bits.tolist()):
            for projection, width in (("gate", entrance), ("up", entrance), ("down", exit_)):
                (rule,) = rules_for(settings["dynamic"], f"{name}.{expert}.{projection}_proj")
                assert settings["dynamic"][rule] == ({} if width == 16 else {"bits": width})
                assert rule.startswith("-:" if width == 16 else "+:")
    assert not rules_for(settings["dynamic"], "model.language_model.layers.0.self_attn.q_proj")


def test_refusals(packable_model, tmp_path) -> None:
    with pytest.raises(ExportError, match="no 5-bit experts"):
        export("gptqmodel", packable_allocation(packable_model, (5,)), tmp_path / "out", loaded=packable_model)
    with pytest.raises(ExportError, match="multiples of 32 and of the group size"):
        allocation = packable_allocation(packable_model, (2, 3))
        export("gptqmodel", allocation, tmp_path / "out", loaded=packable_model, group_size=64)
    assert list(tmp_path.iterdir()) == []
