"""Routes of the kept samples: against a plain forward pass, with torch's softmax and top-k and scipy's entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.calibration import routing as routing_module
from mode_core.calibration.routing import routes_of
from mode_core.models import VISION
from mode_core.probing.router_scores import _readings
from mode_core.runs.run import Run


def by_hand(model, sample):
    """Bank → (shares `[T, E]` float64, experts `[T, k]`, weights `[T, k]`) from the gates' own matrices."""
    found, hooks = {}, []
    for name, bank in model.banks.items():
        gate = model.model.get_submodule(name.rpartition(".")[0]).gate

        def note(module, args, _output, name=name, bank=bank):
            shares = torch.softmax(args[0].reshape(-1, bank.hidden).double() @ module.weight.double().T, dim=-1)
            top = shares.topk(bank.top_k)
            found[name] = shares.numpy(), top.indices.numpy(), (top.values / top.values.sum(1, keepdim=True)).numpy()

        hooks.append(gate.register_forward_hook(note))
    with torch.no_grad():
        model.model(**model.encode([sample]).inputs, use_cache=False)
    [hook.remove() for hook in hooks]
    return found


@pytest.fixture(scope="module")
def run(tiny_model, tiny_samples, tmp_path_factory) -> Run:
    """Three of the eight samples are kept to be looked at; batches of two, so that there is padding."""
    made = Run.create(tmp_path_factory.mktemp("routes") / "run")
    settings = CalibrationSettings(sensitivity=False, exemplars=0, token_scores_for=3, batch_size=2)
    calibrate(tiny_model, tiny_samples, settings, run=made)
    return Run.open(made.path)


def test_kept_routes_are_those_of_an_independent_pass(tiny_model, tiny_samples, run):
    routes = run.token_routes()
    assert list(routes) == [sample.id for sample in tiny_samples[:3]]
    for sample in tiny_samples[:3]:
        one, encoded = routes[sample.id], tiny_model.encode([sample])
        assert one.banks == tuple(tiny_model.banks) and one.sizes == (8, 8)
        assert one.tokens == len(one.words) == encoded.lengths[0] and one.experts.dtype == np.uint8
        np.testing.assert_array_equal(one.vision, encoded.modality[0] == VISION)
        np.testing.assert_array_equal(one.template, encoded.template_mask[0])
        text = encoded.inputs["input_ids"][0][~torch.from_numpy(one.vision)]
        assert [word for word in one.words if word] == [tiny_model.tokenizer.decode([i]) for i in text.tolist()]
        for row, (shares, experts, weights) in enumerate(by_hand(tiny_model, sample).values()):
            np.testing.assert_array_equal(one.experts[row], experts)
            np.testing.assert_allclose(one.weights[row], weights, rtol=2e-3)
            np.testing.assert_allclose(one.entropy[row], entropy(shares, base=2, axis=1), rtol=2e-3)
            bank_weights = np.zeros_like(shares)
            np.put_along_axis(bank_weights, experts, weights, axis=1)
            np.testing.assert_allclose(one.weight_of(row, 3), bank_weights[:, 3], rtol=2e-3)


def test_paths_part_where_the_router_was_changed(tiny_model, tiny_samples, run):
    before, bank = run.token_routes()[tiny_samples[0].id], list(tiny_model.banks)[1]
    again = routes_of(tiny_model, tiny_samples[0])
    assert not before.parted(again).any()
    gate = tiny_model.model.get_submodule(bank.rpartition(".")[0]).gate
    kept = gate.weight.detach().clone()
    with torch.no_grad():
        gate.weight.copy_(-kept)
    try:
        other = routes_of(tiny_model, tiny_samples[0])
    finally:
        with torch.no_grad():
            gate.weight.copy_(kept)
    expected = [len({*a} - {*b}) for a, b in zip(before.experts[1].tolist(), other.experts[1].tolist(), strict=True)]
    assert before.parted(other)[1].tolist() == expected and sum(expected) and not before.parted(other)[0].any()
    with pytest.raises(ValueError, match="are not of the same tokens and banks"):
        before.parted(run.token_routes()[tiny_samples[1].id])


def test_of_a_long_sample_the_first_tokens_are_kept(tiny_model, tiny_samples, monkeypatch):
    whole = routes_of(tiny_model, tiny_samples[0])
    monkeypatch.setattr(routing_module, "MOST_TOKENS", 7)
    few = routes_of(tiny_model, tiny_samples[0])
    assert few.tokens == whole.tokens and few.words == whole.words[:7]
    np.testing.assert_array_equal(few.experts, whole.experts[:, :7])


def test_shares_of_a_sigmoid_router_are_its_sigmoids():
    scores = torch.tensor([[0.0, 2.0, -1.0]])
    softmax, sigmoid = list(_readings(scores))
    torch.testing.assert_close(softmax, torch.softmax(scores, 1))
    torch.testing.assert_close(sigmoid, torch.sigmoid(scores) / torch.sigmoid(scores).sum())
