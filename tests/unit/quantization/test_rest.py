"""What surrounds the experts: counted to the byte, and told by name in families that have shared experts."""

import pytest
import torch

from mode_core.models import ModelError, ensure_torchvision, find_banks
from mode_core.quantization.rest import rest_bytes, rest_linears
from mode_core.quantization.sizes import expert_bytes, matrix_bytes
from mode_core.statistics import BankShape
from tests.families.making import make_model


def with_shared_experts() -> torch.nn.Module:
    """A Qwen2-MoE decoder: shared experts with a gate of their own, and attention with biases."""
    ensure_torchvision()
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    config = Qwen2MoeConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=24,
        num_experts=4,
        num_experts_per_tok=2,
    )
    return Qwen2MoeForCausalLM(config).float()


class Held:
    """A bare model with its banks, as `LoadedModel` holds them."""

    def __init__(self, model: torch.nn.Module):
        self.model, self.banks = model, find_banks(model)


def test_attention_and_shared_experts_are_found_and_nothing_else() -> None:
    found = {name: part for name, _, part in rest_linears(with_shared_experts())}
    layers = [f"model.layers.{i}" for i in range(2)]
    expected = {f"{layer}.self_attn.{p}_proj": "attention" for layer in layers for p in "qkvo"}
    expected |= {f"{layer}.mlp.shared_expert.{p}_proj": "shared" for layer in layers for p in ("gate", "up", "down")}
    assert found == expected


def test_the_vision_towers_attention_is_not_among_them(tiny_model) -> None:
    found = [name for name, _, _ in rest_linears(tiny_model.model)]
    assert any(".visual." in name and "attn" in name for name, _ in tiny_model.model.named_modules())
    assert len(found) == 3 * 4
    assert not [name for name in found if "visual" in name]


def test_nor_is_that_of_what_listens() -> None:
    model = make_model("qwen3_omni_moe_thinker")
    assert any(".audio_tower." in name and "attn" in name for name, _ in model.named_modules())
    assert {name.split(".")[1] for name, _, _ in rest_linears(model)} == {"language_model"}


@pytest.mark.parametrize(("symmetric", "method"), [(True, "rtn"), (False, "rtn"), (True, "hqq")])
def test_bytes_are_the_parameters_less_what_shrinks(symmetric: bool, method: str) -> None:
    held = Held(with_shared_experts())
    everything = sum(p.numel() * 4 for p in held.model.parameters())
    routed = 2 * 4 * 3 * 16 * 32 * 4
    assert rest_bytes(held) == everything - routed
    attention = sum(p.numel() * 4 for n, p in held.model.named_parameters() if "_proj.weight" in n and "attn" in n)
    shared = sum(p.numel() * 4 for n, p in held.model.named_parameters() if "shared_expert." in n)
    packed_attention = 2 * 4 * matrix_bytes(32, 32, 4, 16, symmetric, method)
    packed_shared = 2 * (
        2 * matrix_bytes(24, 32, 3, 16, symmetric, method) + matrix_bytes(32, 24, 3, 16, symmetric, method)
    )
    asked = rest_bytes(held, 4, 3, 16, symmetric, method)
    assert asked == everything - routed - attention - shared + packed_attention + packed_shared
    assert rest_bytes(held, 16, None) == everything - routed


def test_a_configuration_is_enough(tiny_model, tiny_model_folder) -> None:
    assert rest_bytes(tiny_model_folder, 4, 4) == rest_bytes(tiny_model, 4, 4)
    assert rest_bytes(tiny_model.model.config) == rest_bytes(tiny_model)
    stacks = {id(p): p.nbytes for bank in tiny_model.banks.values() for p in bank.module.parameters()}
    every = {id(p): p.nbytes for p in tiny_model.model.parameters()}
    assert rest_bytes(tiny_model) == sum(every.values()) - sum(stacks.values())


def test_refusals() -> None:
    with pytest.raises(ValueError, match="bits must be one of"):
        rest_bytes(Held(with_shared_experts()), attention_bits=7)
    with pytest.raises(ModelError, match="no bank of routed experts"):
        Held(torch.nn.Linear(2, 2))


def test_a_dropped_expert_takes_no_bytes_and_hqq_two_more_a_group() -> None:
    shape = BankShape(layer=0, experts=4, hidden=64, intermediate=32, top_k=2)
    assert expert_bytes(shape, (0, 4, 16), 32).tolist() == [0, 3 * (32 * 64 // 2 + 64 * 2), 3 * 32 * 64 * 2]
    more = expert_bytes(shape, (4,), 32, method="hqq") - expert_bytes(shape, (4,), 32)
    assert more.tolist() == [3 * 64 * 2]
    with pytest.raises(ValueError, match="no quantizer 'awq' here; choose one of: rtn, hqq, gptq"):
        expert_bytes(shape, (4,), method="awq")
