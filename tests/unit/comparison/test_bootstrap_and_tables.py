"""Intervals against a direct slow loop with the same redrawings; tables against plain averages."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.comparison.items import ItemScores
from mode_core.comparison.ranking import ranking_table, truth_table
from mode_core.comparison.settings import ComparisonSettings
from mode_core.comparison.tables import Measured, score_tables
from mode_core.importance import cost_table
from mode_core.request import AllocationRequest
from mode_core.runs.evidence import TABLES, WORDS, Evidence, EvidenceError
from tests.synthetic import synthetic_statistics

TASKS = np.array(["a"] * 6 + ["b"] * 4 + ["c"] * 5)
MODALITIES = np.array(["text"] * 10 + ["vision"] * 5)
STRATA = [f"{task}|{modality}" for task, modality in zip(TASKS, MODALITIES, strict=True)]


def slow_means(values: np.ndarray, mask: np.ndarray, redrawn: Resamples) -> np.ndarray:
    """Mean over redrawn draws and items, item by item: values `[D, n]` → `[R]`."""
    found = []
    for items, draws in zip(redrawn.items.astype(int), redrawn.draws.astype(int), strict=True):
        picked = [place for place in np.flatnonzero(mask) for _ in range(items[place])]
        own = [
            np.mean([values[draw][place] for place in picked])
            for draw in range(len(values))
            for _ in range(draws[draw])
        ]
        found.append(np.mean(own))
    return np.array(found)


def test_resampled_means_are_those_of_a_direct_loop():
    values = np.random.default_rng(0).gamma(1.0, size=(3, len(TASKS))).astype(np.float32)
    redrawn = Resamples(STRATA, 3, 120, seed=4)
    for mask in (MODALITIES == "text", np.ones(len(TASKS), bool), TASKS == "c"):
        fast = redrawn.over_draws(redrawn.of_draws(values, mask))
        np.testing.assert_allclose(fast, slow_means(values, mask, redrawn), rtol=1e-5)


def test_every_stratum_keeps_its_size_and_items_are_drawn_evenly():
    redrawn = Resamples(STRATA, 4, 4000, seed=1)
    for task in "abc":
        assert (redrawn.items[:, task == TASKS].sum(axis=1) == (task == TASKS).sum()).all()
    np.testing.assert_allclose(redrawn.items.mean(axis=0), 1, atol=0.08)
    assert (redrawn.draws.sum(axis=1) == 4).all()


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    """300 samples of 40 from a known distribution: 95 % intervals hold its mean in 90 to 98 % of them."""
    random, held = np.random.default_rng(5), 0
    for trial in range(300):
        values = random.exponential(size=(1, 40))
        low, high = bounds(Resamples([0] * 40, 1, 400, seed=trial).of_draws(values, np.ones(40, bool))[0])
        held += low <= 1 <= high
    assert 0.88 <= held / 300 <= 0.98


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Two methods and uniform at two budgets, three draws; mode is better than frequency by 0.1 of KL everywhere."""
    random = np.random.default_rng(2)
    combinations = [(name, "bank", bits, 0.0) for name in ("mode", "frequency", "uniform") for bits in (3.0, 2.0)]
    shared = random.gamma(2.0, size=(3, len(TASKS)))
    kl = np.stack([shared + 0.1 * (name == "frequency") + (3 - bits) for name, _, bits, _ in combinations])
    right = (random.uniform(size=kl.shape) < 0.7).astype(np.float32)
    values = {"accuracy": right, "kl": kl.astype(np.float32), "agreement": right}
    return Measured(combinations, np.full([6, 3], 1000), values)


def test_scores_are_means_and_lie_in_their_intervals(measured):
    scores, _ = score_tables(measured, TASKS, MODALITIES, "rtn", 300, 0)
    assert tuple(scores.columns) == TABLES["scores"]
    row = scores.query("method == 'frequency' and average_bits == 2 and metric == 'kl' and calibration == 1")
    row = row.query("modality == 'text' and task == 'all'").iloc[0]
    assert row["value"] == pytest.approx(measured.values["kl"][3, 1, :10].mean(), rel=1e-5)
    assert row["items"] == 10
    assert row["packed_bytes"] == 1000
    assert (scores["low"] <= scores["value"] + 1e-6).all()
    assert (scores["value"] <= scores["high"] + 1e-6).all()
    assert set(scores.query("task == 'a'")["calibration"]) == {-1}


def test_pairing_cancels_what_methods_share(measured):
    _, paired = score_tables(measured, TASKS, MODALITIES, "rtn", 300, 0)
    own = paired.query("method == 'mode' and against == 'frequency' and metric == 'kl'")
    np.testing.assert_allclose(own[["difference", "low", "high"]], -0.1, atol=1e-5)
    back = paired.query("method == 'frequency' and against == 'mode' and metric == 'kl'")
    np.testing.assert_allclose(back["difference"], 0.1, atol=1e-5)
    assert dict(zip(back["modality"], back["apart"], strict=True)) == {"text": 10, "vision": 5, "all": 15}
    assert not len(paired.query("method == against"))


def test_items_are_apart_where_their_mean_over_the_draws_differs(measured):
    """By hand: one item is answered otherwise in one draw, another in two draws that cancel."""
    right = np.ones((2, 3, len(TASKS)), np.float32)
    right[0, 1, 2] = right[0, 0, 4] = right[1, 2, 4] = right[1, 0, 7] = right[1, 1, 12] = 0
    made = replace(measured, combinations=measured.combinations[:3:2], values=dict.fromkeys(measured.values, right))
    _, paired = score_tables(made, TASKS, MODALITIES, "rtn", 20, 0)
    own = paired.query("method == 'mode' and metric == 'accuracy'")
    assert dict(zip(own["modality"], own["apart"], strict=True)) == {"text": 2, "vision": 1, "all": 3}


def test_a_shrunk_method_is_set_against_itself_as_it_is(measured):
    """Rows 0, 1 are mode as it is, rows 2, 3 the same name shrunk: worse by 0.1 everywhere."""
    combinations = [(name, "bank", bits, level) for name, level in (("mode", 0.0), ("mode", 0.5), ("uniform", 0.0))
                    for bits in (3.0, 2.0)]  # fmt: skip
    _, paired = score_tables(replace(measured, combinations=combinations), TASKS, MODALITIES, "rtn", 300, 0)
    own = paired.query("method == 'mode' and against == 'mode' and metric == 'kl'")
    assert set(own["shrinkage"]) == {0.5}
    np.testing.assert_allclose(own[["difference", "low", "high"]], 0.1, atol=1e-5)
    assert set(paired.query("against == 'uniform'")["shrinkage"]) == {0.0, 0.5}


def test_tables_without_a_shrinkage_are_read_as_zero(measured, tmp_path):
    made = score_tables(measured, TASKS, MODALITIES, "rtn", 300, 0)
    scores, paired = (table.drop(columns=["shrinkage", "apart"], errors="ignore") for table in made)
    empty = {name: pd.DataFrame(columns=list(TABLES[name])) for name in ("ranking", "truth")}
    Evidence(scores, paired, **empty, info={}).save(tmp_path)
    again = Evidence.load(tmp_path)
    assert set(again.scores["shrinkage"]) == set(again.paired["shrinkage"]) == {0.0}
    assert again.paired["apart"].isna().all()


def test_rank_correlations_are_scipys_and_a_flat_method_has_none():
    draws = [synthetic_statistics(2, 12, seed=seed) for seed in range(3)]
    settings = ComparisonSettings(
        methods=("mode", "uniform"), request=AllocationRequest(), average_bits=(3.0,), truth_bits=(2,)
    )
    random = np.random.default_rng(0)
    truth = {
        (bank, expert, 2): ItemScores(*(random.gamma(1.0, size=4).astype(np.float32) for _ in range(3)))
        for bank in draws[0].banks
        for expert in range(12)
    }
    table = truth_table(truth, np.array(["text", "text", "vision", "vision"]))
    assert tuple(table.columns) == TABLES["truth"]
    ranking = ranking_table(draws, settings, table)
    assert set(ranking["method"]) == {"mode"}
    bank = next(iter(draws[1].banks))
    real = [scores.kl[:2].mean() for (name, _, _), scores in truth.items() if name == bank]
    said = cost_table(draws[1], "mode", bits=(2, 3, 4))[bank][:, 0]
    row = ranking.query("bank == @bank and modality == 'text' and calibration == 1").iloc[0]
    assert row["spearman"] == pytest.approx(spearmanr(said, real).statistic, abs=1e-6)
    assert row["low"] <= row["spearman"] <= row["high"]
    mean = ranking.query("bank == 'all' and modality == 'all' and calibration == -1").iloc[0]
    each = ranking.query("bank == 'all' and modality == 'all' and calibration >= 0")["spearman"]
    assert mean["spearman"] == pytest.approx(each.mean(), abs=1e-6)


def test_evidence_survives_its_files_and_damage_is_named(tmp_path):
    tables = {
        name: pd.DataFrame({column: ["x" if column in WORDS else 1] for column in columns})
        for name, columns in TABLES.items()
    }
    Evidence(**tables, info={"draws": 5}).save(tmp_path)
    again = Evidence.load(tmp_path)
    assert again.info["draws"] == 5
    pd.testing.assert_frame_equal(again.scores, tables["scores"])
    (tmp_path / "truth.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(EvidenceError, match=r"truth\.parquet is damaged, .*compare again"):
        Evidence.load(tmp_path)
    (tmp_path / "truth.parquet").unlink()
    with pytest.raises(EvidenceError, match=r"truth\.parquet is missing"):
        Evidence.load(tmp_path)
    with pytest.raises(EvidenceError, match="holds no evidence"):
        Evidence.load(tmp_path / "elsewhere")
