"""The Budget page: the screen shows what the library allocates; units, widths, scope, impossible budgets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dashboard.parts.budget.budget_words import interval
from dashboard.shell import ahead
from dashboard.state import estimating, process_wide, solving
from dashboard.state.measured import Measurement
from dashboard.words.sizes import number, percent, size_text
from mode_core.allocation import Allocation
from mode_core.importance import Recommendation
from mode_core.prediction import Anchor, Estimate, allocation_stability
from mode_core.request import AllocationRequest
from mode_core.run import Run
from tests.app.conftest import NAME, as_shown, figures, payloads, words
from tests.app.test_measured import scores


def metric(app, label: str) -> str:
    return ({each.label: each.value for each in app.metric} | figures(app))[label]


def test_the_figures_are_those_of_the_library(open_app, tiny_runs):
    app = open_app("budget", bits="2.5")
    assert not app.exception
    run = Run.open(tiny_runs / NAME)
    asked = AllocationRequest("mode", shrinkage=0.85, budget=2.5)
    solved = asked.solve(run.statistics)
    assert metric(app, "Average bits") == f"{solved.average_bits:.3f}"
    assert "proven optimal for these costs." in next(one["small"] for one in readouts(app) if one["small"])
    predicted = run.predictor().predict(solved).relative
    assert metric(app, "Relative damage") == f"{predicted.value:.2g}"
    paper = run.predictor().predict(replace(asked, shrinkage=0.0).solve(run.statistics)).relative
    assert metric(app, "Relative, paper's MODE") == f"{paper.value:.2g}"
    uniform = AllocationRequest("uniform", budget=solved.average_bits).solve(run.statistics)
    assert metric(app, "Uniform, same size") == size_text(uniform.bytes)
    assert beside(app, "Uniform, same size") == "2 and 3 bits"
    assert abs(uniform.bytes / solved.bytes - 1) < 0.1
    assert f"Relative damage {predicted.value:.2g}" in words(app)
    assert "less predicted damage" not in words(app) and " %," not in headline(app)  # no promise without a measurement
    assert "was not checked" in words(app)


def headline(app) -> str:
    return next(said["strong"] for sent in payloads(app) if (said := sent.get("readout")) and said["strong"])


def readouts(app) -> list[dict]:
    return [sent["readout"] for sent in payloads(app) if "readout" in sent]


def beside(app, label: str) -> str:
    told = [one for sent in payloads(app) for one in sent.get("readout", {}).get("figures", ())]
    return next(one["beside"] for one in told if one["label"] == label)


def test_effective_bits_count_the_scales(open_app):
    """Two bytes a group of 32: gate and up, 64 wide, have two a row; down, 24 wide, one a row of 24 weights."""
    app = open_app("budget", bits="3", method="uniform")
    assert beside(app, "Average bits") == f"{3 + (2 * 16 / 32 + 16 / 24) / 3:.2f} with scales"


def test_a_run_with_an_anchor_is_told_in_nats(open_app, places):
    app = open_app("budget", bits="2.5")
    run = Run.open(places / "runs" / NAME)
    kl = {width: np.array([1.0, 1.2, 0.1, 0.2]) * 4.0**-width for width in (2, 3, 4)}
    Anchor.of(kl, np.array(["text", "text", "vision", "vision"])).save(run.path / "anchor.json")
    app.run()
    assert not app.exception
    found = run.predictor().predict(AllocationRequest("mode", shrinkage=0.85, budget=2.5).solve(run.statistics))
    assert headline(app).startswith("Estimate, in nats of KL per answer token: ")
    for kind, told in (("text", "on text"), ("vision", "on pictures")):
        assert f"{interval(found.kl[kind])} {told}" in headline(app)
    assert metric(app, "KL on text") == f"{found.kl['text'].value:.2g}"


def test_a_measurement_of_these_settings_leads_and_one_of_others_does_not(open_app, places, monkeypatch):
    sizes = {"original": 16_000_000, "allocation": 3_000_000, "uniform": 2_800_000}
    ours = scores(9, 0.1)
    ours = replace(ours, answers=(replace(ours.answers[0], kl=0.3), *ours.answers[1:]))
    each = {"original": scores(10, None), "allocation": ours, "uniform": scores(5, 0.4)}
    found = Measurement(each, sizes, sizes, 2.5, "seal", {"method": "mode", "key_ratio": 0.2}, 1000.0)
    monkeypatch.setattr(process_wide, "measurements", lambda: [found])
    app = open_app("budget", bits="2.5", method="frequency")
    run = Run.open(places / "runs" / NAME)
    kl = {width: np.array([1.0, 1.2]) * 4.0**-width for width in (2, 3, 4)}
    Anchor.of(kl, np.array(["vision", "vision"])).save(run.path / "anchor.json")
    app.run()
    assert headline(app).startswith("Estimate") and beside(app, "KL on pictures").startswith("estimate, ")
    estimate = metric(app, "KL on pictures")
    paper = AllocationRequest("mode", shrinkage=0.0, budget=2.5).solve(run.statistics).bits

    def seal(of: Allocation | None = None) -> str:
        return "other" if of and all(np.array_equal(of.bits[bank], paper[bank]) for bank in paper) else "seal"

    monkeypatch.setattr(solving, "fingerprint", seal)
    app.run()
    said = "Measured on 10 items: KL 0.12 on pictures; uniform 2.5 bits (2.8 MB): 0.4 on pictures."
    assert headline(app) == said and "Exact answers: 90.0 % against 50.0 %." in words(app)
    # of ten items one has 0.3: redrawn, it comes 0 to 3 times in 95 of 100
    told = f"measured, 0.1 to 0.16, 10 items; estimate {estimate}"
    assert (metric(app, "KL on pictures"), beside(app, "KL on pictures")) == ("0.12", told)
    assert beside(app, "KL on pictures, paper's MODE").startswith("estimate, ")
    (run.path / "anchor.json").unlink()
    app.run()
    assert beside(app, "KL on pictures") == "measured, 0.1 to 0.16, 10 items"
    assert beside(app, "KL on pictures, paper's MODE") == "not measured"


def test_the_dashboard_begins_with_what_the_run_recommends_and_the_paper_is_one_click_away(open_app):
    app = open_app("budget")
    assert (app.selectbox(key="widget:method").value, app.query_params.get("method")) == ("mode", None)
    assert app.session_state["choices"].request.shrinkage == 0.85
    assert "Recommended and set: " in words(app) and "KL of 0.072 at 2.5 bits" in words(app)
    app.button(key="as-in-paper").click().run()
    request = app.session_state["choices"].request
    assert (request.method, request.scope, request.shrinkage) == ("mode", "bank", 0.0)
    assert "Set: MODE (each layer, drawn to the mean by 0). Recommended: MODE" in words(app)
    assert app.query_params["method"] in ("mode", ["mode"])  # so that the link does not mean the recommended one
    app.button(key="as-advised").click().run()
    assert app.session_state["choices"].request.shrinkage == 0.85 and "method" not in app.query_params


def test_a_check_that_finds_a_better_estimate_is_followed_unless_another_was_chosen(open_app, places, monkeypatch):
    app = open_app("budget")
    better = Recommendation("frequency", "bank", 0.3, "Measured.")
    monkeypatch.setattr(estimating, "recommended", lambda: better)
    app.run()
    assert app.session_state["choices"].request.method == "frequency"
    app.button(key="as-in-paper").click().run()
    monkeypatch.setattr(estimating, "recommended", lambda: replace(better, method="veq", shrinkage=0.1))
    app.run()
    assert app.session_state["choices"].request.method == "mode"


def test_trust_in_the_samples_is_shrinkage_turned_round(open_app, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    app = open_app("budget")
    assert app.slider(key="shrinkage-plain").value == pytest.approx(15)
    app.slider(key="shrinkage-plain").set_value(60.0).run()
    assert app.session_state["choices"].request.shrinkage == 0.4
    assert "What it is worth for this method was not measured on this model" in words(app)


def test_experts_that_hang_on_the_samples_are_hatched_as_the_library_finds_them(open_app, tiny_runs, monkeypatch):
    def computed_ahead(prepared) -> None:
        prepared()()
        monkeypatch.setattr(estimating, "fold_solvers", None)  # nothing is left for the page

    monkeypatch.setattr(ahead, "go_on", computed_ahead)
    app = open_app("budget", bits="2.5")
    statistics = Run.open(tiny_runs / NAME).statistics
    found = allocation_stability(statistics, AllocationRequest("mode", shrinkage=0.85, budget=2.5))
    count = sum(len(experts) for experts in found.unsettled().values())
    assert f"{count} of them would get other bits without some of the samples." in words(app)


def test_the_slider_moves_the_budget_and_says_what_moved(open_app, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    app = open_app("budget")
    app.slider(key="average-bits-plain").set_value(2.25).run()
    assert not app.exception
    assert metric(app, "Average bits") == "2.250"
    assert "Since the last setting" in words(app)
    assert "bits" in app.query_params


def test_megabytes_and_bits_are_one_budget_in_two_units(open_app):
    in_bits = open_app("budget")
    in_bits.segmented_control(key="widget:budget_unit").set_value("MB").run()
    assert not in_bits.exception
    assert float(metric(in_bits, "Average bits")) == pytest.approx(3.0, abs=0.1)


def test_budgets_of_large_models_are_in_gigabytes(open_app, monkeypatch):
    """Sizes as those of a large model; the slider's ends and value are theirs, the choice stays in MB."""
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    monkeypatch.setattr(solving, "size_range", lambda: (7_000_000_000, 14_500_000_000))
    monkeypatch.setattr(solving, "megabytes", lambda: 9_000.0)
    app = open_app("budget", budget="MB", mb="9000")
    slider = app.slider(key="megabytes-plain")
    assert (slider.min, slider.max, slider.value) == (7.0, 14.5, 9.0)
    assert "GB" in slider.proto.format
    assert "Gigabytes" in app.segmented_control(key="widget:budget_unit").options


def test_other_widths_move_the_budget_into_their_range(open_app):
    app = open_app("budget", bits="2.5", widths="3,4")
    assert not app.exception and not app.error
    assert metric(app, "Average bits") == "3.000"


def test_one_budget_for_the_model_warns_where_costs_do_not_compare(open_app):
    app = open_app("budget", method="mode", scope="model")
    assert any("in each layer's own unit" in warning.value for warning in app.warning)
    assert not open_app_with(app, "mode_output").warning


def open_app_with(app, method: str):
    return app.selectbox(key="widget:method").set_value(method).run()


def test_an_impossible_request_is_told_in_the_pages_words(open_app, monkeypatch):
    from mode_core.allocation import AllocationError

    def refuse():
        raise AllocationError("average_bits must lie in [2, 4]; got 9.")

    monkeypatch.setattr(solving, "allocation", refuse)
    app = open_app("budget")
    assert not app.exception
    assert as_shown(app.error[0].value) == "average_bits must lie in [2, 4]; got 9."


def test_uniform_bits_in_all_but_name_are_said_and_one_click_shares_bits_out_over_the_model(open_app, tiny_runs):
    app = open_app("budget")
    assert headline(app) == "This equals 3 bits for every expert."
    assert "Costs are drawn to the mean by 0.85, so that experts hardly differ." in words(app)
    app.button(key="model-wide").click().run()
    request = app.session_state["choices"].request
    assert (request.scope, request.method) == ("model", "mode_output")  # MODE's costs do not compare
    assert not [button for button in app.button if button.key == "model-wide"]


@pytest.mark.parametrize(("bits", "why"), [("4", "enough for the widest"), ("2", "enough for no more than the narrow")])
def test_why_bits_are_uniform_at_either_end_is_the_budget(open_app, bits, why):
    app = open_app("budget", bits=bits, unit="projection")  # two layers of 8 experts
    assert f"The budget is {why}" in words(app) and "hardly differ" not in words(app)
    assert "32 halves of experts: " in words(app)


@pytest.mark.parametrize(
    ("value", "told"), [(0.01234, "0.012"), (4.6e-5, "4.6×10⁻⁵"), (1e-12, "1×10⁻¹²"), (0.0, "0"), (12.0, "12")]
)
def test_small_numbers_are_written_as_people_write_them(value, told):
    assert number(value) == told


def test_an_interval_is_told_in_digits_that_tell_its_ends_apart():
    told = [interval(Estimate(0.34, low, high)) for low, high in ((0.2, 0.4), (0.3408, 0.3412), (0.34, 0.34))]
    assert told == ["0.34 (0.2 to 0.4)", "0.34 (0.3408 to 0.3412)", "0.34"]


def test_a_share_below_one_percent_is_told_from_none():
    assert [percent(share) for share in (0, 0.00098, 0.0096, 0.5)] == ["0 %", "0.1 %", "1 %", "50 %"]


def test_a_few_other_widths_are_counted(open_app, monkeypatch):
    monkeypatch.setattr(estimating, "nearly_uniform", lambda _: estimating.NearlyUniform(3, 2, 6144))
    assert headline(open_app("budget", bits="2.5")) == "This equals 3 bits for all but 2 of 6,144 experts."


@pytest.mark.parametrize(("others", "alike"), [(0, True), (1, True), (2, False)])
def test_nearly_uniform_is_a_hundredth_at_most(others, alike):
    bits = np.full(100, 3)
    bits[:others] = 4
    allocation = Allocation({"a": bits[:50], "b": bits[50:]}, (3, 4), 0.0, 0.0, True, 0.0, 3.0)
    found = estimating.nearly_uniform(allocation)
    assert (found == estimating.NearlyUniform(3, others, 100)) if alike else found is None
