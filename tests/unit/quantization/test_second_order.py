"""Second-order quantization of a real (tiny) model: Hessians against plain sums, few tokens, memory, quality."""

import threading

import numpy as np
import pytest
import torch

from mode_core.allocation.records import Allocation
from mode_core.jobs import Cancelled, Reporter
from mode_core.models import PADDING, TEXT
from mode_core.probing.probe import Probe
from mode_core.probing.redundancy import redundancy_bins
from mode_core.quantization import GptqSettings, dequantize, fake_quantize, quantize_experts
from mode_core.quantization.gptq import gptq
from mode_core.quantization.hessians import plan_passes, run_pass

ALL = GptqSettings(least_tokens=1, batch_size=3)


def allocation_for(loaded, widths=(2, 3), by_projection: bool = False) -> Allocation:
    draw = np.random.default_rng(0)
    bits = {
        name: draw.choice(widths, (bank.experts, 2) if by_projection else bank.experts)
        for name, bank in loaded.banks.items()
    }
    return Allocation(bits, tuple(widths), 0.0, 0.0, False, 0.0, 2.5)


def plain_inputs(loaded, samples, answers: bool) -> dict:
    """What enters every expert, one sample at a time: (bank, expert) -> (tokens `[n, H]`, kind `[n]`: text 0, key 1,
    redundant 2), and the bank's tokens of each kind."""
    found: dict[tuple[str, int], list] = {}
    totals: dict[str, np.ndarray] = {}

    def observe(seen) -> None:
        modality = seen.encoded.modality
        bins = redundancy_bins(seen.importance["text_attention"], modality)
        kind = torch.where(modality == TEXT, 0, torch.where(bins < 20, 1, 2)).flatten()
        used = (modality != PADDING).flatten()
        totals[seen.bank.name] = totals.get(seen.bank.name, 0) + np.bincount(kind[used], minlength=3)
        for row in torch.nonzero(used).ravel().tolist():
            for expert in seen.experts[row].tolist():
                found.setdefault((seen.bank.name, expert), []).append((seen.states[row].double(), int(kind[row])))

    with Probe(loaded, ("text_attention",), observe) as probe:
        for sample in samples:
            probe.run(loaded.encode([sample], answers=answers))
    inputs = {
        key: (torch.stack([state for state, _ in rows]), torch.tensor([kind for _, kind in rows]))
        for key, rows in found.items()
    }
    return {"inputs": inputs, "totals": totals}


@pytest.mark.parametrize(("weighting", "answers"), [("tokens", True), ("modality", False)])
def test_hessians_are_the_sums_of_outer_products(tiny_model, tiny_samples, weighting, answers) -> None:
    settings = GptqSettings(weighting=weighting, answers=answers, vision_weight=0.5, batch_size=3)
    plain = plain_inputs(tiny_model, tiny_samples, answers)
    everyone = {name: range(bank.experts) for name, bank in tiny_model.banks.items()}
    (wanted,) = plan_passes(tiny_model.banks, everyone, {}, settings)
    run_pass(tiny_model, wanted, tiny_samples, settings, Reporter(None, 0))
    for name, sums in wanted.banks.items():
        bank, totals = tiny_model.banks[name], plain["totals"][name]
        up, down = (sums.weighted(side, torch.arange(bank.experts)) for side in ("up", "down"))
        for expert in range(bank.experts):
            if (name, expert) not in plain["inputs"]:
                assert int(sums.routed[expert]) == 0
                continue
            states, kind = plain["inputs"][name, expert]
            if weighting == "tokens":
                weight = torch.full((len(kind),), 1 / totals.sum(), dtype=torch.float64)
                assert int(sums.routed[expert]) == len(kind)
            else:
                weight = torch.tensor([1 / totals[0], 0.5 / totals[1], 0.0], dtype=torch.float64)[kind]
                assert int(sums.routed[expert]) == int((kind < 2).sum())
            expected = (states * weight[:, None]).mT @ states
            assert torch.allclose(up[expert].double(), expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()))
            gate, lift = (bank.matrix(p, expert).double() for p in ("gate", "up"))
            inner = torch.nn.functional.silu(states @ gate.mT) * (states @ lift.mT)
            expected = (inner * weight[:, None]).mT @ inner
            assert torch.allclose(down[expert].double(), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_affinity_weighs_every_token_by_its_routing_weight(tiny_model, tiny_samples) -> None:
    """H = Σ (w·g²)·x·xᵀ, one token after another: g the routing weight, w by modality."""
    settings = GptqSettings(weighting="modality", affinity=2.0, vision_weight=0.5)
    name, bank = next(iter(tiny_model.banks.items()))
    (wanted,) = plan_passes(tiny_model.banks, {name: range(bank.experts)}, {}, settings)
    run_pass(tiny_model, wanted, tiny_samples[:1], settings, Reporter(None, 0))
    found, plain = wanted.banks[name].weighted("up", torch.arange(bank.experts)).double(), []
    with Probe(tiny_model, ("text_attention",), plain.append) as probe:
        probe.run(tiny_model.encode(tiny_samples[:1], answers=True))
    seen = next(each for each in plain if each.bank.name == name)
    key = redundancy_bins(seen.importance["text_attention"], seen.encoded.modality)[0]
    text = seen.encoded.modality[0] == TEXT
    weight = torch.where(text, 1 / text.sum(), torch.where(key < 20, 0.5 / ((key >= 0) & (key < 20)).sum(), 0.0))
    expected = torch.zeros_like(found)
    for token, (experts, gates) in enumerate(zip(seen.experts.tolist(), seen.weights.tolist(), strict=True)):
        for expert, gate in zip(experts, gates, strict=True):
            expected[expert] += float(weight[token]) * gate**2 * torch.outer(*[seen.states[token].double()] * 2)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("by_projection", [True, False])
def test_experts_are_solved_with_their_own_hessians(tiny_model, tiny_samples, by_projection) -> None:
    plain = plain_inputs(tiny_model, tiny_samples, True)["inputs"]
    allocation = allocation_for(tiny_model, (0, 2, 3, 16), by_projection)
    before = {name: p.clone() for name, p in tiny_model.model.named_parameters()}
    with quantize_experts(tiny_model, allocation, "gptq", 32, samples=tiny_samples, gptq=ALL):
        checked = 0
        for name, bank in tiny_model.banks.items():
            for expert in range(bank.experts):
                width = int(allocation.bits[name][expert, 0] if by_projection else allocation.bits[name][expert])
                got = bank.matrix("up", expert)
                if width == 0:
                    assert not bool(got.any())
                if width in (0, 16) or (name, expert) not in plain:
                    continue
                states = plain[name, expert][0].float()
                original = before[f"{name}.gate_up_proj"][expert, bank.intermediate :]
                expected = dequantize(gptq(original[None], (states.mT @ states)[None], width, 32))[0]
                checked += float(torch.isclose(got, expected, rtol=1e-4, atol=1e-6).float().mean()) > 0.9
    assert checked >= 5
    assert all(torch.equal(before[name], p) for name, p in tiny_model.model.named_parameters())


def test_memory_limits_passes_and_not_results(tiny_model, tiny_samples) -> None:
    bank = next(iter(tiny_model.banks.values()))
    one = 4 * (bank.hidden**2 + bank.intermediate**2)
    everyone = {name: range(bank.experts) for name, bank in tiny_model.banks.items()}
    cut = plan_passes(tiny_model.banks, everyone, {}, GptqSettings(memory_bytes=5 * one))
    first, second = everyone
    counts = [{name: len(chosen) for name, chosen in part.experts.items()} for part in cut]
    assert counts == [{first: 5}, {first: 3, second: 2}, {second: 5}, {second: 1}]
    assert len(plan_passes(tiny_model.banks, everyone, {}, GptqSettings(memory_bytes=1))) == 16
    allocation, found = allocation_for(tiny_model), []
    for limit in (4 << 30, 5 * one):
        settings = GptqSettings(least_tokens=1, batch_size=3, memory_bytes=limit)
        steps = []
        with quantize_experts(
            tiny_model, allocation, "gptq", 32, samples=tiny_samples, gptq=settings, progress=steps.append
        ) as quantized:
            found.append(quantized.packed)
        assert steps[-1].done == steps[-1].total
    assert all(torch.equal(found[0][key].codes, found[1][key].codes) for key in found[0])


@pytest.mark.parametrize(("given", "least"), [({"least_tokens": 25}, 25), ({}, 32)], ids=["given", "default"])
def test_experts_with_few_tokens_are_named_and_rounded_to_nearest(tiny_model, tiny_samples, given, least) -> None:
    allocation = allocation_for(tiny_model, (3,))
    settings = GptqSettings(batch_size=3, **given)
    originals = {
        (name, p): bank.stacked(p).clone() for name, bank in tiny_model.banks.items() for p in bank.projections
    }
    with quantize_experts(tiny_model, allocation, "gptq", 32, samples=tiny_samples, gptq=settings) as quantized:
        few = {(name, expert) for name, experts in quantized.data_free.items() for expert in experts}
        assert few == {key for key, tokens in quantized.tokens.items() if tokens < least}
        assert 0 < len(few) < 16
        for name, bank in tiny_model.banks.items():
            for expert in range(bank.experts):
                plain = fake_quantize(originals[name, "down"][expert], 3, 32)
                assert torch.equal(bank.matrix("down", expert), plain) == ((name, expert) in few)


def test_attention_has_its_own_width_and_the_rest_is_untouched(tiny_model, tiny_samples) -> None:
    before = {name: p.clone() for name, p in tiny_model.model.named_parameters()}
    allocation = allocation_for(tiny_model, (16,))
    for method in ("rtn", "gptq"):
        with quantize_experts(
            tiny_model, allocation, method, 32, samples=tiny_samples, gptq=ALL, attention_bits=4
        ) as quantized:
            changed = {n for n, p in tiny_model.model.named_parameters() if not torch.equal(before[n], p)}
            assert changed == {f"{name}.weight" for name in quantized.linears}
            assert len(changed) == 12
            assert all(".language_model." in name and ".self_attn." in name for name in changed)
            assert {matrix.bits for matrix in quantized.linears.values()} == {4}
            error = {n: float((before[n] - tiny_model.model.get_parameter(n)).norm()) for n in changed}
        if method == "rtn":
            plain = error
    assert plain != error
    assert all(torch.equal(before[name], p) for name, p in tiny_model.model.named_parameters())


def test_the_output_error_falls_from_rtn_to_gptq(tiny_model, tiny_samples) -> None:
    inputs = plain_inputs(tiny_model, tiny_samples, True)["inputs"]
    errors = {}
    for method in ("rtn", "gptq"):
        with quantize_experts(
            tiny_model, allocation_for(tiny_model, (2,)), method, 32, samples=tiny_samples, gptq=ALL
        ) as quantized:
            errors[method] = 0.0
        for (name, expert), (states, _) in inputs.items():
            for projection in ("gate", "up"):
                off = quantized.matrix(name, projection, expert) - tiny_model.banks[name].matrix(projection, expert)
                errors[method] += float((states.float() @ off.mT).square().sum())
    assert errors["gptq"] < 0.8 * errors["rtn"]


def test_cancel_and_settings(tiny_model, tiny_samples) -> None:
    before, stop = {name: p.clone() for name, p in tiny_model.model.named_parameters()}, threading.Event()

    def hook(progress) -> None:
        if "enters" in progress.what:
            stop.set()

    with pytest.raises(Cancelled):
        quantize_experts(tiny_model, allocation_for(tiny_model), "gptq", 32, True, tiny_samples, hook, stop, gptq=ALL)
    assert all(torch.equal(before[name], p) for name, p in tiny_model.model.named_parameters())
    for wrong, words in (
        ({"weighting": "all"}, "weighting must be one of"),
        ({"damping": 0.0}, "damping must lie between 0 and 1; got 0.0"),
        ({"key_ratio": 1.5}, "key_ratio"),
        ({"vision_weight": -1.0}, "vision_weight must not be negative"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            GptqSettings(**wrong)
