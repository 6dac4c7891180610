"""ExLlamaV3's own converter takes our recipes: it builds its model from a published folder, a rate for every tensor.

Seen with exllamav3 1.6.5. Its kernels (CUDA, Triton) are replaced by empty stand-ins, so nothing is quantized; what
runs are its reading of the configuration, its module tree, and `create_q_strategy_from_recipe`.
"""

import json
import shutil
from dataclasses import replace

import pytest
import yaml

from mode_core.export import export
from mode_core.quantization.settings import Quantizer
from mode_core.yaml_files import yaml_of
from tests.conftest import packable_allocation
from tests.parity.environments import python_with, run_in
from tests.unit.export.test_gguf_file import by_tensor

PACKAGES = ("exllamav3==1.6.5", "marisa_trie", "llguidance", "typing_extensions")
CODE = """\
import json, sys, types, yaml
from unittest.mock import MagicMock

for name in ("exllamav3_ext", "triton", "triton.language"):
    sys.modules[name] = MagicMock()
sys.modules["exllamav3.ext"] = types.SimpleNamespace(exllamav3_ext=MagicMock())
from exllamav3 import Config, Model
from exllamav3.conversion.allocation import create_q_strategy_from_recipe

config = Config.from_directory(sys.argv[1])
recipe = yaml.safe_load(open(sys.argv[2]))
rest = recipe["head_bits"], recipe["head_bits"]
try:
    given, average = create_q_strategy_from_recipe(Model.from_config(config), None, config, recipe["tensors"], *rest)
    print(json.dumps({"given": given, "average": average}))
except ValueError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def published(packable_model, tmp_path_factory):
    """The model's folder, with what the hub's says in the place of what transformers 5 saves."""
    folder = tmp_path_factory.mktemp("exl3") / "model"
    shutil.copytree(packable_model.source, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_experts"] = config["text_config"].pop("num_local_experts")
    config["vision_config"]["model_type"] = "qwen3_vl_moe"
    (folder / "config.json").write_text(json.dumps(config))
    pictures = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    pictures["image_processor_type"] = "Qwen2VLImageProcessorFast"
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    return folder


@pytest.mark.parametrize("target", ["exllamav3_recipe", "exllamav3_recipe_expert"])
def test_its_converter_takes_the_recipe(packable_model, published, tmp_path, target) -> None:
    python = python_with("exllamav3", *PACKAGES)
    one_for_all = target == "exllamav3_recipe"
    draw = by_tensor if one_for_all else packable_allocation
    allocation = replace(draw(packable_model, (3, 4, 8)), unit="projection" if one_for_all else "expert_projection")
    options = {"loaded": packable_model, "group_size": 32, "quantizer": Quantizer(attention_bits=5)}
    path = export(target, allocation, tmp_path / "out", **options).folder / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text())
    found = json.loads(run_in(python, CODE, published, path).splitlines()[-1])
    assert found["given"] == recipe["tensors"] | {"lm_head": 16} and len(recipe["tensors"]) > 40
    recipe["tensors"].popitem()
    path.write_text(yaml_of(recipe))
    assert "missing bitrates for 1 quantizable tensor" in json.loads(run_in(python, CODE, published, path))
