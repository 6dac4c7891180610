"""The Compare page: evidence, rankings against the truth, two calibrations, the paper's numbers, empty states."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dashboard.jobs import shelf, work
from dashboard.parts.compare.comparing import NotComparable, against_truth, halves, pair
from dashboard.state.folders import BUNDLED_RUN
from dashboard.words import names
from mode_core.importance import METHODS, cost_table, frequencies
from mode_core.prediction import Check
from mode_core.run import Run
from mode_core.runs.run import CHECK_FILE
from mode_core.statistics import fold_of
from tests.app.conftest import finish, payloads, words
from tests.app.test_states import on_page
from tests.synthetic import synthetic_statistics
from tests.synthetic_evidence import synthetic_evidence
from tests.synthetic_run import keep_run


@pytest.fixture
def measured(places):
    """A run with synthetic evidence, and a second one of the same shape from other samples."""
    run = keep_run(places / "runs" / "measured", synthetic_statistics(3, 8, tokens=2000))
    synthetic_evidence(run.statistics).save(run.path / "evidence")
    keep_run(places / "runs" / "second", synthetic_statistics(3, 8, tokens=2000, seed=1))
    keep_run(places / "runs" / "another-model", synthetic_statistics(2, 8, tokens=2000))
    return run


def test_without_evidence_the_page_says_how_to_make_it(open_app):
    app = open_app("compare")
    assert not app.exception
    assert "Nothing was compared in this run yet" in words(app)
    assert "python -m mode_core compare --runs" in app.code[0].value


def test_methods_are_shown_with_what_the_evidence_says(measured):
    app = on_page("compare", run="measured", metric="kl", modality="text")
    assert not app.exception
    assert "60 text-only items, 60 items with a picture, 2 calibration draws" in words(app)
    assert "does not say how many items differ" not in words(app)
    assert "At 2 bits MODE is first (0.05) and uniform bits last (0.14)" in words(app)
    drawn = next(sent["figure"] for sent in payloads(app) if sent.get("key") == "methods")["data"]
    legend, chips = {trace["name"] for trace in drawn if trace.get("name")}, app.multiselect[0].options
    others = set(app.selectbox(key="compare-against").options) | set(map(names.method, METHODS))
    assert legend and legend <= set(chips) <= others  # one name for a method, in choices and legends alike
    app.segmented_control(key="widget:place:metric").set_value("accuracy").run()
    assert not app.exception and "MODE is first (90)" in words(app)
    app.selectbox(key="compare-against").set_value("uniform").run()
    assert "surely better than uniform bits" in words(app)


def test_rankings_against_the_truth(measured):
    app = on_page("compare", run="measured", section="rankings")
    assert not app.exception
    assert "Nearest to the truth: MODE (0.80)" in words(app)
    assert "Rank correlation over all experts:" in words(app)
    app.selectbox(key="widget:method").set_value("frequency").run()
    assert not app.exception


def test_damaged_evidence_is_told(measured):
    (measured.path / "evidence" / "scores.parquet").write_bytes(b"no table")
    app = on_page("compare", run="measured")
    assert not app.exception
    assert "cannot be read" in words(app) and "scores.parquet" in words(app)


@pytest.mark.parametrize(
    ("page", "more"), [("compare", {}), ("compare", {"section": "rankings"}), ("learn", {"step": "7"})]
)
def test_evidence_on_methods_of_a_newer_version_is_told_and_the_rest_shown(measured, page, more):
    found = synthetic_evidence(measured.statistics)
    others = {"scores": {"mc": "![x](http:evil)"}, "paired": {"mc": "newcomer"}, "ranking": {"mc": "newcomer"}}
    changed = {name: getattr(found, name).replace({"method": names}) for name, names in others.items()}
    changed["paired"] = changed["paired"].assign(apart=float("nan"))  # as older ones are read
    replace(found, **changed).save(measured.path / "evidence")
    app = on_page(page, run="measured", **more)
    assert not app.exception
    if page == "compare":
        told = [warning.value for warning in app.warning if "does not know: " in warning.value]
        assert len(told) == 1 and "newcomer" in told[0] and "![x](" not in told[0]
        assert "MODE is first (90)" in words(app) or "Nearest to the truth: MODE (0.80)" in words(app)
        assert "does not say how many items differ" in words(app)
    else:
        assert app.segmented_control(key="learn:guess:evidence")


def test_evidence_of_nothing_that_is_known_says_so(measured):
    found = synthetic_evidence(measured.statistics)
    nothing = {name: getattr(found, name).assign(modality="smell") for name in ("scores", "paired", "ranking", "truth")}
    replace(found, **nothing).save(measured.path / "evidence")
    for section in ("methods", "rankings"):
        app = on_page("compare", run="measured", section=section)
        assert not app.exception and "no measurement that this version can show" in words(app)


def test_two_runs_and_two_halves(measured):
    app = on_page("compare", run="measured", section="runs")
    assert not app.exception
    assert "one half (" in words(app) and "Halves have half the samples" in words(app)
    app.selectbox(key="widget:place:other").set_value("second").run()
    assert not app.exception
    assert "measured (32 samples) against second (32 samples)" in words(app)
    app.selectbox(key="widget:place:other").set_value("another-model").run()
    assert not app.exception and "is of another model" in words(app)


def test_the_papers_numbers_are_labelled(measured):
    app = on_page("compare", run="measured", section="paper")
    assert not app.exception
    assert "as the paper reports it" in words(app) and "Reported by the paper: MODE 69.89 %" in words(app)


def test_halves_share_no_sample_and_add_up():
    whole = synthetic_statistics(2, 8, tokens=2000)
    one, other = halves(whole)
    assert set(one.samples) | set(other.samples) == set(whole.samples)
    assert {fold_of(name) for name in one.samples}.isdisjoint(fold_of(name) for name in other.samples)
    bank = next(iter(whole.banks))
    np.testing.assert_allclose(
        one.banks[bank].text("selections") + other.banks[bank].text("selections"), whole.banks[bank].text("selections")
    )
    assert frequencies(one)[bank].text.sum() == pytest.approx(1)


def test_another_model_is_no_pair(measured):
    from mode_core.run import Run

    with pytest.raises(NotComparable, match="other expert banks"):
        pair("x", measured.statistics, "another-model", lambda name: Run.open(measured.path.parent / name))


def test_costs_stand_beside_the_truth_of_their_expert():
    statistics = synthetic_statistics(2, 8, tokens=2000)
    truth = synthetic_evidence(statistics).truth
    table = cost_table(statistics, bits=(2,))
    frame = against_truth(statistics, truth, 2, "text", {bank: costs[:, 0] for bank, costs in table.items()})
    row = frame[(frame["layer"] == "1") & (frame["expert"] == 5)].iloc[0]
    assert row["cost"] == pytest.approx(table[row["bank"]][5, 0])
    held = truth[(truth["bank"] == row["bank"]) & (truth["expert"] == 5) & (truth["modality"] == "text")]
    assert row["kl"] == held["kl"].item() and len(frame) == 16


def test_all_evidence_of_a_run_is_offered_and_costs_drawn_to_the_mean_are_lines_of_their_own(measured):
    found = synthetic_evidence(measured.statistics)
    drawn = found.scores[found.scores["method"] == "mode"].assign(shrinkage=0.5)
    replace(found, scores=pd.concat([found.scores, drawn])).save(measured.path / "evidence" / "with_insurance")
    app = on_page("compare", run="measured", evidence="with_insurance")
    assert not app.exception
    assert app.selectbox(key="widget:place:evidence").options == ["all methods", "with insurance"]
    options = app.multiselect(key="compare-methods:with_insurance").options
    assert {"MODE", "MODE λ 0.5"} <= set(options)


def test_a_check_is_shown_as_the_library_read_it(places):
    shutil.copytree(BUNDLED_RUN, places / "runs" / "checked")
    app = on_page("compare", run="checked", section="check")
    assert not app.exception
    held = Run.open(places / "runs" / "checked").check()
    best = held.rankings[0]
    assert f"Rank correlation {best.spearman:.2f} ({best.low:.2f} to {best.high:.2f}, 95 %)." in words(app)
    assert held.choice.why in words(app)
    assert app.button(key="check:cost").label == "What would a check cost?"


def test_a_run_that_was_not_checked_says_so(open_app):
    assert "have not been checked" in words(open_app("compare", section="check"))


def test_a_check_is_a_job_whose_cost_is_told_first(open_app, places, monkeypatch):
    said = Check.load(BUNDLED_RUN / CHECK_FILE)
    monkeypatch.setattr(work, "check_cost_of", lambda *given, **more: "82 passes over the samples, about 45 s")
    monkeypatch.setattr(work, "check_estimates", lambda *given, **more: said)
    app = open_app("compare", section="check")
    app.button(key="check:cost").click().run()
    app = finish(app)
    go = app.button(key="check:go")
    assert go.label == "Check now: 82 passes over the samples, about 45 s"
    go.click().run()
    assert not finish(app).exception


def test_a_comparison_on_own_items_is_a_job_whose_cost_is_told_first(open_app, places, monkeypatch):
    (places / "data").mkdir()
    lines = [json.dumps({"images": [], "question": f"{n} + 1 ?", "answer": str(n + 1)}) for n in range(2)]
    (places / "data" / "own.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("MODE_SAMPLES", str(places / "data"))
    asked = []
    monkeypatch.setattr(work, "compare_cost_of", lambda *given, **more: "12 passes over the samples, about 3 s")

    def compare(shelf, run, samples, settings, out, **more):
        asked.append((len(samples), settings))
        synthetic_evidence(run.statistics).save(out)

    monkeypatch.setattr(work, "compare_methods", compare)
    app = open_app("compare")
    app.session_state["compare:open"] = True
    app.run()
    app.segmented_control(key="items:compare").set_value("Folder of this machine").run()
    app.text_input(key="samples:path:compare").set_value("own.jsonl").run()
    app.multiselect(key="compare:methods").set_value(["mode", "uniform"]).run()
    app.button(key="compare:cost").click().run()
    app = finish(app)
    assert app.button(key="compare:go").label == "Comparison now: 12 passes over the samples, about 3 s"
    app.button(key="compare:go").click().run()
    assert not finish(app).exception
    ((count, settings),) = asked
    assert count == 2 and settings.methods == ("mode", "uniform") and settings.request.widths == (2, 3, 4)
    assert Run.open(places / "runs" / "tiny").evidence() is not None
    assert "Measured, not estimated" in words(on_page("compare", run="tiny"))


def test_a_model_of_the_hub_is_read_from_its_cache_and_never_fetched(
    open_app, places, tiny_model_folder, tiny_samples, monkeypatch
):
    """Page and job alike; where it is not in the cache, the page says how it comes there."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(places / "hub"))
    monkeypatch.setattr(Run, "model_source", "own/tiny")
    told = "Fetch it with “hf download own/tiny”, then load this page again."
    for page in ("compare", "quantize"):
        app = open_app(page, section="check")
        assert told in words(app) and not app.exception
    shutil.copytree(tiny_model_folder, places / "hub" / "models--own--tiny" / "snapshots" / "0123abc")
    (places / "hub" / "models--own--tiny" / "refs").mkdir()
    (places / "hub" / "models--own--tiny" / "refs" / "main").write_text("0123abc")
    app = open_app("compare", section="check")
    assert told not in words(app) and app.button(key="check:cost")
    run, say = Run.open(places / "runs" / "tiny"), {"progress": lambda _: None, "cancel": threading.Event()}
    assert "passes" in work.check_cost_of(shelf.ModelShelf(), run, tiny_samples[:2], **say)
    monkeypatch.setenv("MODE_MODELS", str(places))
    assert "is fetched from the hub, but this dashboard reads models below" in words(app.run())


def test_nothing_is_measured_into_the_bundled_run(places):
    app = on_page("compare", run="bundled")
    app.session_state["compare:open"] = True
    app.run()
    assert "The bundled run stays as it came" in words(app)
