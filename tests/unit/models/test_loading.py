"""Loading a model folder, and what is said where it is none."""

import json
import re
import shutil

import pytest

from mode_core.models import VISION, ModelError, load_model
from mode_core.models.folders import cached_folder
from mode_core.models.loading import read_processor
from mode_core.samples import ImageSource, Sample, SampleError


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
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match=r"copy/model.safetensors is not a readable safetensors file .*get it anew"):
        load_model(copy, device="cpu")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"copy holds no safetensors weights of a model"):
        load_model(copy, device="cpu")
    (copy / "model.safetensors").write_bytes(weights)
    for path in copy.glob("*processor_config.json"):
        path.unlink()
    with pytest.raises(ModelError, match=r"neither preprocessor_config.json nor processor_config.json is there"):
        load_model(copy, device="cpu")
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"copy has no tokenizer_config.json, which names the control tokens"):
        load_model(copy, device="cpu")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"copy has no tokenizer \(looked for tokenizer.json"):
        load_model(copy, device="cpu")


def test_a_processor_without_the_weights(copy, tiny_model):
    (copy / "model.safetensors").unlink()
    processor, vision_ids, deaf = read_processor(copy)
    assert (
        type(processor) is type(tiny_model.processor) and vision_ids == tiny_model.vision_ids == (6, 7) and deaf == ()
    )


def test_a_model_that_reads_text_only(tmp_path):
    from tests.families.making import save_family

    folder = save_family("mixtral", tmp_path / "mixtral")
    loaded = load_model(folder, device="cpu")
    assert not loaded.reads_pictures and loaded.tokenizer is loaded.processor and not loaded.vision_ids
    tokenizer, vision_ids, _ = read_processor(folder)
    assert tokenizer.get_vocab() == loaded.tokenizer.get_vocab() and vision_ids == ()
    text = {"role": "user", "content": "is it red ?"}
    encoded = loaded.encode([Sample((), (text,), answer="yes", id="a")], answers=True)
    words = loaded.tokenizer.convert_ids_to_tokens(encoded.inputs["input_ids"][0][~encoded.template_mask[0]])
    assert words == ["is", "it", "red", "?", "yes"] and not (encoded.modality == VISION).any()
    seen = Sample((ImageSource("red.png", data=b""),), (text,), id="b")
    with pytest.raises(SampleError, match=r"Sample b has a picture \(red.png\), but this model reads text only"):
        loaded.encode([seen])


def test_code_that_comes_with_a_model_runs_only_when_trusted(tmp_path):
    from tests.families.making import save_family

    folder = save_family("kimi_vl", tmp_path / "kimi_vl")
    with pytest.raises(ModelError, match=r"kimi_vl comes with Python code of its own.*--trust-remote-code"):
        load_model(folder, device="cpu")
    with pytest.raises(ModelError, match="comes with Python code"):
        read_processor(folder)


@pytest.fixture
def hub(tiny_model_folder, tmp_path, monkeypatch):
    """A cache of the hub with one model in it, and no network; gives its snapshot."""
    from huggingface_hub import constants

    snapshot = tmp_path / "models--own--tiny" / "snapshots" / "0123abc"
    shutil.copytree(tiny_model_folder, snapshot)
    (tmp_path / "models--own--tiny" / "refs").mkdir()
    (tmp_path / "models--own--tiny" / "refs" / "main").write_text("0123abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_hub_id_is_found_in_the_cache(hub, tiny_model):
    loaded = load_model("own/tiny", device="cpu")
    assert (loaded.name, loaded.source, loaded.revision) == ("own/tiny", "own/tiny", "0123abc")
    assert loaded.banks.keys() == tiny_model.banks.keys()
    with pytest.raises(ModelError, match="The configuration of own/other cannot be loaded"):
        load_model("own/other", device="cpu")


def test_without_leave_to_fetch_only_a_whole_model_of_the_cache_is_read(hub, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)  # asked for nothing
    assert load_model("own/tiny", device="cpu", fetch=False).revision == "0123abc" and cached_folder("own/tiny") == hub
    with pytest.raises(ModelError, match=r"own/other is not on this machine\. Fetch it first: hf download own/other"):
        load_model("own/other", device="cpu", fetch=False)
    (hub / "model.safetensors").rename(hub / "model-00001-of-00002.safetensors")
    assert cached_folder("own/tiny") is None
    index, shards = hub / "model.safetensors.index.json", [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for text in ("{", "[]", json.dumps({"weight_map": dict(enumerate(shards))})):  # no index, none, one shard missing
        index.write_text(text)
        assert cached_folder("own/tiny") is None
    (hub / shards[1]).write_bytes(b"")
    assert cached_folder("own/tiny") == hub


def test_a_quantized_model_of_the_hub_is_refused_before_its_weights_are_fetched(hub, monkeypatch):
    import huggingface_hub

    asked, fetch = [], huggingface_hub.snapshot_download

    def noted(source, allow_patterns):
        asked.extend(allow_patterns)
        return fetch(source, allow_patterns=allow_patterns)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", noted)
    config = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq", "bits": 4}}))
    with pytest.raises(ModelError, match=r"own/tiny is quantized already \(AWQ, 4 bits\)"):
        load_model("own/tiny", device="cpu")
    assert asked and not [pattern for pattern in asked if "safetensors" in pattern or pattern == "*.py"]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("tokenizer.json", "{", "cannot be read as JSON"),
        ("tokenizer.json", "[]", "is not in the form that it should have"),
        ("tokenizer.json", "version https://git-lfs.github.com/spec/v1\nsize 1\n", "is a Git-LFS pointer"),
        ("generation_config.json", "[]", "is not in the form that it should have"),
    ],
)
def test_damaged_files_beside_the_weights(copy, file, text, words):
    (copy / file).write_text(text)
    with pytest.raises(ModelError, match=rf"{file} {words}"):
        load_model(copy, device="cpu")


def test_a_configuration_of_a_larger_model_is_refused_before_it_is_made_up(copy, monkeypatch):
    from mode_core.models import weight_loading

    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 40
    (copy / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(weight_loading.Arriving, "__getitem__", None)  # no weight is read
    with pytest.raises(ModelError, match=r"layers.39.* and \d+ more|tensors \(.*layers.1\d.* more\): missing"):
        load_model(copy, device="cpu")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (None, "no chat template"),
        (
            "{% for m in messages %}{{ m.role }}",
            "chat template of the model's processor is broken.*TemplateSyntaxError",
        ),
        ("{{ messages[0].content.nothing.there }}", "broken: a plain question cannot be written.*UndefinedError"),
        ("{{ 1 / 0 }}", "broken: a plain question cannot be written.*ZeroDivisionError"),
        ("{{ 'a' * 10000000000 }}", "template needs more than 1024 MB of memory to write one question"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "template needs more than 5 seconds to write one question",
        ),
    ],
)
def test_without_a_whole_template_it_is_said_before_a_run_is_begun(copy, tmp_path, capsys, template, text, monkeypatch):
    from mode_core.cli.main import main
    from mode_core.models import template_bounds

    trial = template_bounds._TRIAL.replace("RLIMIT_CPU, (5, 5)", "RLIMIT_CPU, (1, 1)")
    assert "(1, 1)" in trial
    monkeypatch.setattr(template_bounds, "_TRIAL", trial)
    (copy / "chat_template.jinja").unlink()
    if template is not None:
        (copy / "chat_template.jinja").write_text(template)
    command = ["calibrate", "--model", str(copy), "--limit", "1", "--out", str(tmp_path / "run"), "--quiet"]
    assert main(command) == 1
    assert re.search(text, capsys.readouterr().err) and not (tmp_path / "run").exists()
