"""The Budget page: the screen shows what the library allocates; units, widths, scope, impossible budgets."""

from __future__ import annotations

import pytest

from dashboard.state import solving
from mode_core.allocation import allocate
from mode_core.importance import cost_table
from mode_core.run import Run
from tests.app.conftest import NAME, as_shown, figures, words


def metric(app, label: str) -> str:
    return ({each.label: each.value for each in app.metric} | figures(app))[label]


def test_the_figures_are_those_of_the_library(open_app, tiny_runs):
    app = open_app("budget", bits="2.5")
    assert not app.exception
    statistics = Run.open(tiny_runs / NAME).statistics
    solved = allocate(cost_table(statistics, bits=(2, 3, 4)), bits=(2, 3, 4), average_bits=2.5)
    assert metric(app, "Average bits") == f"{solved.average_bits:.3f}"
    assert metric(app, "Predicted damage (estimate)") == f"{solved.objective:.3g}"
    assert metric(app, "Best possible?") == "proven optimal"
    assert "less predicted damage than 2 bits for every expert, the widest uniform width that fits" in words(app)


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
    app = open_app("budget", scope="model")
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
