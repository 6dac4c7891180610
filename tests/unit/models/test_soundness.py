"""Logits that are not finite are traced to the bank and its experts; and the one way to ask for the last ones."""

import pytest
import torch

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.evaluation import ask, evaluate, record_reference
from mode_core.models import ModelError, load_model
from mode_core.models.answering import generate, generate_plainly
from mode_core.models.last_logits import last_logits
from mode_core.models.soundness import check_logits
from mode_core.samples import Sample
from tests.families.making import save_family

TEXTS = ("is the circle red ?", "how many")
SAMPLES = [Sample((), ({"role": "user", "content": text},), "yes", id=text) for text in TEXTS]
QUICK = CalibrationSettings(bits=(4,), signals=("duplication",), sensitivity=False, exemplars=0)
KINDS = {"native": "qwen3_5_moe", "text only": "mixtral", "remote code": "kimi_vl", "adapter": "llama4"}


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, tmp_path_factory):
    """A tiny model of every kind of family."""
    folder = save_family(KINDS[request.param], tmp_path_factory.mktemp("kind") / "model")
    return load_model(folder, device="cpu", trust_remote_code=request.param == "remote code")


def test_the_last_logits_are_those_of_the_whole_pass(loaded) -> None:
    inputs = loaded.encode(SAMPLES, padding_side="left").inputs
    with torch.inference_mode():
        whole = loaded.model(**inputs, use_cache=False).logits
        for positions in (1, 3):
            kept = last_logits(loaded.model, inputs, positions)
            assert kept.shape[1] == positions and torch.allclose(kept, whole[:, -positions:], atol=1e-5)


def test_every_kind_of_family_is_evaluated(loaded) -> None:
    silent = Sample((), ({"role": "user", "content": "what colour ?"},), None, id="silent")
    reference = record_reference(loaded, [*SAMPLES, silent], max_new_tokens=3)
    scores = evaluate(loaded, [*SAMPLES, silent], reference, max_new_tokens=3)
    assert [answer.kl for answer in scores.answers] == pytest.approx([0.0] * 3, abs=1e-6)
    assert len(ask(loaded, SAMPLES[0], 2).probabilities) <= 2


def test_writing_token_by_token_is_the_models_own_loop(loaded) -> None:
    if not loaded.model.can_generate():
        pytest.skip("its code has no loop of its own")
    own = generate(loaded, SAMPLES, 4, probabilities=True)
    plain = generate_plainly(loaded, loaded.encode(SAMPLES, padding_side="left").inputs, 4)
    assert torch.equal(own.sequences, plain.sequences)
    assert torch.allclose(torch.stack(own.logits), torch.stack(plain.logits), atol=1e-4)


def test_an_expert_that_gives_no_number_is_named(loaded) -> None:
    bank, named = list(loaded.banks.values())[-1], []
    for expert in range(bank.experts):  # those that no answer's position reaches spoil nothing
        matrix = bank.matrix("down", expert)
        kept = matrix.clone()
        matrix[0, 0] = float("nan")
        try:
            evaluate(loaded, SAMPLES, max_new_tokens=1)
        except ModelError as refused:
            named.append(expert)
            assert f": the bank {bank.name}, expert {expert}. Nothing can be measured" in str(refused)
        finally:
            matrix.copy_(kept)
    assert named


def test_numbers_that_break_before_or_behind_the_experts(tiny_model, tiny_samples) -> None:
    encoded = tiny_model.encode(tiny_samples[-2:])
    broken = torch.full((1, 3), float("inf"))
    with pytest.raises(ModelError, match="so it happens behind them"):
        check_logits(tiny_model, broken, encoded.inputs, encoded.ids)
    weight = tiny_model.model.get_input_embeddings().weight
    kept = weight.clone()
    try:
        weight.fill_(float("nan"))
        with pytest.raises(ModelError, match=r"what enters the bank .*layers.0.mlp.experts is not finite already"):
            check_logits(tiny_model, broken, encoded.inputs, encoded.ids)
        with pytest.raises(ModelError, match=r"on the samples text-0, text-1: what enters the bank"):
            calibrate(tiny_model, tiny_samples[-2:], QUICK)
    finally:
        weight.copy_(kept)
    check_logits(tiny_model, torch.zeros(1, 3), encoded.inputs, encoded.ids)
