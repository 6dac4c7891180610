"""AutoRound's format of other families: stock transformers gives every expert its bits, and our logits."""

import copy
import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file

from mode_core.export import ExportError, export
from mode_core.export.auto_round import FAMILIES, WIDTHS
from mode_core.export.checkpoint import check_family
from mode_core.quantization import quantize_experts
from tests.conftest import packable_allocation
from tests.families import configs, making

GROUP = 32
NAMES = ("internvl_qwen3_moe", "glm4v_moe")
STOCK = """
import json, sys, torch
from safetensors.torch import save_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
from transformers import AutoModelForImageTextToText
logits, bits, ids = {}, {}, torch.arange(10, 40)[None]
for folder in sys.argv[2:]:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float16).eval()
    layers = {name: layer for name, layer in model.named_modules() if ".experts." in name and hasattr(layer, "bits")}
    bits[folder] = {name: int(layer.bits) for name, layer in layers.items()}
    with torch.no_grad():
        logits[folder] = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
save_file(logits, sys.argv[1], metadata={"bits": json.dumps(bits)})
"""


def wide_enough(arguments: dict) -> dict:
    """A family's tiny configuration with experts of 96, which fill whole words."""
    return {
        key: wide_enough(value) if isinstance(value, dict) else 96 if key == "moe_intermediate_size" else value
        for key, value in copy.deepcopy(arguments).items()
    }


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> dict:
    """Name → the family's random model in float16."""
    from mode_core.models import load_model

    loaded = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            model_type, arguments = configs.CONFIGS[name]
            patch.setitem(configs.CONFIGS, name, (model_type, wide_enough(arguments)))
            folder = tmp_path_factory.mktemp(name) / "model"
            making.make_model(name).bfloat16().save_pretrained(folder)
            making.PROCESSORS[name]().save_pretrained(folder)
            loaded[name] = load_model(folder, device="cpu", dtype="float16")
    return loaded


@pytest.mark.skipif(
    importlib.util.find_spec("auto_round") is None, reason="the optional package auto-round is not installed"
)
def test_stock_transformers_computes_what_the_quantized_model_computes(families, tmp_path, forks) -> None:
    from safetensors import safe_open

    allocations = {name: packable_allocation(loaded, WIDTHS) for name, loaded in families.items()}
    folders = {name: str(tmp_path / name) for name in families}
    for name, loaded in families.items():
        export("auto_round", allocations[name], folders[name], loaded=loaded, group_size=GROUP)
    found = tmp_path / "found.safetensors"
    forks.run(STOCK, found, *folders.values())
    with safe_open(str(found), framework="pt") as opened:
        told = json.loads(opened.metadata()["bits"])
    logits, ids = load_file(found), torch.arange(10, 40)[None]
    for name, loaded in families.items():
        expected = {
            f"{bank}.{expert}.{projection}_proj": int(allocations[name].bits[bank][expert, int(projection == "down")])
            for bank, held in loaded.banks.items()
            for expert in range(held.experts)
            for projection in held.projections
        }
        assert told[folders[name]] == {module: width for module, width in expected.items() if width != 16}
        with torch.no_grad(), quantize_experts(loaded, allocations[name], group_size=GROUP):
            ours = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
        assert (logits[folders[name]] - ours).abs().max() < 5e-3, name


def test_another_language_model_in_the_same_wrapper_is_refused() -> None:
    for family in FAMILIES:
        model_type, text = family.split("/")
        check_family({"model_type": model_type, "text_config": {"model_type": text}}, FAMILIES, "auto-round")
    with pytest.raises(ExportError, match="Loading of internvl with gpt_oss by auto-round was not proven"):
        config = {"model_type": "internvl", "text_config": {"model_type": "gpt_oss"}}
        check_family(config, FAMILIES, "auto-round")
