"""KL of one rounded expert against a whole model with that expert rewritten, modality by modality. Float64 weights."""

import threading

import numpy as np
import pytest
import torch

from mode_core.calibration import CalibrationError, CalibrationSettings, calibrate
from mode_core.calibration.logit_kl import LogitKL, LogitKLSettings, logit_kl_cost, measure_logit_kl, without_kl
from mode_core.jobs import Cancelled
from mode_core.models import TEXT, VISION, load_model
from mode_core.probing.redundancy import bins_at, query_positions
from mode_core.quantization.grids import fake_quantize
from mode_core.samples import Sample
from mode_core.statistics import ExpertStatistics, fold_of

CALIBRATION = CalibrationSettings(bits=(0, 2), group_size=16, batch_size=2)
BANKS = ("model.language_model.layers.0.mlp.experts", "model.language_model.layers.2.mlp.experts")


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    loaded = load_model(tiny_model_folder, device="cpu")
    loaded.model.double()
    loaded.model.set_experts_implementation("eager")
    return loaded


@pytest.fixture(scope="module")
def few(tiny_samples):
    """Two pictures and one text without; so no expert of the tiny model is spared by all."""
    return [tiny_samples[0], tiny_samples[2], tiny_samples[6]]


@pytest.fixture(scope="module")
def measured(model, few) -> LogitKL:
    return measure_logit_kl(model, few, CALIBRATION, LogitKLSettings(key_ratio=0.5, batch_size=2))


def slow_bank(model, bank, expert, weights, use):
    """A forward of the bank in plain loops in which tokens marked in `use` find `expert` with other weights."""

    def forward(states, chosen, gates):
        output = torch.zeros_like(states)
        for token in range(len(states)):
            for e, g in zip(chosen[token].tolist(), gates[token], strict=True):
                w = [bank.stacked(p)[e] for p in ("gate", "up", "down")]
                if e == expert and use[token]:
                    w = [m[e] for m in weights]
                gate, up, down = w
                output[token] += g * (down @ (torch.nn.functional.silu(gate @ states[token]) * (up @ states[token])))
        return output

    return forward


def key_positions(model, encoded, layer, share):
    """The max(1, floor(share·N)) vision tokens that the layer's eager text attention looks at most."""
    config = model.model.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, "eager"
    with torch.no_grad():
        attention = model.model(**encoded.inputs, output_attentions=True).attentions[layer][0].mean(dim=0)
    config._attn_implementation = before
    vision = torch.nonzero(encoded.modality[0] == VISION).ravel()
    scores = attention[query_positions(encoded)[0]].mean(dim=0)[vision]
    size = max(1, int(share * len(vision)))
    return vision[scores.argsort(descending=True)[:size]]


def last_distribution(model, encoded):
    with torch.no_grad():
        return model.model(**encoded.inputs).logits[0, -1].double().softmax(dim=-1)


@pytest.mark.parametrize("busiest", ["text", "key"])
@pytest.mark.parametrize("bank_name", BANKS)
def test_one_expert_rewritten_for_one_modality(model, few, measured, monkeypatch, bank_name, busiest):
    """Each sample by itself; the whole forward of the bank is replaced by loops over tokens. Behind the last bank the
    vision tokens cannot move the answer at the last position any more."""
    bank, sums = model.banks[bank_name], measured.sums[bank_name]
    expert = int(sums[f"{busiest}_logit_kl_support"].sum(axis=0).argmax())
    expected = {"text": np.zeros([8, 2]), "key": np.zeros([8, 2])}
    for sample in few:
        encoded = model.encode([sample])
        original = last_distribution(model, encoded)
        use = {"text": encoded.modality[0] == TEXT, "key": torch.zeros_like(encoded.modality[0], dtype=torch.bool)}
        if sample.images:
            use["key"][key_positions(model, encoded, bank.layer, 0.5)] = True
        for column, bits in enumerate((0, 2)):
            stacks = [bank.stacked(p) for p in ("gate", "up", "down")]
            weights = [fake_quantize(w, bits, 16, True) if bits else torch.zeros_like(w) for w in stacks]
            for kind, mask in use.items():
                with monkeypatch.context() as patch:
                    patch.setattr(bank.module, "forward", slow_bank(model, bank, expert, weights, mask))
                    moved = last_distribution(model, encoded)
                kl = float((original * (original / moved).log()).sum())
                expected[kind][fold_of(sample.id), column] += kl
    for kind in ("text", "key"):
        np.testing.assert_allclose(sums[f"{kind}_logit_kl"][:, expert], expected[kind], rtol=2e-3, atol=1e-9)
    if bank_name == BANKS[0]:
        assert sums[f"{busiest}_logit_kl"][:, expert].sum() > 1e-6


def test_support_and_samples_are_direct_counts(model, few, measured):
    assert measured.samples == [sample.id for sample in few]
    for bank in BANKS:
        sums = measured.sums[bank]
        assert sums["text_logit_kl_samples"].sum() == 3 and sums["key_logit_kl_samples"].sum() == 2
        tokens = sum(int((model.encode([s]).modality == TEXT).sum()) for s in few)
        assert sums["text_logit_kl_support"].sum() == 2 * tokens
        keys = sum(int((bins_at(torch.arange(n), torch.tensor(n)) < 50).sum()) for n in (16, 36))
        assert sums["key_logit_kl_support"].sum() == 2 * keys
        assert (sums["key_logit_kl"][sums["key_logit_kl_support"] == 0] == 0).all()
        np.testing.assert_allclose(measured.damage(bank, "key"), sums["key_logit_kl"].sum(axis=0) / 2)


def test_answer_positions_are_the_mean_over_the_answer(model, few):
    """With a one-token answer the first answer position is the last of the prompt."""
    settings = LogitKLSettings(key_ratio=0.5, positions="answers", batch_size=2)
    found = measure_logit_kl(model, few[:2], CALIBRATION, settings)
    last = measure_logit_kl(model, few[:2], CALIBRATION, LogitKLSettings(key_ratio=0.5, batch_size=2))
    for bank in BANKS:
        np.testing.assert_allclose(found.damage(bank, "key"), last.damage(bank, "key"), rtol=1e-6)


def test_every_position_of_the_answer_counts_alike(model):
    """Three answer tokens of a text-only sample, each predicted one position before it; the expert rewritten whole."""
    sample = Sample((), ({"role": "user", "content": "what is it ?"},), "red circle yes", id="long")
    settings = LogitKLSettings(positions="answers", signal="duplication")
    found = measure_logit_kl(model, [sample], CALIBRATION, settings)
    encoded = model.encode([sample], answers=True)
    places = [p - 1 for p in torch.nonzero(encoded.answer_mask[0]).ravel().tolist()]
    assert len(places) == 3
    bank = model.banks[BANKS[0]]
    expert = int(found.sums[BANKS[0]]["text_logit_kl_support"].sum(axis=0).argmax())

    def distributions():
        with torch.no_grad():
            return model.model(**encoded.inputs).logits[0, places].double().softmax(dim=-1)

    original = distributions()
    kept = {p: bank.matrix(p, expert).clone() for p in bank.projections}
    for p, weights in kept.items():
        bank.matrix(p, expert).copy_(fake_quantize(weights, 2, 16, True))
    moved = distributions()
    for p, weights in kept.items():
        bank.matrix(p, expert).copy_(weights)
    each = (original * (original / moved).log()).sum(dim=1)
    assert found.damage(BANKS[0], "text")[expert, 1] == pytest.approx(float(each.mean()), rel=2e-3)
    assert (each > 0).sum() >= 2


def test_it_goes_on_where_it_stopped_and_adds_up(model, few, measured):
    settings, cancel = LogitKLSettings(key_ratio=0.5, batch_size=1), threading.Event()
    kept = LogitKL.empty(model, CALIBRATION.bits, settings)

    def stop_in_the_second_batch(progress):
        if progress.what.startswith("KL, batch 2"):
            cancel.set()

    with pytest.raises(Cancelled):
        measure_logit_kl(model, few, CALIBRATION, settings, stop_in_the_second_batch, cancel, kept)
    assert kept.samples == [few[0].id]
    measure_logit_kl(model, few, CALIBRATION, settings, kept=kept)
    assert kept.samples == measured.samples
    for bank in BANKS:
        for key, array in measured.sums[bank].items():
            np.testing.assert_allclose(kept.sums[bank][key], array, rtol=1e-5, atol=1e-10, err_msg=key)


def test_the_cost_is_told_first_and_kept(model, few, measured):
    cost = logit_kl_cost(model, few, CALIBRATION.bits, LogitKLSettings(batch_size=2))
    assert cost.passes == 2 * (2 + 2 * 2 + 2 * 2 * 16) and cost.seconds == pytest.approx(
        cost.passes * cost.seconds_per_pass
    )
    assert 0 < measured.passes <= cost.passes
    assert str(cost).startswith(f"at most {cost.passes} forward passes, at most about ")


def test_it_is_stored_with_the_statistics_and_adds_up(model, few, measured, tmp_path):
    whole = calibrate(model, few, CALIBRATION)
    held = measured.added_to(whole)
    assert held.extras == ("logit_kl",) and whole.extras == ()
    held.save(tmp_path / "s.safetensors")
    again = ExpertStatistics.load(tmp_path / "s.safetensors")
    assert again.digest() == held.digest() and again.settings["logit_kl"]["key_ratio"] == 0.5
    plain, kl = without_kl(held)
    assert plain.digest() == whole.digest() and kl.settings.key_ratio == 0.5
    assert kl.added_to(plain).digest() == held.digest() and without_kl(whole) == (whole, None)
    halves = []
    for part in (few[:2], few[2:]):
        kl = measure_logit_kl(model, part, CALIBRATION, LogitKLSettings(key_ratio=0.5, batch_size=2))
        halves.append(kl.added_to(calibrate(model, part, CALIBRATION)))
    both = halves[0] + halves[1]
    for bank in BANKS:
        np.testing.assert_allclose(both.banks[bank].key_logit_kl, held.banks[bank].key_logit_kl, rtol=1e-6)
    with pytest.raises(CalibrationError, match="other banks or widths"):
        measured.added_to(calibrate(model, few[:1], CalibrationSettings(bits=(2,), group_size=16)))


def test_refusals(model, few):
    with pytest.raises(CalibrationError, match="no samples"):
        measure_logit_kl(model, [], CALIBRATION)
    for changes, words in (
        ({"positions": "all"}, "last, answers"),
        ({"key_ratio": 0.001}, "whole per cents"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            LogitKLSettings(**changes)
