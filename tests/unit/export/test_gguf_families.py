"""Families of the GGUF file beyond Qwen3-VL-MoE: llama.cpp opens a tiny random model of each and answers as it does."""

import numpy as np
import pytest
import torch

from mode_core.export import export
from mode_core.models import ensure_torchvision, load_model
from tests.families.configs import EYES, TEXT
from tests.families.processors import PROCESSORS
from tests.families.words import IMAGE
from tests.llama_cpp import divergence, log_probabilities, own_log_probabilities
from tests.unit.export.test_gguf_file import by_tensor

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
MOE = TEXT | {"model_type": "qwen3_moe", "num_experts": 8, "norm_topk_prob": True, "moe_intermediate_size": 32}


def made(family: str):
    """The configuration of a tiny model of the family."""
    ensure_torchvision()
    from transformers import InternVLConfig, OlmoeConfig, Qwen3MoeConfig

    if family == "qwen3_moe":
        return Qwen3MoeConfig(**MOE)
    if family == "olmoe":
        own = {"model_type": "olmoe", "norm_topk_prob": False, "intermediate_size": 32}
        own["num_key_value_heads"] = MOE["num_attention_heads"]  # llama.cpp's graph takes no fewer here
        return OlmoeConfig(**{name: value for name, value in MOE.items() if name != "head_dim"} | own)
    eyes = EYES | {"image_size": [32, 32], "patch_size": [4, 4]}
    return InternVLConfig(text_config=MOE, vision_config=eyes, image_token_id=IMAGE)


@pytest.mark.parametrize("family", ["qwen3_moe", "internvl", "olmoe"])
def test_llama_cpp_answers_as_the_model(family, tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    config = made(family)
    chosen = AutoModelForImageTextToText if family == "internvl" else AutoModelForCausalLM
    torch.manual_seed(1)
    model = chosen.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(tmp_path / "model")
    PROCESSORS["internvl_qwen3_moe" if family == "internvl" else family]().save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model", device="cpu", dtype="float32")
    result = export("gguf", by_tensor(loaded, (16,)), tmp_path / "out", loaded=loaded, options={"types": "plan"})
    draw = np.random.default_rng(0)
    prompts = [draw.integers(10, 60, count).tolist() for count in (2, 7, 20)]
    ours = own_log_probabilities(loaded, prompts)
    theirs = log_probabilities(result.folder / "model.gguf", prompts, ours.shape[1])
    assert abs(divergence(ours, theirs)) < 1e-5 and (theirs.argmax(axis=1) == ours.argmax(axis=1)).all()


def test_an_olmoe_that_llama_cpp_would_compute_otherwise_is_refused():
    from mode_core.export import ExportError
    from mode_core.export.gguf_names import FAMILIES

    plain = {"num_attention_heads": 4, "num_key_value_heads": 4, "norm_topk_prob": False, "clip_qkv": None}
    FAMILIES["olmoe"].settings(None, plain, plain)
    for other in ({"norm_topk_prob": True}, {"clip_qkv": 8.0}, {"num_key_value_heads": 2}):
        with pytest.raises(ExportError, match="knows none of these"):
            FAMILIES["olmoe"].settings(None, plain | other, plain | other)
