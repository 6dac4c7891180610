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
    narrow = {module: entry["group_size"] for module, entry in entries.items() if "group_size" in entry}
    assert set(narrow.values()) == {GROUP}
    export("auto_round_recipe", allocation, tmp_path / "wide", loaded=packable_model, group_size=64)
    entries = json.loads((tmp_path / "wide" / "layer_config.json").read_text())
    groups = {m.rsplit(".", 1)[1]: e["group_size"] for m, e in entries.items() if "group_size" in e}
    assert groups == {"gate_proj": 64, "up_proj": 64, "down_proj": 32}  # rows of 64 and of 96


def test_auto_round_s_script_has_what_it_needs(packable_model, tiny_samples, tmp_path) -> None:
    """Widths at the top that it packs, everything but routed experts at 16, a guard, and the samples as chats."""
    allocation = packable_allocation(packable_model, WIDTHS)
    out = tmp_path / "out"
    result = export("auto_round_recipe", allocation, out, loaded=packable_model, group_size=GROUP, samples=tiny_samples)
    assert not result.manifest["notes"]
    script = {"__name__": "read", "__file__": str(out / "quantize.py")}
    exec((out / "quantize.py").read_text(), script)  # the guard keeps it from running
    assert script["TOP"]["bits"] in (2, 3, 4, 5, 6, 8) and script["TOP"]["group_size"] == GROUP
    (pattern,) = script["BESIDE"]
    for name, matched in (
        ("model.language_model.layers.0.mlp.experts.3.up_proj", False),
        ("model.language_model.layers.0.self_attn.q_proj", True),
        ("model.language_model.layers.1.mlp.shared_expert.up_proj", True),
    ):
        assert bool(re.search(pattern, name)) is matched
    chats = script["chats"](out / "calibration.json", True)
    assert len(chats) == len(tiny_samples)
    for chat, sample in zip(chats, tiny_samples, strict=True):
        pictures = [part["image"] for turn in chat for part in turn["content"] if part["type"] == "image"]
        assert [picture.size for picture in pictures] == [source.load().size for source in sample.images]
        assert chat[-1] == {"role": "assistant", "content": [{"type": "text", "text": sample.answer}]}
    assert script["chats"](out / "calibration.json", False)[0][-1] == {"role": "assistant", "content": "red"}
    bare = export("auto_round_recipe", allocation, tmp_path / "bare", loaded=packable_model, group_size=GROUP)
    assert "calibration.json is missing" in bare.manifest["notes"][0]
    assert not (tmp_path / "bare" / "calibration.json").exists()


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
