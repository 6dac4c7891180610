"""The fast evaluator says what `evaluate` says of really quantized models, and switching puts back every bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mode_core.allocation import Allocation
from mode_core.comparison import PreparedItems, RoundedExperts
from mode_core.comparison.items import _by_item, with_vision_outputs
from mode_core.evaluation import evaluate, record_reference
from mode_core.evaluation.answers import AnswerLogits
from mode_core.evaluation.reference import ReferenceAnswer
from mode_core.quantization import Quantizer, quantize_experts
from mode_core.samples import read_samples
from tests.conftest import BUNDLED

WIDTHS = (1, 2, 4)


@pytest.fixture(scope="module")
def items(tiny_model, tiny_samples) -> PreparedItems:
    return PreparedItems(tiny_model, tiny_samples, batch_size=3)


@pytest.fixture(scope="module")
def rounded(tiny_model) -> RoundedExperts:
    return RoundedExperts(tiny_model, WIDTHS, Quantizer(group_size=16))


def allocation(loaded, bits: dict[str, np.ndarray]) -> Allocation:
    return Allocation(bits, WIDTHS, 0.0, 0.0, False, 0.0, 0.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_evaluate_with_quantized_experts(tiny_model, items, rounded, seed):
    draw = np.random.default_rng(seed)
    bits = {name: draw.choice([*WIDTHS, 16], bank.experts) for name, bank in tiny_model.banks.items()}
    with rounded.applied(bits):
        fast = items.measure()
    reference = record_reference(tiny_model, items.samples)
    with quantize_experts(tiny_model, allocation(tiny_model, bits), group_size=16):
        slow = evaluate(tiny_model, items.samples, reference, max_new_tokens=8)
    np.testing.assert_allclose(fast.kl, [answer.kl for answer in slow.answers], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(fast.agreement, [answer.agreement for answer in slow.answers], atol=1e-6)
    assert fast.accuracy.tolist() == [float(answer.correct) for answer in slow.answers]
    assert fast.kl.max() > 1e-3


def test_right_answers_are_those_of_evaluate_on_a_model_that_knows_some(bundled_model):
    samples = read_samples(BUNDLED / "evaluation")[5::40]
    bits = {name: np.full(bank.experts, 2) for name, bank in bundled_model.banks.items()}
    with RoundedExperts(bundled_model, (2,)).applied(bits):
        slow = evaluate(bundled_model, samples)
    prepared = PreparedItems(bundled_model, samples)
    with RoundedExperts(bundled_model, (2,)).applied(bits):
        fast = prepared.measure()
    assert 0 < fast.accuracy.sum() < len(samples)
    assert fast.accuracy.tolist() == [float(answer.correct) for answer in slow.answers]


def test_the_original_agrees_with_itself(items):
    scores = items.measure()
    assert scores.agreement.min() == 1
    np.testing.assert_allclose(scores.kl, 0, atol=1e-6)


def test_one_wrong_position_makes_an_answer_wrong():
    logits = torch.eye(4)[torch.tensor([1, 2, 3, 0, 1])]
    found = AnswerLogits(logits, torch.tensor([1, 2, 3, 0, 2]), (3, 2))
    original = ReferenceAnswer(logits.log_softmax(-1), None, torch.tensor([1, 2, 0, 0, 1]), "")
    scores = _by_item(found, original)
    assert scores["accuracy"].tolist() == [1, 0]
    np.testing.assert_allclose(scores["agreement"], [2 / 3, 1])


def test_projections_may_differ_and_the_original_comes_back_bit_for_bit(tiny_model, rounded):
    before = {name: bank.stacked("down").clone() for name, bank in tiny_model.banks.items()}
    gates = {name: bank.stacked("gate").clone() for name, bank in tiny_model.banks.items()}
    bits = {name: np.tile([16, 2], (bank.experts, 1)) for name, bank in tiny_model.banks.items()}
    with rounded.applied(bits):
        for name, bank in tiny_model.banks.items():
            assert torch.equal(bank.stacked("gate"), gates[name])
            assert not torch.equal(bank.stacked("down"), before[name])
    with pytest.raises(RuntimeError, match="stop"), rounded.applied(bits):
        raise RuntimeError("stop")
    for name, bank in tiny_model.banks.items():
        assert torch.equal(bank.stacked("down"), before[name])


def test_a_width_that_was_not_prepared_is_refused(tiny_model, rounded):
    bits = {name: np.full(bank.experts, 3) for name, bank in tiny_model.banks.items()}
    with pytest.raises(ValueError, match=r"asks for widths \[3\]; prepared are \(1, 2, 4, 16\)"), rounded.applied(bits):
        pass


def test_the_vision_tower_does_not_run_again(tiny_model, items):
    calls = []
    hook = tiny_model.model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    try:
        items.measure()
        assert not calls
        encoded = tiny_model.encode(items.samples[:1])
        assert "mm_encoder_outputs" in with_vision_outputs(tiny_model.model, dict(encoded.inputs))
        assert calls
    finally:
        hook.remove()


def test_items_without_an_answer_are_named(tiny_model, tiny_samples):
    with pytest.raises(ValueError, match=rf"1 items have no answer \({tiny_samples[0].id}\)"):
        PreparedItems(tiny_model, [replace(tiny_samples[0], answer=None)])


def test_any_of_several_answers_is_right(bundled_model):
    """Beside the expected answer two more, of which the model says one: right in both evaluators, and KL stays."""
    samples = list(read_samples(BUNDLED / "evaluation")[:80:20])
    said = [answer.given for answer in evaluate(bundled_model, samples).answers]
    wrong = [replace(sample, answer="circle square") for sample in samples]
    several = [replace(sample, other_answers=("no", text)) for sample, text in zip(wrong, said, strict=True)]
    assert evaluate(bundled_model, wrong).accuracy == 0 and evaluate(bundled_model, several).accuracy == 1
    plain, items = PreparedItems(bundled_model, wrong), PreparedItems(bundled_model, several, batch_size=3)
    found, alone = items.measure(), plain.measure()
    assert alone.accuracy.tolist() == [0.0] * 4 and found.accuracy.tolist() == [1.0] * 4
    np.testing.assert_allclose(found.kl, alone.kl, atol=1e-6)
    assert found.agreement.tolist() == alone.agreement.tolist() and items.digest() != plain.digest()
