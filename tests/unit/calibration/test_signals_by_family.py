"""Exemplars and the KL of the answer in families that reach their experts in other ways than the bundled model.

Fused experts with biases and attention sinks (gpt-oss), two banks a layer for text and vision (ERNIE-VL), experts that
compute all tokens scaled beforehand (Llama 4), lists of experts in a model with code of its own (Kimi-VL), and Gemma 4.
"""

import numpy as np
import pytest
import torch

from mode_core.calibration import CalibrationSettings, LogitKLSettings, measure_logit_kl
from mode_core.calibration.exemplars import ExemplarSums
from mode_core.models import TEXT, VISION, load_model
from mode_core.probing.probe import Probe
from mode_core.quantization.grids import fake_quantize
from mode_core.samples import Sample
from tests.families.making import DOUBLES, save_family

FAMILIES = ("internvl_gpt_oss", "ernie4_5_vl_moe", "llama4", "kimi_vl", "gemma4")
SETTINGS = CalibrationSettings(bits=(2,), group_size=16, batch_size=2)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    folder = save_family(request.param, tmp_path_factory.mktemp("family") / request.param)
    return load_model(folder, device="cpu", trust_remote_code=request.param in DOUBLES)


def distribution(model, encoded):
    with torch.no_grad():
        return model.model(**encoded.inputs, use_cache=False).logits[0, -1].double().softmax(dim=-1)


def test_kl_is_that_of_the_expert_written_into_the_model(model, tiny_samples):
    """On a text-only sample rounding an expert for text is rounding it."""
    sample = tiny_samples[-1]
    found = measure_logit_kl(model, [sample], SETTINGS, LogitKLSettings(signal="duplication"))
    encoded = model.encode([sample])
    original, checked = distribution(model, encoded), 0
    for bank in model.banks.values():
        measured = found.damage(bank.name, "text")[:, 0]
        support = found.sums[bank.name]["text_logit_kl_support"].sum(axis=0)
        assert (measured[support == 0] == 0).all() and not found.damage(bank.name, "key").any()
        if not support.any():
            continue
        expert = int(support.argmax())
        kept = {projection: bank.matrix(projection, expert).clone() for projection in bank.projections}
        for projection, weights in kept.items():
            bank.matrix(projection, expert).copy_(fake_quantize(weights, 2, 16, True))
        moved = distribution(model, encoded)
        for projection, weights in kept.items():
            bank.matrix(projection, expert).copy_(weights)
        expected = float((original * (original / moved).log()).sum())
        assert measured[expert] == pytest.approx(expected, rel=0.02, abs=1e-7)
        checked += expected > 1e-7
    assert checked and torch.equal(distribution(model, encoded), original)


def test_exemplars_are_the_strongest_choices_of_each_bank(model, tiny_samples):
    """Positions and samples by a plain sort of what the probe saw; places count the whole sample's vision tokens."""
    samples, seen = [tiny_samples[0], tiny_samples[-1]], []
    sums = ExemplarSums(model, 2)

    def both(observation):
        seen.append(observation)
        sums.observe(observation)

    encoded = model.encode(samples)
    with Probe(model, ("duplication",), both) as probe:
        probe.run(encoded)
    found = sums.result()
    length, checked = encoded.modality.shape[1], 0
    start = encoded.inputs["attention_mask"].bool().int().argmax(dim=1).tolist()
    for observation in seen:
        kinds = observation.encoded.modality.ravel()
        for expert in range(observation.bank.experts):
            weights = (observation.weights * (observation.experts == expert)).sum(dim=1)
            patches = found.patches(observation.bank.name, expert)
            place = torch.nonzero((kinds == VISION) & (weights > 0)).ravel()
            best = place[weights[place].argsort(descending=True, stable=True)[:2]]
            assert [p.weight for p in patches] == pytest.approx(weights[best].tolist(), rel=1e-5)
            for patch in patches:
                row = [s.id for s in samples].index(patch.sample)
                vision = torch.nonzero(encoded.modality[row] == VISION).ravel()
                assert int(vision[patch.place]) == patch.position + start[row]
                assert weights[row * length + patch.position + start[row]] == pytest.approx(patch.weight, rel=1e-5)
                checked += 1
            for token in found.text(observation.bank.name, expert):
                row = [s.id for s in samples].index(token.sample)
                position = token.position + start[row]
                assert kinds[row * length + position] == TEXT
                said = model.tokenizer.decode(encoded.inputs["input_ids"][row, position])
                assert token.token.strip() == said.strip()
                checked += 1
    assert checked > 10


def test_several_turns_and_pictures_count_in_every_family(model, tiny_samples):
    """Vision tokens of two pictures in two turns are all counted, in each layer once."""
    turns = (
        {"role": "user", "content": "<image>what is it ?"},
        {"role": "assistant", "content": "a circle"},
        {"role": "user", "content": "is <image> red ?"},
    )
    sample = Sample((tiny_samples[0].images[0], tiny_samples[0].images[0]), turns, id="two")
    one = Sample(tiny_samples[0].images, turns[:1], id="one")
    seen = {}
    with Probe(model, ("duplication",), lambda o: seen.setdefault(o.bank.layer, []).append(o)) as probe:
        probe.run(model.encode([sample, one]))
    for observations in seen.values():
        counts = np.sum([(o.encoded.modality == VISION).sum(dim=1).numpy() for o in observations], axis=0)
        assert counts[0] == 2 * counts[1] > 0
