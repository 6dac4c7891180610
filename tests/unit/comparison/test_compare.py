"""The comparison whole, on the tiny model: what is measured, that it goes on after a stop, and its command line."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.cli import main
from mode_core.comparison import ComparisonSettings, Evidence, compare, fold_draws
from mode_core.comparison.comparing import compare_cost, draws_of
from mode_core.comparison.plan import alone, entries
from mode_core.importance.stacks import ImportanceError
from mode_core.jobs import Cancelled
from mode_core.request import Quantizer
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics

SETTINGS = ComparisonSettings(
    methods=("mode", "frequency", "uniform"),
    average_bits=(3.0, 2.0),
    truth_bits=(2,),
    resamples=200,
    quantizer=Quantizer(group_size=16),
)


@pytest.fixture(scope="module")
def run(tiny_model, tiny_samples, tmp_path_factory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("compare") / "run")
    calibrate(tiny_model, tiny_samples, CalibrationSettings(group_size=16, token_scores_for=0), run=run)
    return run


@pytest.fixture(scope="module")
def draws(run) -> list[ExpertStatistics]:
    return fold_draws(run.statistics, 2)


def test_draws_are_different_halves_that_hold_what_they_should(run, draws):
    first, second = draws
    whole = next(iter(run.statistics))
    for one in draws:
        bank = next(iter(one))
        assert 0 < bank.text("tokens") < whole.text("tokens")
        assert bank.arrays["weight_norm"].shape == whole.arrays["weight_norm"].shape
    assert first.digest() != second.digest()
    with pytest.raises(ValueError, match="cannot be made from"):
        fold_draws(run.statistics, 1000)
    assert draws_of(run, 1000) == ([run.statistics], "one run") and len(draws_of(run, 2)[0]) == 2


def test_a_stopped_comparison_goes_on_and_measures_equal_allocations_once(tiny_model, tiny_samples, draws, tmp_path):
    stop, told = threading.Event(), []
    cost = compare_cost(tiny_model, draws, tiny_samples, SETTINGS)
    assert str(cost).startswith(f"{cost.passes} passes over the samples, about ")

    def hook(progress) -> None:
        told.append(progress)
        if progress.what == "allocations measured" and progress.done >= 5:
            stop.set()

    with pytest.raises(Cancelled):
        compare(tiny_model, draws, tiny_samples, SETTINGS, tmp_path, progress=hook, cancel=stop)
    kept = len(list(tmp_path.glob("*.safetensors")))
    assert kept == 5
    told.clear()
    evidence = compare(tiny_model, draws, tiny_samples, SETTINGS, tmp_path, progress=told.append)
    measuring = [progress for progress in told if progress.what == "allocations measured"]
    assert measuring[0].done == kept + 1
    assert measuring[-1].done == measuring[-1].total == evidence.info["measured"] == cost.passes
    assert evidence.info["measured"] < evidence.info["allocations"] + 16
    assert len(evidence.truth.query("modality == 'all'")) == 16
    uniform = evidence.scores.query("method == 'uniform' and calibration >= 0 and task == 'all'")
    assert (uniform.groupby(["average_bits", "modality", "metric"])["value"].nunique() == 1).all()


def test_every_allocation_keeps_the_budget_and_its_bytes(draws):
    planned = list(entries(draws, SETTINGS))
    assert len(planned) == 2 * 3 * 2
    for entry in planned:
        assert entry.allocation.average_bits <= entry.average_bits + 1e-9
        assert entry.allocation.bytes > 0
        assert entry.allocation.proven_optimal


def test_every_shrinkage_is_measured_but_floors_once(draws):
    planned = list(entries(draws[:1], replace(SETTINGS, shrinkage=(0.0, 1.0))))
    levels = {(entry.method, entry.shrinkage) for entry in planned}
    assert levels == {("mode", 0.0), ("mode", 1.0), ("frequency", 0.0), ("frequency", 1.0), ("uniform", 0.0)}
    bits = {(entry.method, entry.shrinkage, entry.average_bits): entry.allocation.bits for entry in planned}
    for name in bits["mode", 1.0, 2.0]:  # all experts of a bank alike, and the budget a width: uniform
        assert (bits["mode", 1.0, 3.0][name] == 3).all()
        assert (bits["mode", 0.0, 3.0][name] != 3).any()


def test_one_expert_alone_is_one_expert_alone():
    bits = alone({"a": 4, "b": 3}, "b", 1, 2)
    assert bits["a"].tolist() == [16] * 4
    assert bits["b"].tolist() == [16, 2, 16]


@pytest.mark.parametrize(
    "change, text",
    [
        ({"methods": ("best",)}, "no importance method 'best'"),
        ({"average_bits": (5.0,)}, r"average_bits must lie in \[1, 4\]"),
        ({"shrinkage": (0.5, 0.5)}, "shrinkage must be one or more different"),
        ({"shrinkage": (2.0,)}, r"shrinkage must lie in \[0, 1\]; got 2"),
        ({"truth_bits": (7,)}, r"truth_bits \[7\] are not among"),
        ({"request": {"widths": (2, 2)}}, "widths must be different ones"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        ComparisonSettings(**change)


def test_a_method_that_needs_gradients_says_how_to_get_them(draws):
    with pytest.raises(ImportanceError, match="--gradients"):
        ComparisonSettings(methods=("fisher",)).fitted(draws[0])
    assert "mode" in ComparisonSettings().fitted(draws[0]).methods
    assert "fisher" not in ComparisonSettings().fitted(draws[0]).methods


def test_the_verb_leaves_evidence_in_the_run(run, tiny_model_folder, tiny_samples, tmp_path, capsys):
    lines = [
        {"messages": [{"role": "user", "content": f"is it red {n} ?"}], "images": [], "answer": "yes", "task": "t"}
        for n in range(3)
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    asked = [
        "--methods",
        "mode",
        "uniform",
        "--average-bits",
        "2",
        "--truth-bits",
        "--resamples",
        "100",
        "--shrinkage",
        "0",
        "0.5",
    ]
    place = ["--runs", str(run.path), "--model", str(tiny_model_folder), "--samples", str(path), "--draws", "2"]
    assert main(["compare", *place, *asked, "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["items_text"] == 3
    evidence = Run.open(run.path).evidence()
    assert isinstance(evidence, Evidence)
    assert evidence.info["command"].startswith("python -m mode_core compare --runs")
    assert set(evidence.scores["method"]) == {"mode", "uniform"}
    assert np.isfinite(evidence.scores["value"]).all()
    assert evidence.ranking.empty
    assert set(zip(evidence.scores["method"], evidence.scores["shrinkage"], strict=True)) == {
        ("mode", 0.0), ("mode", 0.5), ("uniform", 0.0)
    }  # fmt: skip
