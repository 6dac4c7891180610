"""Recipes for other quantizers: every expert's every matrix in exactly one rule, taken by the libraries' classes."""

import dataclasses
import json
import re

import pytest

from mode_core.export import ExportError, export
from mode_core.models import ensure_torchvision
from tests.conftest import packable_allocation

GROUP, WIDTHS = 32, (2, 3, 4, 5, 6, 8, 16)


def matrices(allocation, loaded):
    """(module name, width) of every matrix, by a loop of its own."""
    for name, bank in loaded.banks.items():
        for expert in range(bank.experts):
            for projection in bank.projections:
                width = int(allocation.bits[name][expert, int(projection == "down")])
                yield f"{name}.{expert}.{projection}_proj", width


def recipe_of(path) -> dict:
    """The recipe without its comments (it is JSON, which YAML includes)."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    return json.loads(text)["quantization_stage"]["quantization_modifiers"]["GPTQModifier"]


def test_layer_config_has_one_entry_for_every_matrix(packable_model, tmp_path) -> None:
    allocation = packable_allocation(packable_model, WIDTHS)
    export("auto_round_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    entries = json.loads((tmp_path / "out" / "layer_config.json").read_text())
    expected = dict(matrices(allocation, packable_model))
    assert {module: entry["bits"] for module, entry in entries.items()} == expected
    compile((tmp_path / "out" / "quantize.py").read_text(), "quantize.py", "exec")


def test_auto_round_s_own_class_takes_every_entry(packable_model, tmp_path) -> None:
    ensure_torchvision()
    schemes = pytest.importorskip("auto_round.schemes", reason="auto-round is not installed")
    allocation = packable_allocation(packable_model, WIDTHS)
    export("auto_round_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    known = set(schemes.QuantizationScheme.get_attributes())
    for entry in json.loads((tmp_path / "out" / "layer_config.json").read_text()).values():
        scheme = schemes.QuantizationScheme.from_dict(entry)
        assert set(entry) <= known
        assert {key: getattr(scheme, key) for key in entry} == entry


def test_every_matrix_is_matched_by_one_pattern_of_the_recipe(packable_model, tmp_path) -> None:
    allocation = packable_allocation(packable_model, WIDTHS)
    export("llm_compressor_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    groups = recipe_of(tmp_path / "out" / "recipe.yaml")["config_groups"]
    for module, width in matrices(allocation, packable_model):
        held = [
            group["weights"]["num_bits"]
            for group in groups.values()
            for target in group["targets"]
            if re.match(target.removeprefix("re:"), module)
        ]
        assert held == ([] if width == 16 else [width])
    others = "model.language_model.layers.0.self_attn.q_proj"
    assert not any(re.match(t.removeprefix("re:"), others) for g in groups.values() for t in g["targets"])


def test_compressed_tensors_own_classes_read_every_group(packable_model, tmp_path) -> None:
    ensure_torchvision()
    quantization = pytest.importorskip("compressed_tensors.quantization", reason="compressed-tensors is not installed")
    allocation = packable_allocation(packable_model, WIDTHS)
    export("llm_compressor_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    for group in recipe_of(tmp_path / "out" / "recipe.yaml")["config_groups"].values():
        scheme = quantization.QuantizationScheme.model_validate(group)
        assert scheme.weights.num_bits == group["weights"]["num_bits"]


def test_a_recipe_needs_shapes(packable_model, tmp_path) -> None:
    allocation = dataclasses.replace(packable_allocation(packable_model, WIDTHS))
    with pytest.raises(ExportError, match="give the run or the model"):
        export("llm_compressor_recipe", allocation, tmp_path / "out")


def test_the_recipe_has_one_group_size_for_a_layer(packable_model, tmp_path) -> None:
    allocation = packable_allocation(packable_model, WIDTHS)
    with pytest.raises(ExportError, match="would differ in group size, which vLLM refuses; choose group size 32 or"):
        export("llm_compressor_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=96)


@pytest.mark.parametrize("head", ["model.language_model", "language_model.model"])  # transformers', vLLM's
def test_patterns_of_the_recipe_match_the_names_of_both_engines(packable_model, tmp_path, head) -> None:
    allocation = packable_allocation(packable_model, WIDTHS)
    export("llm_compressor_recipe", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    groups = recipe_of(tmp_path / "out" / "recipe.yaml")["config_groups"].values()
    for module, width in matrices(allocation, packable_model):
        name = module.replace("model.language_model", head)
        held = [g["weights"]["num_bits"] for g in groups for t in g["targets"] if re.match(t.removeprefix("re:"), name)]
        assert held == ([] if width == 16 else [width]), name
