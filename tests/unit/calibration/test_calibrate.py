"""The sums of a calibration against direct counts, direct forwards, and themselves taken apart.

The model is the tiny random one in float64 where sums of two ways are compared, so that near ties rank alike.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from mode_core.calibration import CalibrationError, CalibrationSettings, calibrate
from mode_core.jobs import Cancelled
from mode_core.models import TEXT, VISION, load_model
from mode_core.probing.probe import Probe
from mode_core.probing.redundancy import bins_at
from mode_core.quantization.grids import fake_quantize
from mode_core.run import Run
from mode_core.samples import ImageSource, Sample
from mode_core.statistics import FOLDS, fold_of

SETTINGS = CalibrationSettings(bits=(2, 4), group_size=16, batch_size=3)
SIGNAL = "text_attention"


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    loaded = load_model(tiny_model_folder, device="cpu")
    loaded.model.double()
    loaded.model.set_experts_implementation("eager")  # the grouped kernel takes no float64
    return loaded


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("calibrated") / "run"


@pytest.fixture(scope="module")
def measured(model, tiny_samples, run_folder):
    return calibrate(model, tiny_samples, SETTINGS, run=Run.create(run_folder))


def direct(model, samples, answers=False):
    """One sample at a time, token by token: (sample, bank, states, experts, weights, output, modality, bins)."""
    for sample in samples:
        rows = []
        encoded = model.encode([sample], answers=answers)
        with Probe(model, (SIGNAL,), rows.append) as probe:
            probe.run(encoded)
        modality = encoded.modality[0].numpy()
        for seen in rows:
            bins = np.full(len(modality), -1)
            vision = np.flatnonzero(modality == VISION)
            scores = seen.importance[SIGNAL][0].numpy()[vision]
            ranked = bins_at(torch.arange(len(vision)), torch.tensor(len(vision)))
            bins[vision[np.argsort(-scores, kind="stable")]] = ranked.numpy()
            yield sample, seen.bank, seen, modality, bins


def said_by_hand(model, sample, most):
    """The most likely token again and again, the whole sequence anew for each."""
    inputs, said = dict(model.encode([sample]).inputs), []
    while len(said) < most and not set(said) & set(model.stops):
        with torch.no_grad():
            said.append(int(model.model(**inputs, use_cache=False).logits[0, -1].argmax()))
        more = torch.tensor([[said[-1]]])
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            if name in inputs:
                tail = {"input_ids": more, "attention_mask": torch.ones_like(more)}.get(name, torch.zeros_like(more))
                inputs[name] = torch.cat([inputs[name], tail], dim=1)
    return model.tokenizer.decode(said, skip_special_tokens=True).strip()


def test_with_own_answers_counts_are_those_of_samples_that_have_them(model, tiny_samples, measured, tmp_path):
    """Whatever answer a sample has is not looked at; the model's own one counts as text, and not as a question."""
    settings = replace(SETTINGS, own_answers=3)
    given = [replace(sample, answer="circle", other_answers=("red",)) for sample in tiny_samples]
    found = calibrate(model, given, settings, run=Run.create(tmp_path / "run"))
    answered = [replace(sample, answer=said_by_hand(model, sample, 3)) for sample in tiny_samples]
    assert sum(len(sample.answer.split()) for sample in answered) >= 4
    counts = {name: {k: 0 * v for k, v in b.arrays.items() if "selections" in k} for name, b in found.banks.items()}
    for sample, bank, seen, modality, bins in direct(model, answered, answers=True):
        fold, vision = fold_of(sample.id), f"vision_selections/{SIGNAL}"
        for token, experts in enumerate(seen.experts.tolist()):
            place = (counts[bank.name]["text_selections"][fold], experts)
            if modality[token] == VISION:
                place = (counts[bank.name][vision][fold], (experts, bins[token]))
            np.add.at(*place, 1)
    for name, bank in found.banks.items():
        for key, expected in counts[name].items():
            np.testing.assert_array_equal(bank.arrays[key], expected)
    assert found.settings["own_answers"] == 3 and "own_answers" not in measured.settings
    more = {name: bank.text("tokens") - measured.banks[name].text("tokens") for name, bank in found.banks.items()}
    assert all(tokens >= len(given) + 4 for tokens in more.values())  # the words and the ends of turn
    assert settings.answering_cost(8).startswith("The model answers every sample first")
    assert not SETTINGS.answering_cost(8)


def test_selections_by_task_equal_a_direct_count(model, tiny_samples, measured, run_folder):
    """Also of samples that name none, and behind the disk; together they are all selections."""
    given = [replace(sample, task=None) if sample.id == "text-1" else sample for sample in tiny_samples]
    found, banks = calibrate(model, given, SETTINGS), list(measured.banks)
    expected = {task: np.zeros((len(banks), 3, 8)) for task in ("", "colour", "text")}
    for sample, bank, seen, modality, _ in direct(model, given):
        for token, kind in enumerate(modality):
            np.add.at(expected[sample.task or ""][banks.index(bank.name), kind - 1], seen.experts[token].tolist(), 1)
    assert found.by_task.keys() == expected.keys()
    assert all(np.array_equal(found.by_task[task], counts) for task, counts in expected.items())
    kept = Run.open(run_folder).statistics
    whole = np.stack([np.stack([bank.text_selections, bank.vision_selections[SIGNAL].sum(axis=-1)]) for bank in kept])
    np.testing.assert_array_equal(sum(kept.by_task.values())[:, :2], whole)


def test_names_that_are_ids_are_no_tasks(tiny_model, tiny_samples, monkeypatch):
    monkeypatch.setattr("mode_core.calibration.task_sums.MOST_TASKS", 2)
    two = tiny_samples[-3:]
    assert calibrate(tiny_model, two, SETTINGS).by_task.keys() == {"colour", "text"}
    assert calibrate(tiny_model, [*two[:2], replace(two[2], task="third")], SETTINGS).by_task == {}


def test_counts_weights_and_tokens_equal_a_direct_count(model, tiny_samples, measured):
    expected = {name: {k: np.zeros_like(v) for k, v in bank.arrays.items()} for name, bank in measured.banks.items()}
    for sample, bank, seen, modality, bins in direct(model, tiny_samples):
        sums, fold = expected[bank.name], fold_of(sample.id)
        for token, kind in enumerate(modality):
            energy, entering = float(seen.output[token].square().sum()), float(seen.states[token].square().sum())
            sums["input_energy"][fold] += entering
            sums["input_tokens"][fold] += 1
            place = (fold,) if kind == TEXT else (fold, bins[token])
            name = "text_{}" if kind == TEXT else f"vision_{{}}/{SIGNAL}"
            sums[name.format("tokens")][place] += 1
            sums[name.format("energy")][place] += energy
            for expert, weight in zip(seen.experts[token].tolist(), seen.weights[token].tolist(), strict=True):
                place = (fold, expert) if kind == TEXT else (fold, expert, bins[token])
                sums[name.format("selections")][place] += 1
                sums[name.format("weight")][place] += weight
    for name, bank in measured.banks.items():
        for key in ("selections", "weight", "tokens", "energy"):
            for full in (f"text_{key}", f"vision_{key}/{SIGNAL}"):
                np.testing.assert_allclose(bank.arrays[full], expected[name][full], rtol=1e-9, err_msg=full)
        for full in ("input_energy", "input_tokens"):
            np.testing.assert_allclose(bank.arrays[full], expected[name][full], rtol=1e-9)
        assert (bank.arrays["text_support"] == bank.arrays["text_selections"]).all()


def slow_expert(bank, gate, up, down, state):
    """One expert on one token, written out: down(silu(gate·x) ∘ up·x)."""
    inner = torch.nn.functional.silu(gate @ state) * (up @ state)
    return down @ inner


def test_errors_equal_a_forward_per_token(model, tiny_samples, measured):
    """‖E(x) − E_b(x)‖² with each of the three matrices rounded by itself; gated by g²."""
    samples = tiny_samples[:2] + tiny_samples[-1:]
    some = calibrate(model, samples, SETTINGS)
    expected = {name: np.zeros([2, *bank.arrays["text_error"].shape[1:]]) for name, bank in some.banks.items()}
    for _, bank, seen, _, _ in direct(model, samples):
        for column, bits in enumerate(SETTINGS.bits):
            rounded = {p: fake_quantize(bank.stacked(p), bits, 16, True) for p in bank.projections}
            for token in range(len(seen.states)):
                for expert, weight in zip(seen.experts[token], seen.weights[token], strict=True):
                    outputs = [
                        slow_expert(bank, *(w[p][expert].float() for p in bank.projections), seen.states[token].float())
                        for w in ({p: bank.stacked(p) for p in bank.projections}, rounded)
                    ]
                    error = float((outputs[0] - outputs[1]).square().sum())
                    expected[bank.name][:, int(expert), column] += error, error * float(weight) ** 2
    for name, bank in some.banks.items():
        for row, key in enumerate(("error", "gated_error")):
            total = bank.text(key) + bank.vision(key, SIGNAL).sum(axis=-1)
            np.testing.assert_allclose(total, expected[name][row], rtol=1e-4, atol=1e-8)


def test_weight_norms_and_errors(model, measured):
    for name, bank in model.banks.items():
        for column, projection in enumerate(("gate", "up", "down")):
            weights = bank.stacked(projection)
            norm = weights.square().sum(dim=(1, 2)).sqrt()
            np.testing.assert_allclose(measured.banks[name].weight_norm[:, column], norm, rtol=1e-9)
            for place, bits in enumerate(SETTINGS.bits):
                error = (weights - fake_quantize(weights, bits, 16, True)).square().sum(dim=(1, 2))
                np.testing.assert_allclose(measured.banks[name].weight_error[:, place, column], error, rtol=1e-6)


def test_at_no_bits_the_error_is_the_whole_output(model, tiny_samples):
    """Width 0 leaves an expert out: ‖E(x)‖² token by token, ‖W‖² of the weights."""
    some = calibrate(model, tiny_samples[:1], CalibrationSettings(bits=(0, 3), group_size=16))
    for _, bank, seen, _, _ in direct(model, tiny_samples[:1]):
        expected = np.zeros(bank.experts)
        for token in range(len(seen.states)):
            for expert in seen.experts[token].tolist():
                matrices = (bank.matrix(p, expert).float() for p in bank.projections)
                expected[expert] += float(slow_expert(bank, *matrices, seen.states[token].float()).square().sum())
        found = some.banks[bank.name]
        total = found.text("error") + found.vision("error", SIGNAL).sum(axis=-1)
        np.testing.assert_allclose(total[:, 0], expected, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(found.weight_error[:, 0], found.weight_norm**2, rtol=1e-6)
        assert (total[:, 1] <= total[:, 0]).all()


@pytest.mark.parametrize("stack_bytes", [0, 1 << 30])
def test_saliency_is_what_the_chosen_experts_add(model, tiny_samples, stack_bytes):
    """w·‖E(x)‖ token by token, for text and vision, however rounded weights are kept; the errors stay as they are."""
    settings = CalibrationSettings(bits=(3,), group_size=16, stack_bytes=stack_bytes)
    some = calibrate(model, tiny_samples[:1], replace(settings, saliency=True))
    assert some.extras == ("saliency",) and some.settings["saliency"] is True
    plain = calibrate(model, tiny_samples[:1], settings)
    assert "saliency" not in plain.settings
    for _, bank, seen, modality, _ in direct(model, tiny_samples[:1]):
        expected = {TEXT: np.zeros(bank.experts), VISION: np.zeros(bank.experts)}
        for token, kind in enumerate(modality):
            for expert, weight in zip(seen.experts[token].tolist(), seen.weights[token].tolist(), strict=True):
                matrices = (bank.matrix(p, expert).float() for p in bank.projections)
                own = slow_expert(bank, *matrices, seen.states[token].float())
                expected[kind][expert] += weight * float(own.norm())
        found = some.banks[bank.name]
        np.testing.assert_allclose(found.text("saliency"), expected[TEXT], rtol=1e-5)
        np.testing.assert_allclose(found.vision("saliency", SIGNAL).sum(axis=-1), expected[VISION], rtol=1e-5)
        for key in ("text_error", "text_gated_error", "text_weight"):
            np.testing.assert_array_equal(found.arrays[key], plain.banks[bank.name].arrays[key])


def test_two_halves_add_up_to_the_whole(model, tiny_samples, measured):
    settings = CalibrationSettings(bits=(2, 4), group_size=16, batch_size=2)
    halves = calibrate(model, tiny_samples[:3], settings) + calibrate(model, tiny_samples[3:], settings)
    assert halves.samples == measured.samples
    for name, bank in measured.banks.items():
        for key, array in bank.arrays.items():
            np.testing.assert_allclose(halves.banks[name].arrays[key], array, rtol=2e-5, atol=1e-9, err_msg=key)


def test_padding_and_batch_size_change_nothing(model, tiny_samples, measured):
    single = calibrate(model, tiny_samples, CalibrationSettings(bits=(2, 4), group_size=16, batch_size=1))
    for name, bank in measured.banks.items():
        for key, array in bank.arrays.items():
            np.testing.assert_allclose(single.banks[name].arrays[key], array, rtol=2e-5, atol=1e-9, err_msg=key)


def test_every_token_selects_k_experts_and_weights_sum_to_one(measured, model, tiny_samples):
    lengths = model.encode(tiny_samples).lengths
    for bank in measured:
        tokens = bank.text("tokens") + bank.vision("tokens", SIGNAL).sum()
        assert tokens == sum(lengths) == bank.input_tokens
        assert bank.text_selections.sum() == 2 * bank.text("tokens")
        np.testing.assert_allclose(bank.vision("selections", SIGNAL).sum(axis=0), 2 * bank.vision("tokens", SIGNAL))
        np.testing.assert_allclose(bank.text_weight.sum(), bank.text("tokens"), rtol=1e-6)
        assert bank.arrays["text_tokens"].shape == (FOLDS,)


def test_frequencies_only_leaves_errors_empty(model, tiny_samples, measured):
    counted = calibrate(model, tiny_samples, CalibrationSettings(bits=(2, 4), group_size=16, sensitivity=False))
    for name, bank in counted.banks.items():
        np.testing.assert_array_equal(bank.text_selections, measured.banks[name].text_selections)
        assert not bank.text_support.any() and not bank.text("error").any()
        np.testing.assert_array_equal(bank.weight_error, measured.banks[name].weight_error)


def test_the_run_holds_it_all(measured, run_folder, tiny_samples):
    run = Run.open(run_folder)
    assert run.state == "done" and run.statistics.digest() == measured.digest()
    assert run.info["samples"]["measured"] == len(tiny_samples) and run.info["refused"] == []
    assert run.info["tokens"]["vision"] == measured.banks[next(iter(measured.banks))].vision("tokens", SIGNAL).sum()
    scores = run.token_scores()
    assert set(scores) == {f"picture-{n}" for n in range(6)}
    records = {record["id"]: record for record in run.sample_records()}
    for sample, entry in scores.items():
        rows, columns = entry.grids[0]
        assert entry.scores[SIGNAL].shape == (2, rows * columns) == (2, records[sample]["vision_tokens"])
        assert entry.banks == tuple(measured.banks)
        with ImageSource("thumbnail", data=open(records[sample]["thumbnails"][0], "rb").read()).load() as small:  # noqa: PTH123
            assert max(small.size) <= 384


def test_cancel_keeps_what_was_measured(model, tiny_samples, tmp_path):
    cancel, run = threading.Event(), Run.create(tmp_path / "run")

    def stop_after_the_first_batch(progress):
        if progress.what.startswith("sample 3 of"):
            cancel.set()

    with pytest.raises(Cancelled):
        calibrate(model, tiny_samples, SETTINGS, run=run, progress=stop_after_the_first_batch, cancel=cancel)
    reopened = Run.open(run.path)
    assert reopened.state == "half done"
    rest = calibrate(model, tiny_samples[3:], SETTINGS)
    whole = reopened.statistics + rest
    assert whole.samples == tuple(sample.id for sample in tiny_samples)


def test_a_run_is_written_meanwhile(model, tiny_samples, tmp_path):
    """A checkpoint is there before the last batch, as after a crash."""
    settings = replace(SETTINGS, checkpoint_samples=3)
    run, states = Run.create(tmp_path / "run"), []

    def look(progress):
        if progress.what.startswith("sample"):
            states.append((Run.open(run.path).state, len(Run.open(run.path).statistics.samples)))

    calibrate(model, tiny_samples, settings, run=run, progress=look)
    assert states == [("half done", 3), ("half done", 6), ("half done", 6)]


def test_a_refused_sample_is_listed_and_the_others_are_measured(model, tiny_samples, tmp_path):
    bad = Sample((), ({"role": "user", "content": "what is <|im_end|> ?"},), id="bad")
    run = Run.create(tmp_path / "run")
    statistics = calibrate(model, [tiny_samples[0], bad, tiny_samples[1]], SETTINGS, run=run)
    assert statistics.samples == (tiny_samples[0].id, tiny_samples[1].id)
    refused = Run.open(run.path).info["refused"]
    assert [entry["sample"] for entry in refused] == ["bad"] and "control token '<|im_end|>'" in refused[0]["reason"]


def test_errors_in_words(model, tiny_samples):
    long = Sample((), ({"role": "user", "content": "red " * 600},), id="long")
    with pytest.raises(CalibrationError, match=r"All 1 samples were refused.*long has 60\d tokens.*at most 512"):
        calibrate(model, [long], SETTINGS)
    with pytest.raises(CalibrationError, match="no samples"):
        calibrate(model, [], SETTINGS)
    with pytest.raises(CalibrationError, match="picture-0 is given twice"):
        calibrate(model, [tiny_samples[0], tiny_samples[0]], SETTINGS)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bits": (4, 2)}, "rising order"),
        ({"bits": (2, 7)}, "different widths"),
        ({"signals": ("attention",)}, "different names of text_attention"),
        ({"group_size": 0}, "at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"token_scores_for": -1}, "token_scores_for must be at least 0; got -1"),
        ({"exemplars": 65}, "exemplars must be 0 to 64"),
    ],
)
def test_settings_that_make_no_sense(changes, text):
    with pytest.raises(ValueError, match=text):
        CalibrationSettings(**changes)


def test_settings_survive_json():
    assert CalibrationSettings.from_dict(SETTINGS.to_dict()) == SETTINGS
