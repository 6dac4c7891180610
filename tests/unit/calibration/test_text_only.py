"""Runs without vision tokens: a model that reads text only, and text-only samples of one that reads pictures too."""

import json

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.calibration import (
    SIGNALS,
    CalibrationError,
    CalibrationSettings,
    LogitKLSettings,
    calibrate,
    measure_logit_kl,
)
from mode_core.cli import main
from mode_core.importance import METHODS, cost_table, frequencies, frequency_intervals, support, support_summary
from mode_core.importance.bias import jensen_shannon, starved
from mode_core.models import load_model
from mode_core.run import Run
from mode_core.samples import Sample
from tests.conftest import tiny_tokenizer

TEMPLATE = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
QUESTIONS = (
    "is the circle red ?",
    "how many colour are there , 1 2 3 ?",
    "what is it ?",
    "are there a square a triangle ?",
    "what colour is the square ?",
    "no",
)
SETTINGS = CalibrationSettings(bits=(2, 3, 4), group_size=16, signals=tuple(SIGNALS), batch_size=3)
NO_VISION = {"vision", "key", "redundant"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved Qwen3-MoE with random weights (seed 0): text only, 2 banks × 8 experts."""
    import torch

    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        moe_intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("text-only") / "tiny-qwen3-moe"
    Qwen3MoeForCausalLM(config).save_pretrained(place)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def texts():
    return [Sample((), ({"role": "user", "content": q},), "red", id=f"text-{n}") for n, q in enumerate(QUESTIONS)]


@pytest.fixture(scope="module", params=["text model", "text samples"])
def statistics(request, model, tiny_model, texts):
    return calibrate(model if request.param == "text model" else tiny_model, texts, SETTINGS)


@pytest.mark.parametrize("signal", [*SIGNALS, "none"])
def test_frequencies_say_that_there_are_no_vision_tokens(statistics, signal):
    for bank, found in frequencies(statistics, signal=signal).items():
        assert found.empty == NO_VISION
        counts = statistics.banks[bank].text_selections
        np.testing.assert_allclose(found.text, counts / counts.sum())
        np.testing.assert_allclose(found.all, found.text)
        assert found.text.sum() == pytest.approx(1) and (found.vision == 1 / 8).all()


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.needs])
def test_every_method_allocates_by_text_alone(statistics, method):
    costs = cost_table(statistics, method)
    allocation = allocate(costs, average_bits=3.0)
    assert allocation.proven_optimal and allocation.average_bits <= 3.0
    if method not in ("random", "uniform", "mopeq"):
        other = cost_table(statistics, method, vision_weight=5.0, key_ratio=0.9)
        for bank, table in costs.items():
            np.testing.assert_allclose(other[bank], table, err_msg="what is not there must not weigh")


def test_the_ablation_by_frequency_counts_text_alone(statistics):
    for bank, found in frequencies(statistics).items():
        costs = cost_table(statistics, "frequency_only", bits=(2,))[bank]
        np.testing.assert_allclose(costs[:, 0], found.text / 16)


def test_intervals_and_support_say_nothing_of_vision(statistics):
    for shares in frequencies(statistics).values():
        assert {"vision", "key", "redundant"} == shares.empty and jensen_shannon(shares.text, shares.all) == 0
        assert not starved(shares.text, shares.all).any()
    intervals = next(iter(frequency_intervals(statistics).values()))
    assert np.isfinite(intervals["text"].low).all()
    summary = support_summary(support(statistics))
    assert summary["no_key_vision_tokens"] == summary["experts"] == 16


def test_exemplars_and_scores_hold_text_only(model, texts, tmp_path):
    run = Run.create(tmp_path / "run")
    statistics = calibrate(model, texts, SETTINGS, run=run)
    found = run.exemplars()
    banks = [(bank.name, expert) for bank in statistics for expert in range(8)]
    assert any(found.text(*place) for place in banks) and not any(found.patches(*place) for place in banks)
    assert run.token_scores() == {} and run.sample_records()[0]["vision_tokens"] == 0


def test_kl_of_the_answer_without_vision(model, texts):
    settings = CalibrationSettings(bits=(2, 4), group_size=16, batch_size=3)
    kl = measure_logit_kl(model, texts[:3], settings, LogitKLSettings(batch_size=3))
    held = kl.added_to(calibrate(model, texts[:3], settings))
    for bank in held.banks:
        assert not kl.damage(bank, "key").any() and kl.damage(bank, "text").any()
    costs = cost_table(held, "mode_logit_kl", bits=(2, 4))
    assert allocate(costs, average_bits=3.0, scope="model").proven_optimal


def test_a_picture_is_refused_in_words(model, tiny_samples):
    with pytest.raises(CalibrationError, match=r"has a picture .* but this model reads text only"):
        calibrate(model, tiny_samples[:1], SETTINGS)


def test_the_command_line(folder, tmp_path, capsys):
    samples = tmp_path / "texts.jsonl"
    lines = [json.dumps({"images": [], "text": question}) for question in QUESTIONS]
    samples.write_text("\n".join(lines), encoding="utf-8")
    out = ["--out", str(tmp_path / "run"), "--json", "--quiet"]
    assert main(["calibrate", "--model", str(folder), "--samples", str(samples), *out]) == 0
    assert json.loads(capsys.readouterr().out)["vision_tokens"] == "no vision tokens"
    assert main(["allocate", "--run", str(tmp_path / "run"), "--average-bits", "2.5", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["support"]["no_key_vision_tokens"] == 16
