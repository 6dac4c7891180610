"""Recipes for ExLlamaV3, against what its sources were read to check; nothing of it runs here (it needs CUDA)."""

import dataclasses
import re

import pytest
import yaml

from mode_core.export import ExportError, export
from mode_core.quantization.settings import Quantizer
from tests.conftest import packable_allocation

LAYERS, EXPERTS = 2, 6


def budgeted() -> set[str]:
    """What its Qwen3-VL-MoE budgets: four matrices of attention and three of every expert, by names spelt out."""
    place = "model.language_model.layers.{}."
    attention = {f"{place.format(n)}self_attn.{p}_proj" for n in range(LAYERS) for p in "qkvo"}
    experts = [f"mlp.experts.{e}.{p}_proj" for e in range(EXPERTS) for p in ("gate", "up", "down")]
    return attention | {place.format(n) + expert for n in range(LAYERS) for expert in experts}


def taken(record: dict) -> bool:
    """As its converter takes a recipe: whole rates of 1 to 8 or 16, some rate to report, all that is budgeted."""
    rates = record["tensors"].values()
    whole = all(type(rate) is int and (1 <= rate <= 8 or rate == 16) for rate in rates)
    return whole and bool(record["target_bpw"]) and set(record["tensors"]) == budgeted()


@pytest.mark.parametrize("target", ["exllamav3_recipe", "exllamav3_recipe_expert"])
def test_both_files_hold_the_bits(packable_model, tmp_path, target) -> None:
    fine = packable_allocation(packable_model, (3, 4, 8))
    one = {bank: bits[:1].repeat(len(bits), axis=0) for bank, bits in fine.bits.items()}
    coarse = dataclasses.replace(fine, bits=one, unit="projection")
    allocation = coarse if target == "exllamav3_recipe" else fine
    export(target, allocation, tmp_path / "out", loaded=packable_model, quantizer=Quantizer(attention_bits=5))
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    override = yaml.safe_load((tmp_path / "out" / "override.yaml").read_text())
    assert taken(recipe) and recipe["head_bits"] == 16
    sources = {source["id"]: source["model_dir"] for source in override["sources"]}
    for module, rate in recipe["tensors"].items():
        found = re.fullmatch(r"(.+)\.(\d+)\.(gate|up|down)_proj", module)
        if not found:
            assert rate == 5
            continue
        assert rate == allocation.bits[found[1]][int(found[2]), int(found[3] == "down")]
        tensor = f"{module}.trellis"  # `*` is its only wildcard
        held = [sources[o["source"]] for o in override["overrides"]
                if re.fullmatch(".*".join(map(re.escape, o["key"].split("*"))), tensor)]  # fmt: skip
        assert held == [f"MODEL-exl3-{rate}bit"]
    if allocation is coarse:
        assert len(override["overrides"]) == LAYERS * 3


def test_what_it_cannot_have_is_told(packable_model, tiny_model, tmp_path) -> None:
    allocation = packable_allocation(packable_model, (3, 16))
    result = export("exllamav3_recipe_expert", allocation, tmp_path / "out", loaded=packable_model)
    assert "override.yaml is left out" in result.manifest["notes"][0] and "fast path" in result.manifest["warning"]
    assert not (tmp_path / "out" / "override.yaml").exists()
    dense = packable_allocation(tiny_model, (3, 4))
    with pytest.raises(ExportError, match="experts in every layer of this family, and this model has dense ones"):
        export("exllamav3_recipe_expert", dense, tmp_path / "dense", loaded=tiny_model)
    with pytest.raises(ExportError, match="needs the model's folder, and none is none here"):
        export("exllamav3_recipe_expert", allocation, tmp_path / "bare")
