"""llm-compressor's own Recipe and GPTQModifier read the recipe."""

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


def test_the_recipe_is_read_by_its_own_classes(packable_model, tmp_path) -> None:
    python = python_with("llmcompressor", "llmcompressor==0.14.0.1")
    allocation = packable_allocation(packable_model, (2, 3, 4, 8, 16))
    export("llm_compressor_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=32)
    found = json.loads(run_in(python, READ, tmp_path / "out" / "recipe.yaml").splitlines()[-1])
    text = (tmp_path / "out" / "recipe.yaml").read_text()
    plain = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    groups = plain["quantization_stage"]["quantization_modifiers"]["GPTQModifier"]["config_groups"]
    assert found == {name: [group["weights"]["num_bits"], group["targets"]] for name, group in groups.items()}
