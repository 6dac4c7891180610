"""The probe changes nothing, sees everything, and leaves no trace."""

import pytest
import torch

from mode_core.calibration import SIGNALS, CalibrationError
from mode_core.models import VISION
from mode_core.probing.interface import PROBES
from mode_core.probing.probe import Probe
from mode_core.probing.redundancy import query_positions

ALL = tuple(SIGNALS)


@pytest.fixture
def implementations(tiny_model):
    """Lets a test choose attention and experts implementation; puts the model's own back."""
    config = tiny_model.model.config.get_text_config()
    before = config._attn_implementation, config._experts_implementation

    def choose(attention: str, experts: str) -> None:
        config._attn_implementation, config._experts_implementation = attention, experts

    yield choose
    choose(*before)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("experts", ["grouped_mm", "eager", "batched_mm"])
def test_logits_stay_identical_to_the_last_bit(tiny_model, tiny_samples, implementations, attention, experts):
    implementations(attention, experts)
    seen = []
    encoded = tiny_model.encode(tiny_samples)
    with torch.no_grad():
        expected = tiny_model.model(**encoded.inputs).logits
    with Probe(tiny_model, ALL, lambda observation: seen.append(observation.bank.name)) as probe:
        logits = probe.run(encoded).logits
    assert torch.equal(logits, expected)
    assert sorted(seen) == sorted(tiny_model.banks)


def test_everything_is_put_back_even_after_a_failure(tiny_model, tiny_samples):
    config = tiny_model.model.config.get_text_config()
    before = config._attn_implementation, config._experts_implementation
    hooks = len(tiny_model.model.model.language_model.layers[0]._forward_pre_hooks)

    def fail(_):
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"), Probe(tiny_model, ALL, fail) as probe:
        assert config._experts_implementation == "mode_probe"
        probe.run(tiny_model.encode(tiny_samples[:1]))
    assert (config._attn_implementation, config._experts_implementation) == before
    assert len(tiny_model.model.model.language_model.layers[0]._forward_pre_hooks) == hooks
    assert not PROBES


@pytest.mark.parametrize(("signal", "layer"), [("text_attention", None), ("judge_layer_attention", 2)])
def test_importance_is_the_models_own_attention(tiny_model, tiny_samples, implementations, signal, layer):
    """Against the full attention matrices that the model itself returns."""
    seen = {}
    encoded = tiny_model.encode(tiny_samples)
    with Probe(tiny_model, (signal,), lambda o: seen.update({o.bank.layer: o.importance[signal]})) as probe:
        probe.run(encoded)
    implementations("eager", "eager")
    with torch.no_grad():
        attentions = tiny_model.model(**encoded.inputs, output_attentions=True).attentions
    query, vision = query_positions(encoded), encoded.modality == VISION
    assert set(seen) == {0, 2}
    for bank_layer, importance in seen.items():
        whole = attentions[bank_layer if layer is None else layer].mean(dim=1)
        for row in range(6):
            expected = whole[row, query[row]].mean(dim=0)
            assert torch.allclose(importance[row, vision[row]], expected[vision[row]], atol=1e-5)


def test_what_a_bank_saw_is_what_the_router_said(tiny_model, tiny_samples):
    seen, routed = [], []
    gate = tiny_model.model.model.language_model.layers[0].mlp.gate
    hook = gate.register_forward_hook(lambda _m, args, out: routed.append((args[0], *out)))
    with Probe(tiny_model, ("text_attention",), seen.append) as probe:
        probe.run(tiny_model.encode(tiny_samples[:2]))
    hook.remove()
    states, _, weights, experts = routed[0]
    first = next(o for o in seen if o.bank.layer == 0)
    assert torch.equal(first.states, states)
    assert torch.equal(first.experts, experts) and torch.equal(first.weights, weights)


def test_a_bank_that_is_routed_past_the_interface_is_told(tiny_model, tiny_samples, monkeypatch):
    bank = tiny_model.banks["model.language_model.layers.2.mlp.experts"]
    own = type(bank.module).forward.__wrapped__
    monkeypatch.setattr(bank.module, "forward", lambda *args: own(bank.module, *args))
    told = pytest.raises(CalibrationError, match=r"not called: model\.language_model\.layers\.2\.mlp\.experts")
    with told, Probe(tiny_model, ("duplication",), lambda o: None) as probe:
        probe.run(tiny_model.encode(tiny_samples[:1]))


def test_a_kernel_without_a_readable_mask_is_refused(tiny_model, implementations):
    implementations("flash_attention_2", "grouped_mm")
    with pytest.raises(CalibrationError, match="load the model with 'sdpa'"), Probe(tiny_model, ALL, print):
        pass


def test_only_one_probe_at_a_time(tiny_model):
    with Probe(tiny_model, ALL, print), pytest.raises(CalibrationError, match="calibrated already"):
        Probe(tiny_model, ALL, print).__enter__()
