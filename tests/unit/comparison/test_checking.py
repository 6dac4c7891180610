"""Rounding in passing against rounding at once, in memory and on disk; a check against sums and slow correlations."""

import json
import threading

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.cli import main
from mode_core.comparison import (
    CheckSettings,
    PreparedItems,
    RoundedExperts,
    RoundedInPassing,
    check_run,
    measure_anchor,
)
from mode_core.comparison.checking import groups_of, passes_of, predicted_damage
from mode_core.importance import METHODS, cost_table
from mode_core.importance.bias import spearman
from mode_core.importance.recommended import BY_EVIDENCE
from mode_core.jobs import Cancelled
from mode_core.models import load_model
from mode_core.models.answering import own_answers
from mode_core.models.offloading import is_offloaded
from mode_core.prediction import Check, CheckError
from mode_core.request import Quantizer
from mode_core.run import Run
from tests.families.making import DOUBLES, save_family

GRID = Quantizer(group_size=16)
SETTINGS = CheckSettings(groups=8, best=1, average_bits=(3.0,), answer_tokens=2, batch_size=4)


def drawn_bits(loaded, widths, seed: int = 0, by_projection: bool = False) -> dict[str, np.ndarray]:
    draw, shape = np.random.default_rng(seed), (2,) if by_projection else ()
    return {name: draw.choice([*widths, 16], (bank.experts, *shape)) for name, bank in loaded.banks.items()}


@pytest.fixture(scope="module")
def run(tiny_model, tiny_samples, tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("check") / "run")
    calibrate(tiny_model, tiny_samples, CalibrationSettings(group_size=16, token_scores_for=0), run=run)
    return run


@pytest.mark.parametrize("by_projection", [False, True])
def test_rounding_in_passing_does_what_rounding_at_once_does(tiny_model, tiny_samples, by_projection):
    items = PreparedItems(tiny_model, tiny_samples, batch_size=3)
    bits = drawn_bits(tiny_model, (1, 2, 4), by_projection=by_projection)
    before = {name: bank.stacked("down").clone() for name, bank in tiny_model.banks.items()}
    with RoundedExperts(tiny_model, (1, 2, 4), GRID).applied(bits):
        at_once = items.measure()
    with RoundedInPassing(tiny_model, (1, 2, 4), 16).applied(bits):
        in_passing = items.measure()
        for name, bank in tiny_model.banks.items():
            assert torch.equal(bank.stacked("down"), before[name]), "between passes the weights are the original"
    assert at_once.kl.max() > 1e-3
    np.testing.assert_allclose(in_passing.kl, at_once.kl, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(items.measure().kl, 0, atol=1e-6)


@pytest.mark.parametrize("name", ["llama4", "kimi_vl"])
def test_weights_on_disk_are_rounded_as_those_in_memory(name, tmp_path):
    """Experts of one fused module that sees scaled inputs, and a list of modules whose layers are read one by one."""
    folder = save_family(name, tmp_path / name)
    trust = {"trust_remote_code": name in DOUBLES}
    whole = load_model(folder, device="cpu", **trust)
    on_disk = load_model(folder, max_memory="400KB", offload_folder=tmp_path / "disk", **trust)
    assert all(is_offloaded(bank.module) for bank in on_disk.banks.values())
    inputs = {"input_ids": torch.arange(3, 9)[None], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    bits, found = drawn_bits(whole, (1, 2)), []
    for loaded in (whole, on_disk):
        with torch.inference_mode(), RoundedInPassing(loaded, (1, 2), 16).applied(bits):
            found.append(loaded.model(**inputs).logits)
    with torch.inference_mode():
        plain = whole.model(**inputs).logits
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert (found[0] - plain).abs().max() > 1e-3
    assert all(is_offloaded(bank.module) for bank in on_disk.banks.values())


def test_a_width_that_was_not_prepared_is_refused(tiny_model):
    bits = {name: np.full(bank.experts, 3) for name, bank in tiny_model.banks.items()}
    rounded = RoundedInPassing(tiny_model, (2,), 16)
    with pytest.raises(ValueError, match=r"asks for widths \[3\]; prepared are \(2,\)"), rounded.applied(bits):
        pass


def test_groups_are_halves_and_their_damage_is_a_sum(run):
    groups = groups_of(run.statistics, 30, seed=1)
    for bank in run.statistics:
        assert (groups[bank.name].sum(axis=1) == bank.shape.experts // 2).all()
        assert 0 < groups[bank.name].mean(axis=0).min() < groups[bank.name].mean(axis=0).max() < 1
    costs = cost_table(run.statistics, "mode_output", bits=(2,))
    direct = [sum(costs[name][groups[name][row], 0].sum() for name in costs) for row in range(30)]
    np.testing.assert_allclose(predicted_damage(run.statistics, "mode_output", groups, 2), direct)
    costs = cost_table(run.statistics, "mode", bits=(2,))  # in every layer's own unit: in means of the bank
    direct = [sum((costs[n][groups[n][row], 0] / costs[n][:, 0].mean()).sum() for n in costs) for row in range(30)]
    np.testing.assert_allclose(predicted_damage(run.statistics, "mode", groups, 2), direct)


def test_a_check_goes_on_after_a_stop_and_is_kept_in_the_run(run, tiny_model, tiny_samples):
    stop, told = threading.Event(), []

    def hook(progress) -> None:
        told.append(progress)
        if progress.what == "groups of experts" and progress.done >= 5:
            stop.set()

    with pytest.raises(Cancelled):
        check_run(run, tiny_model, tiny_samples, SETTINGS, hook, stop)
    assert len(list((run.path / "check").glob("*.safetensors"))) == 5
    assert run.check() is None
    found = check_run(run, tiny_model, tiny_samples, SETTINGS, told.append, info={"command": "here"})
    assert told[-1].done == told[-1].total == passes_of(run.statistics, SETTINGS)
    assert not (run.path / "check").exists()
    kept = Run.open(run.path).check()
    assert kept.info["command"] == "here"
    assert kept.choice == found.choice
    for ranking in found.rankings:
        direct = spearmanr(found.predicted[ranking.method], found.measured[ranking.modality]).statistic
        assert ranking.spearman == pytest.approx(direct, abs=1e-9)
        assert ranking.low <= ranking.high
    assert {one.modality for one in found.rankings} == {"text", "vision", "all"}
    level = {trial.average_bits: trial.kl["all"] for trial in found.trials if trial.method == "uniform"}
    for trial in found.trials:
        assert trial.ratio == pytest.approx(trial.kl["all"] / level[trial.average_bits], rel=1e-6)
    best = min(found.trials, key=lambda trial: trial.ratio)
    assert (found.choice.method, found.choice.shrinkage) == (best.method, best.shrinkage)
    assert "Best measured on this model, 8 samples" in found.choice.why
    assert Run.open(run.path).recommended() == kept.choice
    assert Run.open(run.path).anchor() == kept.anchor
    assert kept.anchor.samples == {"text": 2, "vision": 6, "all": 8}


def test_a_check_of_other_weights_is_not_taken(run, tmp_path):
    kept = Run.open(run.path)
    kept.write_info(dict(kept.info) | {"model": dict(kept.info["model"]) | {"revision": "another"}})
    assert Run.open(run.path).check() is None
    (run.path / "check.json").write_text("{}")
    with pytest.raises(CheckError, match=r"check\.json is JSON, but no check"):
        Run.open(run.path).check()


def test_an_anchor_is_the_kl_of_uniform_widths_to_the_models_own_answers(run, tiny_model, tiny_samples):
    anchor = measure_anchor(tiny_model, run.statistics, tiny_samples, limit=4, answer_tokens=3)
    picked = own_answers(tiny_model, tiny_samples[::2], 3)
    assert [sample.id for sample in picked] == [sample.id for sample in tiny_samples[::2]]
    items = PreparedItems(tiny_model, picked)
    for place, width in enumerate(anchor.widths):
        bits = {name: np.full(bank.experts, width) for name, bank in tiny_model.banks.items()}
        with RoundedExperts(tiny_model, (width,), GRID).applied(bits):
            assert anchor.kl["all"][place] == pytest.approx(items.measure().kl.mean(), rel=1e-3)
    assert anchor.kl["all"][0] > anchor.kl["all"][-1] > 0


def test_settings_that_make_no_sense_are_refused(run):
    with pytest.raises(ValueError, match="groups must be at least 8; got 2"):
        CheckSettings(groups=2)
    with pytest.raises(ValueError, match=r"shrinkage must be numbers in \[0, 1\]"):
        CheckSettings(shrinkage=(1.5,))
    with pytest.raises(CheckError, match="the groups' 7 bits among them"):
        passes_of(run.statistics, CheckSettings(low_bits=7))


def test_the_verb_says_the_cost_and_keeps_the_check(run, tiny_model_folder, tmp_path, capsys):
    line = {"messages": [{"role": "user", "content": "is it red ?"}], "images": [], "task": "t"}
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(line | {"id": str(n)}) for n in range(3)) + "\n", encoding="utf-8")
    asked = ["check", "--run", str(run.path), "--model", str(tiny_model_folder), "--samples", str(path)]
    asked += ["--groups", "8", "--best", "1", "--average-bits", "3", "--answer-tokens", "2", "--json", "--quiet"]
    assert main([*asked, "--cost"]) == 0
    assert "passes over the samples, about" in json.loads(capsys.readouterr().out)["cost of a check"]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == {"text": 3, "all": 3}
    assert told["why"].startswith("Best measured on this model, 3 samples")
    assert "--groups 8" in Check.load(run.path / "check.json").info["command"]


def test_the_bundled_check_agrees_with_every_expert_alone(bundled_run):
    """Sums of the measured truth of single experts put the estimates in the check's order; its intervals hold what they
    say of each, or understate the best, whose sums 64 questions blur."""
    kept, truth = bundled_run.check(), bundled_run.evidence().truth
    low = kept.info["low_bits"]
    groups = groups_of(bundled_run.statistics, 4000, seed=9)
    for kind in ("text", "vision", "all"):
        measured = truth.query("bits == @low and modality == @kind")
        alone = {name: own["kl"].to_numpy(dtype=float) for name, own in measured.groupby("bank")}
        damage = sum(groups[name] @ own for name, own in alone.items())
        rankings = [one for one in kept.rankings if one.modality == kind]
        true = [spearman(predicted_damage(bundled_run.statistics, one.method, groups, low), damage) for one in rankings]
        assert len(rankings) >= 14
        assert spearman(np.array([one.spearman for one in rankings]), np.array(true)) > 0.9
        assert all(
            one.low <= real and (real > 0.5 or real <= one.high) for one, real in zip(rankings, true, strict=True)
        )
    assert kept.choice.method in ("mode_soft_fisher", "soft_fisher")


def test_the_bundled_checks_choice_is_nearly_the_best_of_the_evidence(bundled_run):
    """All items: KL within a tenth of the best shrinkage at both budgets, and below every other estimate's."""
    choice, found = bundled_run.check().choice, bundled_run.evidence("shrinkage_all_items")
    means = found.scores.query("calibration == 0 and task == 'all' and modality == 'all' and metric == 'kl'")
    for bits in (3.0, 2.5):
        own = means[means["average_bits"] == bits].set_index(["method", "scope", "shrinkage"])["value"]
        assert own[choice.method, choice.scope, choice.shrinkage] <= 1.1 * own.min()
        as_they_are = bundled_run.evidence().scores.query(
            "calibration == 0 and task == 'all' and modality == 'all' and metric == 'kl' and average_bits == @bits"
        )
        assert own[choice.method, choice.scope, choice.shrinkage] < as_they_are["value"].min()


def test_the_recommended_figures_are_those_of_the_evidence(bundled_run):
    for one in BY_EVIDENCE:
        found = bundled_run.evidence("shrinkage")
        means = found.scores.query("calibration == -1 and task == 'all' and modality == 'all' and metric == 'kl'")
        at = means.set_index(["method", "scope", "shrinkage", "average_bits"])["value"]
        for bits in (2.5, 3.0):
            own, uniform = at[one.method, one.scope, one.shrinkage, bits], at["uniform", "bank", 0.0, bits]
            assert f"{own:.3f}" in one.why and f"{uniform:.3f}" in one.why
            beside = found.paired.query(
                "method == @one.method and scope == @one.scope and shrinkage == @one.shrinkage and metric == 'kl' and "
                "against == 'uniform' and modality == 'all' and average_bits == @bits"
            ).iloc[0]
            assert beside["high"] < 0 if one is BY_EVIDENCE[0] else beside["low"] < 0 < beside["high"]
        least = at.xs(2.5, level="average_bits").min()
        assert one is not BY_EVIDENCE[0] or at[one.method, one.scope, one.shrinkage, 2.5] <= 1.05 * least


def test_without_gradients_nothing_is_surely_better_than_uniform(bundled_run):
    free = [name for name, method in METHODS.items() if not method.needs and name != "uniform"]
    beside = "against == 'uniform' and metric == 'kl' and modality == 'all' and average_bits in [3, 2.5, 2]"
    for folder, least in (("no_gradients", 24), ("", 30)):
        found = bundled_run.evidence(folder).paired.query(beside)
        found = found[found["method"].isin(free)]
        assert len(found) >= least and not (found["high"] < 0).any()
