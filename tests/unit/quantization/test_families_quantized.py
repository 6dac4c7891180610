"""Families that store or call their experts in other ways: packed codes, second order, shared experts and attention."""

import numpy as np
import pytest
import torch

from mode_core.allocation.records import Allocation
from mode_core.models import load_model
from mode_core.quantization import GptqSettings, QuantizationError, quantize_experts
from mode_core.samples import Sample
from tests.families.making import save_family
from tests.families.registry import FAMILIES

QUESTIONS = ("is the circle red ?", "how many colour are there , 1 2 3 ?", "what is it ?")
# how experts are stored and called: shared experts, biases in turns, two banks a layer, transposed, past the
# interface, lists of modules, tokens weighted before
NAMES = ("glm4v_moe", "internvl_gpt_oss", "ernie4_5_vl_moe", "aria", "step3p7", "kimi_vl", "llama4")
SHARED = {"glm4v_moe", "ernie4_5_vl_moe", "aria", "step3p7", "kimi_vl", "llama4"}
NOT_PACKED = {"llama4"}


@pytest.fixture(scope="module", params=NAMES)
def family(request, tmp_path_factory):
    """(name, loaded model, samples without pictures)."""
    known = next(family for family in FAMILIES if family.name == request.param)
    folder = save_family(known.name, tmp_path_factory.mktemp("quantized") / known.name)
    samples = [Sample((), ({"role": "user", "content": text},), id=text[:6]) for text in QUESTIONS]
    return known.name, load_model(folder, device="cpu", trust_remote_code=known.remote), samples


def allocation_for(loaded) -> Allocation:
    draw = np.random.default_rng(0)
    bits = {name: draw.choice((0, 2, 3, 16), bank.experts) for name, bank in loaded.banks.items()}
    return Allocation(bits, (0, 2, 3, 16), 0.0, 0.0, False, 0.0, 3.0)


def logits(loaded, samples) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(**loaded.encode(samples).inputs, use_cache=False).logits


def test_packed_equals_values_and_everything_comes_back(family) -> None:
    name, loaded, samples = family
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    plain, allocation = logits(loaded, samples), allocation_for(loaded)
    widths = {"attention_bits": 4, "shared_bits": 3 if name in SHARED else None}
    with quantize_experts(loaded, allocation, "rtn", 16, **widths) as values:
        expected = logits(loaded, samples)
        shared = [n for n in values.linears if "shared" in n or "share_expert" in n]
        assert bool(shared) == (name in SHARED)
        assert {values.linears[n].bits for n in shared} <= {3}
        assert not [n for n in values.linears if "vision" in n or "visual" in n or "router" in n or n.endswith(".gate")]
    assert not torch.equal(plain, expected)
    if name in NOT_PACKED:
        with pytest.raises(QuantizationError, match="cannot compute from packed codes; use storage 'values'"):
            quantize_experts(loaded, allocation, "rtn", 16, storage="packed")
    else:
        with quantize_experts(loaded, allocation, "rtn", 16, storage="packed", **widths) as packed:
            assert torch.allclose(logits(loaded, samples), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
            assert packed.live_bytes == packed.model_bytes == values.model_bytes
    assert all(torch.equal(before[n], p) for n, p in loaded.model.named_parameters())
    assert torch.equal(plain, logits(loaded, samples))


def test_second_order_sees_the_tokens_of_every_bank(family) -> None:
    _, loaded, samples = family
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    settings = GptqSettings(least_tokens=1)
    routed = dict.fromkeys(loaded.banks, 0)
    with quantize_experts(loaded, allocation_for(loaded), "gptq", 16, samples=samples, gptq=settings) as quantized:
        for (name, _), tokens in quantized.tokens.items():
            routed[name] += tokens
        few = {(name, expert) for name, experts in quantized.data_free.items() for expert in experts}
        assert few == {key for key, tokens in quantized.tokens.items() if tokens == 0}
        assert bool(torch.isfinite(logits(loaded, samples)).all())
    seen = [name for name, tokens in routed.items() if tokens]
    assert seen  # a bank for vision tokens alone has none here
    assert all(torch.equal(before[n], p) for n, p in loaded.model.named_parameters())
