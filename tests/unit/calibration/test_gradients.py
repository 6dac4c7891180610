"""Gradients of drawn answers against finite differences, a count token by token, and all labels enumerated.

The model is the tiny random one in float64 with the plain loop over experts; answers are at most four tokens.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from mode_core.calibration import CalibrationSettings, calibrate, gradients
from mode_core.calibration.gradients import (
    barred_tokens,
    draw_answers,
    draw_tokens,
    label_projection,
    log_likelihood,
    ordinary,
    random_signs,
    squared_gradients,
)
from mode_core.cli import main
from mode_core.models import TEXT, VISION, load_model
from mode_core.probing.probe import Probe
from mode_core.probing.redundancy import redundancy_bins
from mode_core.quantization.grids import fake_quantize
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics, StatisticsError, fold_of

SIGNAL = "text_attention"
TOKENS, SEED = 4, 3
SETTINGS = CalibrationSettings(
    bits=(2, 4), group_size=16, batch_size=3, gradients=True, gradient_tokens=TOKENS, seed=SEED
)
END = 2  # the tiny model's end of turn


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    loaded = load_model(tiny_model_folder, device="cpu")
    loaded.model.double()
    loaded.model.set_experts_implementation("eager")  # the grouped kernel takes no float64
    return loaded


@pytest.fixture(scope="module")
def measured(model, tiny_samples):
    return calibrate(model, tiny_samples, SETTINGS)


def passes(loaded, samples, draws=1, seed=SEED, drawn=None, temperatures=(1.0, 2.0)):
    """The drawn answers, and bank name → (observation, mean g² `[2, T, H]`)."""
    drawn = drawn or draw_answers(loaded, samples, TOKENS, seed)
    with Probe(loaded, (SIGNAL,), lambda seen: None) as probe:
        return drawn, {
            s.bank.name: (s, g) for s, g in squared_gradients(loaded, probe, drawn, seed, draws, temperatures)
        }


def answer_logits(loaded, drawn, moved=None):
    """Logits `[batch, n, V]` that predict the answers; `moved` = (bank module, `[T, H]`) is added to its output."""
    hooks = []
    if moved is not None:
        hooks.append(moved[0].register_forward_hook(lambda module, inputs, output: output + moved[1]))
    keep = drawn.real.shape[1]
    with torch.no_grad():
        logits = loaded.model(**drawn.encoded.inputs, use_cache=False).logits[:, -keep - 1 : -1]
    for hook in hooks:
        hook.remove()
    return logits.index_fill(-1, torch.tensor(barred_tokens(loaded)), -torch.inf)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradients_are_finite_differences(model, tiny_samples, temperature):
    """Central differences of the projected logits, at 12 random places of each bank's output, seed 0.

    Out of the largest fifth: norms and router compute in float32, which smaller differences drown in.
    """
    drawn, found = passes(model, [tiny_samples[1], tiny_samples[6]], temperatures=(temperature,))
    logits = answer_logits(model, drawn)
    signs = random_signs(drawn.encoded, logits.shape, SEED, 0)
    weights = label_projection(logits, signs, temperature) * drawn.real[..., None]
    known = weights != 0
    choose, step = np.random.default_rng(0), 1e-2
    for seen, squared in found.values():
        places = torch.nonzero(squared[0] > squared[0].quantile(0.8))
        for row, channel in places[choose.choice(len(places), 12, replace=False)].tolist():
            move = torch.zeros(squared.shape[1:], dtype=torch.float64)
            move[row, channel] = step
            up, down = (answer_logits(model, drawn, (seen.bank.module, sign * move)) for sign in (1, -1))
            slope = float((weights[known] * (up - down)[known]).sum()) / (2 * step)
            assert slope**2 == pytest.approx(float(squared[0, row, channel]), rel=1e-2)


def test_projections_average_to_the_sum_over_all_labels(model, tiny_samples, monkeypatch):
    """With five tokens left to say, E[g²] = Σ_v p(v)·g_v² by enumeration of the label; 60 projections come near it."""
    allowed = [END, 20, 25, 30, 35]
    monkeypatch.setattr(gradients, "barred_tokens", lambda loaded: [v for v in range(300) if v not in allowed])
    drawn = draw_answers(model, tiny_samples[6:7], 1, SEED)
    seen = []
    with Probe(model, (SIGNAL,), lambda one: None) as probe:
        made = probe.run(drawn.encoded, seen.append, gradients=True, logits_to_keep=2)
        logits = ordinary(made.logits[:, -2:-1], gradients.barred_tokens(model))
        shares, expected = logits[0, 0].softmax(dim=-1), 0.0
        for token in allowed:
            one = log_likelihood(logits, torch.full([1, 1], token), drawn.real).sum()
            gradient = torch.autograd.grad(one, seen[-1].output, retain_graph=True)[0]
            expected = expected + shares[token].detach() * gradient.square()
    _, found = passes(model, None, draws=60, drawn=drawn)
    averaged = found[seen[-1].bank.name][1][0]
    assert float(averaged.sum()) == pytest.approx(float(expected.sum()), rel=0.15)
    assert np.corrcoef(averaged.ravel(), expected.ravel().detach())[0, 1] > 0.95


@settings(max_examples=20, deadline=None)
@given(some.lists(some.floats(-4, 4), min_size=2, max_size=5), some.floats(1, 5))
def test_projections_over_all_signs_are_the_fisher_information_of_the_logits(logits, temperature):
    """Mean over all 2^V sign patterns of u·uᵀ = (diag(p) − p·pᵀ)/τ², and of u = 0."""
    logits = torch.tensor(logits, dtype=torch.float64)
    patterns = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * len(logits))
    found = label_projection(logits.expand_as(patterns), patterns, temperature)
    shares = (logits / temperature).softmax(dim=-1)
    expected = (shares.diag() - shares[:, None] * shares) / temperature**2
    torch.testing.assert_close(found.mT @ found / len(patterns), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros_like(logits), rtol=0, atol=1e-12)


def test_the_grouped_kernel_gives_the_same_gradients(tiny_model, model, tiny_samples):
    assert tiny_model.model.config.text_config._experts_implementation == "grouped_mm"
    drawn = draw_answers(model, tiny_samples[:2], TOKENS, SEED)
    single = replace(drawn, encoded=tiny_model.encode(tiny_samples[:2], padding_side="left"))
    single = replace(drawn, encoded=gradients._with_answers(single.encoded, drawn.encoded.inputs["input_ids"][
        :, -drawn.real.shape[1] :], drawn.real))  # fmt: skip
    (_, plain), (_, grouped) = passes(model, None, drawn=drawn), passes(tiny_model, None, drawn=single)
    for name, (_, squared) in plain.items():
        other = grouped[name][1]
        assert float((squared.sqrt() - other.sqrt()).norm() / squared.sqrt().norm()) < 0.01


def slow_expert(gate, up, down, state):
    return down @ (torch.nn.functional.silu(gate @ state) * (up @ state))


def test_sums_equal_a_count_token_by_token(model, tiny_samples):
    """Σ_d g_d²·(w·(E(x) − E_b(x)))_d² one token and one expert at a time, each sample alone."""
    tiny_samples = [tiny_samples[0], tiny_samples[5], tiny_samples[6]]
    measured = calibrate(model, tiny_samples, SETTINGS)
    expected = {name: {k: np.zeros_like(v) for k, v in bank.arrays.items()} for name, bank in measured.banks.items()}
    for sample in tiny_samples:
        drawn, found = passes(model, [sample])
        modality = drawn.encoded.modality[0]
        for name, (seen, squared) in found.items():
            bins = redundancy_bins(seen.importance[SIGNAL], drawn.encoded.modality)[0]
            plain = [seen.bank.stacked(p).float() for p in seen.bank.projections]
            rounded = [[fake_quantize(matrix, bits, 16, True) for matrix in plain] for bits in SETTINGS.bits]
            for token in torch.nonzero(modality).ravel().tolist():
                text, fold = modality[token] == TEXT, fold_of(sample.id)
                kind, end, at = ("text", "", ()) if text else ("vision", f"/{SIGNAL}", (int(bins[token]),))
                sums, (weigh, soft) = expected[name], squared[:, token]
                sums[f"{kind}_fisher_tokens{end}"][(fold, *at)] += 1
                sums[f"{kind}_gradient_energy{end}"][(fold, *at)] += float(weigh.sum())
                for expert, gate in zip(seen.experts[token].tolist(), seen.weights[token].tolist(), strict=True):
                    state = seen.states[token].float()
                    outputs = [slow_expert(*(m[expert] for m in w), state) for w in (plain, *rounded)]
                    sums[f"{kind}_fisher_support{end}"][(fold, expert, *at)] += 1
                    for column in range(2):
                        moved = gate * (outputs[0] - outputs[1 + column])
                        at_width = (fold, expert, column, *at)
                        sums[f"{kind}_fisher{end}"][at_width] += float((weigh * moved**2).sum())
                        sums[f"{kind}_soft_fisher{end}"][at_width] += float((soft * moved**2).sum())
    for name, bank in measured.banks.items():
        for key in ("fisher", "soft_fisher", "fisher_support", "fisher_tokens", "gradient_energy"):
            for full in (f"text_{key}", f"vision_{key}/{SIGNAL}"):
                np.testing.assert_allclose(bank.arrays[full], expected[name][full], rtol=1e-3, atol=1e-12, err_msg=full)


def test_all_else_stays_and_key_tokens_are_the_same(model, tiny_samples, measured):
    plain = calibrate(model, tiny_samples, replace(SETTINGS, gradients=False))
    assert plain.extras == () and measured.extras == ("gradients",)
    for name, bank in plain.banks.items():
        for key, array in bank.arrays.items():
            np.testing.assert_array_equal(measured.banks[name].arrays[key], array, err_msg=key)
        with_answers = measured.banks[name]
        np.testing.assert_array_equal(with_answers.vision("fisher_tokens", SIGNAL), bank.vision("tokens", SIGNAL))
        np.testing.assert_array_equal(with_answers.vision("fisher_support", SIGNAL), bank.vision("selections", SIGNAL))
        assert bank.text("tokens") < with_answers.text("fisher_tokens") <= bank.text("tokens") + 8 * TOKENS


def test_batches_and_order_change_nothing(model, tiny_samples, measured):
    turned = calibrate(model, tiny_samples[::-1], replace(SETTINGS, batch_size=2))
    for name, bank in measured.banks.items():
        for key, array in bank.arrays.items():
            np.testing.assert_allclose(turned.banks[name].arrays[key], array, rtol=2e-4, atol=1e-9, err_msg=key)


def test_they_add_up_and_survive_the_disk(model, tiny_samples, measured, tmp_path):
    halves = calibrate(model, tiny_samples[:4], SETTINGS) + calibrate(model, tiny_samples[4:], SETTINGS)
    for name, bank in measured.banks.items():
        np.testing.assert_allclose(halves.banks[name].text("fisher"), bank.text("fisher"), rtol=2e-4)
    measured.save(tmp_path / "s.safetensors")
    assert ExpertStatistics.load(tmp_path / "s.safetensors").digest() == measured.digest()
    plain = calibrate(model, tiny_samples[:1], replace(SETTINGS, gradients=False))
    with pytest.raises(StatisticsError, match="same settings"):
        calibrate(model, tiny_samples[1:2], SETTINGS) + plain
    with pytest.raises(StatisticsError, match="holds gradients in one of the statistics and no extras in the other"):
        next(iter(measured)) + next(iter(plain))


def test_answers_stop_at_the_end_of_turn(model, tiny_samples, monkeypatch):
    """Two tokens left to say, one of them the end: everything behind the first end is padding."""
    monkeypatch.setattr(gradients, "barred_tokens", lambda loaded: [v for v in range(300) if v not in (END, 20)])
    drawn = draw_answers(model, tiny_samples, 12, SEED)
    length = drawn.real.shape[1]
    answers, lengths = drawn.encoded.inputs["input_ids"][:, -length:], drawn.real.sum(dim=1)
    assert len(set(lengths.tolist())) > 1 and length <= 12
    for row, count in enumerate(lengths.tolist()):
        said = answers[row, :count].tolist()
        assert drawn.real[row, :count].all() and set(said[:-1]) <= {20}
        assert said[-1] == END or count == 12
    assert torch.equal(drawn.encoded.inputs["attention_mask"][:, -length:].bool(), drawn.real)
    assert torch.equal(drawn.encoded.modality[:, -length:] == TEXT, drawn.real)
    assert torch.equal(drawn.encoded.answer_mask[:, -length:], drawn.real) and (drawn.encoded.modality == VISION).any()


def test_no_control_token_is_ever_said(model, tiny_samples):
    barred = barred_tokens(model)
    assert END not in barred and set(model.vision_ids) <= set(barred)
    drawn = draw_answers(model, tiny_samples, 12, SEED)
    said = drawn.encoded.inputs["input_ids"][:, -drawn.real.shape[1] :][drawn.real]
    assert not set(said.tolist()) & set(barred)


def test_answers_depend_on_the_seed_and_not_on_the_batch(model, tiny_samples):
    together = draw_answers(model, tiny_samples[:4], TOKENS, SEED)
    answers = together.encoded.inputs["input_ids"][:, -TOKENS:]
    for row, sample in enumerate(tiny_samples[:4]):
        alone = draw_answers(model, [sample], TOKENS, SEED).encoded.inputs["input_ids"][:, -TOKENS:]
        assert torch.equal(alone[0], answers[row])
    other = draw_answers(model, tiny_samples[:4], TOKENS, SEED + 1).encoded.inputs["input_ids"][:, -TOKENS:]
    assert (other != answers).any(dim=1).all()


@settings(max_examples=20, deadline=None)
@given(some.lists(some.floats(-6, 6), min_size=2, max_size=9), some.integers(0, 8))
def test_evenly_spread_numbers_draw_every_token_as_often_as_it_is_likely(logits, barred):
    logits = torch.tensor(logits)
    logits[barred % (len(logits) - 1)] = -torch.inf
    even = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    counts = torch.bincount(draw_tokens(logits.expand(2000, -1), even), minlength=len(logits))
    np.testing.assert_allclose(counts / 2000, logits.softmax(dim=-1), atol=1 / 2000)
    assert counts[barred % (len(logits) - 1)] == 0


def test_the_command_line_keeps_them(tiny_model_folder, tmp_path):
    """The bundled samples' words are unknown to the tiny model; it says something all the same."""
    wanted = ["--limit", "3", "--measure-bits", "2", "4", "--gradients", "--seed", "5", "--quiet", "--json"]
    assert main(["calibrate", "--model", str(tiny_model_folder), "--out", str(tmp_path / "run"), *wanted]) == 0
    run = Run.open(tmp_path / "run")
    assert run.statistics.extras == ("gradients",) and run.info["settings"]["seed"] == 5
    assert next(iter(run.statistics)).text("fisher").sum() > 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"gradient_tokens": 0}, "gradient_tokens must be at least 1; got 0"),
        ({"gradient_temperature": 0.5}, "at least 1; got 0.5"),
        ({"gradients": True, "sensitivity": False}, "leave sensitivity on"),
        ({"hessian_probes": -1}, "hessian_probes must be at least 0; got -1"),
    ],
)
def test_settings_that_make_no_sense(changes, text):
    with pytest.raises(ValueError, match=text):
        CalibrationSettings(**changes)
