"""The bundled model: its size, its shape, and that it really answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sample_data
from mode_core.evaluation import evaluate
from mode_core.models import LoadedModel, load_model
from mode_core.quantization import quantize_experts
from mode_core.samples import read_samples
from sample_data.measure import expert_usage, uniform

FOLDER = Path(sample_data.__file__).parent


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(FOLDER / "model", device="cpu")


def test_everything_together_is_small() -> None:
    assert (FOLDER / "model" / "model.safetensors").stat().st_size <= 12e6
    kept = [path for path in FOLDER.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    assert sum(path.stat().st_size for path in kept if path.suffix != ".pyc") < 20e6


def test_its_banks_are_what_the_method_needs(loaded: LoadedModel) -> None:
    assert 4 <= len(loaded.banks) <= 6
    for bank in loaded.banks.values():
        assert bank.experts == 32
        assert 2 * bank.intermediate != bank.hidden
        assert bank.intermediate % 32 == bank.hidden % 32 == 0
    assert loaded.model.config.text_config.num_experts_per_tok >= 2


def test_it_answers_and_two_bits_cost(loaded: LoadedModel) -> None:
    samples = read_samples(FOLDER / "evaluation")[::20]
    before = evaluate(loaded, samples)
    with quantize_experts(loaded, uniform(loaded, 2)):
        after = evaluate(loaded, samples)
    assert before.accuracy >= 0.85
    assert after.accuracy <= before.accuracy - 0.05


def test_calibration_is_mostly_vision_and_text_uses_other_experts(loaded: LoadedModel) -> None:
    usage = expert_usage(loaded, read_samples(FOLDER / "calibration")[:16])
    assert usage.vision_share >= 0.75
    assert np.median(list(usage.divergences().values())) > 0.1


def test_it_is_stored_in_bfloat16(loaded: LoadedModel) -> None:
    assert loaded.dtype == torch.bfloat16
