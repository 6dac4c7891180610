"""Evaluation of a real (tiny) model against one sample at a time, without batches, padding or caches."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from mode_core.allocation.records import Allocation
from mode_core.errors import QuantizationError
from mode_core.evaluation import ReferenceMissing, ask, evaluate, record_reference
from mode_core.evaluation import reference as recording
from mode_core.jobs import Cancelled
from mode_core.quantization import quantize_experts


def uniform(loaded, bits: int) -> Allocation:
    widths = {name: np.full(bank.experts, bits) for name, bank in loaded.banks.items()}
    return Allocation(widths, (bits,), 0.0, 0.0, False, 0.0, float(bits))


def slow_answer(loaded, sample, count: int) -> tuple[list[int], list[float]]:
    """Greedy tokens and their probabilities by running the whole sequence anew for every token."""
    inputs = dict(loaded.encode([sample]).inputs)
    tokens, shares = [], []
    for _ in range(count):
        with torch.no_grad():
            logits = loaded.model(**inputs, use_cache=False).logits[0, -1].double()
        token = int(logits.argmax())
        tokens.append(token)
        shares.append(float(logits.softmax(dim=-1)[token]))
        if token == loaded.processor.tokenizer.eos_token_id:
            break
        for name, fill in (("input_ids", token), ("attention_mask", 1), ("mm_token_type_ids", 0)):
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], torch.full((1, 1), fill)], dim=1)
    return tokens, shares


def slow_log_probabilities(loaded, sample) -> tuple[np.ndarray, list[int]]:
    """Log-probabilities `[n, V]` that predict the answer and its end, and these tokens; one sample, all logits."""
    encoded = loaded.encode([sample], answers=True)
    with torch.no_grad():
        logits = loaded.model(**encoded.inputs).logits[0].double()
    length = encoded.lengths[0]
    count = int(encoded.answer_mask.sum()) + 1  # and the end of the turn
    tokens = encoded.inputs["input_ids"][0, length - count : length].tolist()
    return logits[length - count - 1 : length - 1].log_softmax(dim=-1).numpy(), tokens


def test_greedy_answers_equal_one_by_one(tiny_model, tiny_samples) -> None:
    tokenizer = tiny_model.processor.tokenizer
    scores = evaluate(tiny_model, tiny_samples, batch_size=3, max_new_tokens=4)
    assert [answer.id for answer in scores.answers] == [sample.id for sample in tiny_samples]
    for sample, answer in zip(tiny_samples, scores.answers, strict=True):
        tokens, _ = slow_answer(tiny_model, sample, 4)
        assert answer.given == tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert answer.modality == ("vision" if sample.images else "text")
        assert (answer.task, answer.expected) == (sample.task, sample.answer)


def test_ask_gives_tokens_and_their_probabilities(tiny_model, tiny_samples) -> None:
    for sample in (tiny_samples[1], tiny_samples[-1]):
        tokens, shares = slow_answer(tiny_model, sample, 3)
        answer = ask(tiny_model, sample, max_new_tokens=3)
        special = set(tiny_model.processor.tokenizer.all_special_ids)
        shown = [place for place, token in enumerate(tokens) if token not in special]
        assert answer.tokens == tuple(tiny_model.processor.tokenizer.decode([tokens[place]]) for place in shown)
        assert answer.probabilities == pytest.approx([shares[place] for place in shown], rel=1e-4)


def test_expected_answers_are_recognised(tiny_model, tiny_samples) -> None:
    said = [answer.given for answer in evaluate(tiny_model, tiny_samples, max_new_tokens=3).answers]
    right = [replace(s, answer=text.upper() or "red") for s, text in zip(tiny_samples, said, strict=True)]
    scores = evaluate(tiny_model, right, max_new_tokens=3)
    assert [answer.correct for answer in scores.answers] == [text != "" for text in said]
    assert any(said)


def test_kl_agreement_and_perplexity_equal_one_by_one(tiny_model, tiny_samples) -> None:
    before = [slow_log_probabilities(tiny_model, sample) for sample in tiny_samples]
    reference = record_reference(tiny_model, tiny_samples, batch_size=3)
    assert reference.exact
    same = evaluate(tiny_model, tiny_samples, reference, batch_size=3)
    assert same.kl == pytest.approx(0, abs=1e-6)
    assert same.agreement == 1.0
    with quantize_experts(tiny_model, uniform(tiny_model, 2), group_size=32):
        scores = evaluate(tiny_model, tiny_samples, reference, batch_size=5)
        after = [slow_log_probabilities(tiny_model, sample) for sample in tiny_samples]
        with pytest.raises(QuantizationError, match="quantized now"):
            record_reference(tiny_model, tiny_samples)
    for answer, (original, tokens), (now, _) in zip(scores.answers, before, after, strict=True):
        expected = stats.entropy(np.exp(original), np.exp(now), axis=1)
        assert answer.kl == pytest.approx(expected.mean(), rel=1e-3, abs=1e-7)
        assert answer.agreement == (original.argmax(axis=1) == now.argmax(axis=1)).mean()
        assert answer.answer_tokens == len(tokens) >= 2
        assert answer.answer_loss == pytest.approx(-now[range(len(tokens)), tokens].sum(), rel=1e-4)
    losses, counts = zip(*((a.answer_loss, a.answer_tokens) for a in scores.answers), strict=True)
    assert scores.perplexity == pytest.approx(np.exp(sum(losses) / sum(counts)))
    assert scores.kl > 1e-4


def test_samples_without_answers_are_measured_at_the_originals_own(tiny_model, tiny_samples) -> None:
    silent = [replace(sample, answer=None) for sample in tiny_samples[:3]]
    reference = record_reference(tiny_model, silent, max_new_tokens=3)
    said = [answer.given for answer in evaluate(tiny_model, silent, max_new_tokens=3).answers]
    assert [reference.answers[sample.id].answer for sample in silent] == said
    scores = evaluate(tiny_model, silent, reference, max_new_tokens=3)
    assert scores.kl == pytest.approx(0, abs=1e-6)
    assert scores.agreement == 1.0
    assert scores.accuracy is scores.perplexity is None


def test_a_persons_own_samples_with_and_without_answers_together(tiny_model, tiny_samples) -> None:
    mixed = [replace(sample, answer=None) if place % 2 else sample for place, sample in enumerate(tiny_samples)]
    reference = record_reference(tiny_model, mixed, max_new_tokens=3)
    with quantize_experts(tiny_model, uniform(tiny_model, 2), group_size=32):
        scores = evaluate(tiny_model, mixed, reference, batch_size=3, max_new_tokens=3)
    for sample, answer in zip(mixed, scores.answers, strict=True):
        assert (answer.correct is None) == (answer.answer_loss is None) == (sample.answer is None)
        assert answer.kl >= 0
        assert 0 <= answer.agreement <= 1
    assert set(scores.accuracy_by_modality) == set(scores.kl_by_modality) == {"text", "vision"}
    alone = evaluate(tiny_model, mixed[1:2], max_new_tokens=3)  # neither an answer nor the original: what it says
    assert alone.answers[0].kl is alone.accuracy is alone.perplexity is None


def test_large_vocabularies_keep_the_likely_tokens_and_a_lower_bound(tiny_model, tiny_samples, monkeypatch) -> None:
    whole = record_reference(tiny_model, tiny_samples)
    monkeypatch.setattr(recording, "WHOLE_VOCABULARY", 10)
    found = {}
    for kept in (1, 50, 299):
        monkeypatch.setattr(recording, "KEPT_TOKENS", kept)
        found[kept] = record_reference(tiny_model, tiny_samples)
        assert not found[kept].exact
    assert found[50].nbytes < whole.nbytes / 2
    with quantize_experts(tiny_model, uniform(tiny_model, 2), group_size=32):
        exact = evaluate(tiny_model, tiny_samples, whole)
        bounds = {kept: evaluate(tiny_model, tiny_samples, reference) for kept, reference in found.items()}
    assert exact.kl_exact
    assert not bounds[50].kl_exact
    for place, answer in enumerate(exact.answers):
        chain = [bounds[kept].answers[place].kl for kept in (1, 50, 299)]
        assert chain[0] <= chain[1] * (1 + 1e-3) + 1e-6
        assert chain[1] <= chain[2] * (1 + 1e-3) + 1e-6
        assert chain[2] == pytest.approx(answer.kl, rel=1e-2, abs=1e-5)  # one token is missing: nothing is merged
        assert bounds[50].answers[place].agreement == answer.agreement


def test_progress_cancel_and_refusals(tiny_model, tiny_samples) -> None:
    seen, stop = [], threading.Event()

    def hook(progress) -> None:
        seen.append((progress.done, progress.total))
        stop.set()

    with pytest.raises(Cancelled):
        evaluate(tiny_model, tiny_samples, progress=hook, cancel=stop, batch_size=3)
    assert seen == [(3, 8)]
    with pytest.raises(ValueError, match="no samples"):
        evaluate(tiny_model, [])
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        evaluate(tiny_model, tiny_samples, batch_size=0)
    reference = record_reference(tiny_model, tiny_samples[:2])
    with pytest.raises(ReferenceMissing, match="lacks 6 of the samples"):
        evaluate(tiny_model, tiny_samples, reference)
    other = replace(tiny_samples[0], answer="blue")
    with pytest.raises(ReferenceMissing, match="'red' and now has 'blue'"):
        evaluate(tiny_model, [other], reference)
