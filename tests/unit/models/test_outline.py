"""A model without its weights, for every kind of family; and what is quantized already."""

import json
import shutil
import subprocess
import sys

import pytest

from mode_core.models import ModelError, OwnCodeError, find_banks, load_model
from mode_core.models.outline import outline
from mode_core.models.quantized import refuse_quantized
from tests.families.making import save_family

KINDS = {"native": "qwen3_vl_moe", "text only": "mixtral", "remote code": "kimi_vl", "adapter": "llama4"}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """One saved model of every kind of family."""
    folder = tmp_path_factory.mktemp("kinds")
    return {kind: save_family(family, folder / family) for kind, family in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_outline_is_the_model_without_its_weights(kinds, kind) -> None:
    trusted = {"trust_remote_code": kind == "remote code"}
    made, loaded = outline(kinds[kind], **trusted), load_model(kinds[kind], device="cpu", **trusted)
    assert all(parameter.is_meta for parameter in made.parameters())
    held = {name: (p.shape, p.dtype) for name, p in loaded.model.named_parameters()}
    assert {name: (p.shape, p.dtype) for name, p in made.named_parameters()} == held
    sizes = {name: (bank.experts, bank.hidden, bank.intermediate, bank.top_k) for name, bank in loaded.banks.items()}
    assert {n: (b.experts, b.hidden, b.intermediate, b.top_k) for n, b in find_banks(made).items()} == sizes


def test_weights_are_neither_read_nor_needed(kinds, tmp_path) -> None:
    folder = shutil.copytree(kinds["native"], tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors*"))
    assert find_banks(outline(folder))


def test_code_of_a_models_own_runs_only_with_leave(kinds) -> None:
    with pytest.raises(OwnCodeError, match="comes with Python code of its own"):
        outline(kinds["remote code"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"\(GPTQ, 4 bits\)"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"\(AWQ, 4 bits\)"),
        ({"quantization_config": {"load_in_4bit": True}}, r"\(bitsandbytes, 4 bits\)"),
        ({"text_config": {"quantization_config": {"quant_method": "mxfp4"}}}, r"\(MXFP4\)"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}},
         r"\(compressed-tensors, pack-quantized\)"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, r"\(compressed-tensors\)"),
    ],
)  # fmt: skip
def test_quantized_models_are_refused_in_one_sentence(settings, words) -> None:
    with pytest.raises(ModelError, match=rf"^Q/M-30B-GPTQ-Int4 is quantized already {words}; .*: Q/M-30B\.$"):
        refuse_quantized(settings, "Q/M-30B-GPTQ-Int4")


def test_what_is_not_quantized_or_can_be_read_passes() -> None:
    refuse_quantized({"model_type": "x", "quantization_config": None}, "m")
    refuse_quantized({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "m")


@pytest.mark.parametrize("name", ["M-7B-FP8", "M-7B-AWQ", "M-7B-bnb-4bit", "M-7B-FP8-dynamic", "M-7B-quantized.w4a16",
                                  "M-7B-NVFP4", "M-7B-int4-AutoRound", "M-7B-W4A16-G128", "M-7B-4bit"])  # fmt: skip
def test_the_original_is_the_name_without_its_ending(name) -> None:
    with pytest.raises(ModelError, match=r": M-7B\.$"):
        refuse_quantized({"quantization_config": {"quant_method": "x"}}, name)


def test_notes_and_cards_beside_a_configuration_count(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl_moe"}))
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "NVFP4"}}))
    with pytest.raises(ModelError, match=r"\(NVIDIA ModelOpt, NVFP4\).*: the model that it was made from"):
        outline(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\nbase_model:\n- Qwen/Original-30B\n---\n# Card\n")
    with pytest.raises(ModelError, match=r": Qwen/Original-30B\.$"):
        outline(tmp_path)


@pytest.mark.parametrize(("text", "words"), [("", "cannot be read as JSON"), ("[]", "describes no model"),
                                             ("{}", "describes no model"), ('{"a": [', "line 1 column"),
                                             (f'{{"architectures": [], "b": [{{"num_layers": {10**9}}}]}}',
                                              r"says num_layers = 1e\+09; no model has so many")])  # fmt: skip
def test_configurations_that_are_none(tmp_path, text, words) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=rf"config.json .*{words}"):
        outline(tmp_path)


def test_what_a_folder_without_a_configuration_is(tmp_path) -> None:
    for file, words in (("adapter_config.json", "is an adapter alone"), ("x-Q4_K_M.gguf", "holds a GGUF alone"),
                        ("pytorch_model.bin", "a pickle: opening one can run code"),
                        ("consolidated.safetensors", "in another tool's form alone")):  # fmt: skip
        folder = tmp_path / file
        folder.mkdir()
        (folder / file).write_text("{}")
        with pytest.raises(ModelError, match=words):
            outline(folder)


def test_errors_alone_do_not_wait_for_torch() -> None:
    check = "import sys; import mode_core.models.quantized, mode_core.models.folders; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
