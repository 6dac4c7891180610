"""Memory of a card: the cache as transformers really makes it, and the division of a card by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import AutoConfig

from mode_core.errors import SettingsError
from mode_core.memory import GIB, around_experts, fit, kv_cache_bytes
from mode_core.models import load_model

MODEL = "sample_data/model"


def test_the_cache_is_as_large_as_the_one_that_generation_makes(tiny_samples):
    loaded = load_model(MODEL, device="cpu", dtype="float32")
    encoded = loaded.encode(tiny_samples[:1])
    with torch.no_grad():
        cache = loaded.model(**encoded.inputs, use_cache=True).past_key_values
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    length = encoded.inputs["input_ids"].shape[1]
    assert kv_cache_bytes(loaded.model.config, length, element_bytes=4) == real


def test_published_shape_of_qwen3_vl_30b():
    """48 layers, 4 KV heads of 128 (its config.json): 96 KiB a token in bfloat16, 3 GiB for 32,768 tokens."""
    shape = {"num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128}
    assert kv_cache_bytes({"text_config": shape}, 32_768) == 3 * GIB


def test_windows_latent_and_linear_layers():
    heads = {"num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 3}
    mixed = heads | {"layer_types": ["sliding_attention", "linear_attention", "full_attention"], "sliding_window": 10}
    assert kv_cache_bytes(mixed, 100) == (10 + 100) * 2 * 2 * 4 * 2
    latent = {"num_hidden_layers": 2, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert kv_cache_bytes(latent, 7) == 2 * 7 * 576 * 2


def test_the_object_and_its_file_say_the_same():
    config = AutoConfig.from_pretrained(MODEL)
    assert kv_cache_bytes(config, 1000) == kv_cache_bytes(config.to_dict(), 1000) == 4 * 2 * 2 * 32 * 1000 * 2


def test_a_card_divided_by_hand():
    found = fit(8, rest=2 * GIB, cache=GIB, experts=4 * GIB, reserve=0.125)
    assert found.for_experts == 4 * GIB and found.free == 0
    assert fit(2, rest=3 * GIB, cache=0, experts=0).for_experts < 0


def test_a_configuration_without_layers_is_refused():
    with pytest.raises(ValueError, match="num_hidden_layers"):
        kv_cache_bytes({"hidden_size": 3}, 10)


def test_what_surrounds_the_experts_is_read_off_the_headers(tmp_path):
    assert around_experts(tmp_path) is None
    tensors = {
        "model.layers.0.mlp.experts.3.up_proj.weight": np.zeros((4, 8), np.float16),
        "model.layers.0.mlp.shared_experts.up_proj.weight": np.zeros((2, 1), np.float16),
        "model.embed_tokens.weight": np.zeros(3, np.float32),
    }
    save_file(tensors, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"lm_head.weight": np.zeros(5, np.float32)}, tmp_path / "model-00002-of-00002.safetensors")
    assert around_experts(tmp_path) == 2 * 2 + 3 * 4 + 5 * 4  # shared experts stay; routed ones do not count
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(SettingsError, match=r"model-00002-of-00002.safetensors is no safetensors file"):
        around_experts(tmp_path)
