"""llm-compressor's own Recipe and GPTQModifier read the recipe, and its `oneshot` rounds every expert to its bits."""

import json

from mode_core.export import export
from tests.conftest import packable_allocation
from tests.parity.environments import python_with, run_in

READ = """
import json, sys
from mode_core.models import ensure_torchvision
ensure_torchvision()
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.recipe import Recipe
recipe = Recipe.create_instance(sys.argv[1])
(modifier,) = recipe.modifiers
assert isinstance(modifier, GPTQModifier), modifier
groups = modifier.resolve_quantization_config().config_groups
print(json.dumps({name: [group.weights.num_bits, group.targets] for name, group in groups.items()}))
"""

RUN = """
import json, sys, torch
from mode_core.models import ensure_torchvision
ensure_torchvision()
from llmcompressor import oneshot
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float32)
torch.manual_seed(0)
ids = torch.randint(10, 40, (16, 1, 24))
rows = [{"input_ids": each, "attention_mask": torch.ones_like(each)} for each in ids]
oneshot(model=model, dataset=torch.utils.data.DataLoader(rows, batch_size=None), recipe=sys.argv[2], pipeline="basic")
found, off = {}, 0.0
for name, module in model.named_modules():
    if isinstance(module, torch.nn.Linear):
        scheme = getattr(module, "quantization_scheme", None)
        found[name] = 16 if scheme is None else scheme.weights.num_bits
        if scheme is not None:
            codes = module.weight / module.weight_scale.repeat_interleave(32, dim=1)
            assert codes.abs().max() <= 2 ** (found[name] - 1) + 1e-3, name
            off = max(off, float((codes - codes.round()).abs().max()))
print(json.dumps({"bits": found, "off": off}))
"""
PACKAGES = ("llmcompressor==0.14.0.1",)


def test_oneshot_rounds_every_expert_to_its_bits(packable_model, tmp_path) -> None:
    python = python_with("llmcompressor", *PACKAGES)
    allocation = packable_allocation(packable_model, (2, 3, 4, 8, 16))
    export("llm_compressor_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=32)
    told = json.loads(run_in(python, RUN, packable_model.source, tmp_path / "out" / "recipe.yaml").splitlines()[-1])
    bits, right = told["bits"], 0
    for name, bank in packable_model.banks.items():
        for expert in range(bank.experts):
            for projection in bank.projections:
                width = int(allocation.bits[name][expert, int(projection == "down")])
                assert bits.pop(f"{name}.{expert}.{projection}_proj") == width
                right += 1
    print(f"{right} widths right; weights at most {told['off']:.2g} of a step off their grid")
    assert right == 36 and set(bits.values()) == {16} and told["off"] < 1e-3


def test_the_recipe_is_read_by_its_own_classes(packable_model, tmp_path) -> None:
    python = python_with("llmcompressor", *PACKAGES)
    allocation = packable_allocation(packable_model, (2, 3, 4, 8, 16))
    export("llm_compressor_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=32)
    found = json.loads(run_in(python, READ, tmp_path / "out" / "recipe.yaml").splitlines()[-1])
    text = (tmp_path / "out" / "recipe.yaml").read_text()
    plain = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    groups = plain["quantization_stage"]["quantization_modifiers"]["GPTQModifier"]["config_groups"]
    assert found == {name: [group["weights"]["num_bits"], group["targets"]] for name, group in groups.items()}
