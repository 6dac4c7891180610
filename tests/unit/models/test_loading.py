"""Loading a model folder, and what is said where it is none."""

import json
import shutil

import pytest

from mode_core.models import ModelError, load_model


@pytest.fixture
def copy(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "copy")


def test_what_a_loaded_model_has(tiny_model, tiny_model_folder):
    assert tiny_model.name == "tiny-qwen3-vl-moe" and tiny_model.source == str(tiny_model_folder)
    assert list(tiny_model.banks) == [f"model.language_model.layers.{n}.mlp.experts" for n in (0, 2)]
    bank = tiny_model.banks["model.language_model.layers.2.mlp.experts"]
    assert (bank.layer, bank.experts, bank.hidden, bank.intermediate, bank.top_k) == (2, 8, 64, 24, 2)
    assert not tiny_model.model.training and tiny_model.device.type == "cpu"


def test_revision_follows_weights_and_configuration(copy, tiny_model):
    assert load_model(copy, device="cpu").revision == tiny_model.revision
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"note": 1}))
    changed = load_model(copy, device="cpu").revision
    (copy / "config.json").write_text(json.dumps(config))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert len({tiny_model.revision, changed, load_model(copy, device="cpu").revision}) == 3


def test_dtype_is_as_asked(copy):
    import torch

    assert load_model(copy, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("nowhere/at/all", {}, "There is no folder nowhere/at/all"),
        ("", {"dtype": "int3"}, "dtype must be auto, float32"),
        ("", {"device": "warp"}, "device 'warp' cannot be used"),
    ],
)
def test_wrong_arguments(source, options, text, tiny_model_folder):
    with pytest.raises(ModelError, match=text):
        load_model(source or tiny_model_folder, **options)


def test_folders_that_are_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"without config.json \(it holds: notes.txt\)"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="is a file; a model is a folder"):
        load_model(tmp_path / "notes.txt")


def test_missing_and_damaged_parts(copy):
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:200])
    with pytest.raises(ModelError, match=r"The model of .*copy cannot be loaded"):
        load_model(copy, device="cpu")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"The model of .*copy cannot be loaded"):
        load_model(copy, device="cpu")
    for path in copy.glob("*processor_config.json"):
        path.unlink()
    with pytest.raises(ModelError, match="processor"):
        load_model(copy, device="cpu")
