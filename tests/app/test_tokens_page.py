"""The Tokens page: key tokens of a picture, overlaps, stability; several signals, no pictures, text only."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dashboard.parts.tokens.token_view import overlap_of_banks, overlap_of_signals
from dashboard.state import folders
from dashboard.state.sweep import RATIOS, flat_bits, sweep
from dashboard.words import names
from mode_core.allocation import allocate
from mode_core.importance import cost_table
from mode_core.request import AllocationRequest
from mode_core.runs.run import Run, TokenScores
from tests.app.conftest import NAME, words
from tests.app.test_states import on_page
from tests.synthetic import synthetic_statistics
from tests.synthetic_run import GRID, keep_run, synthetic_run, without_vision


def test_the_headline_counts_the_key_tokens_of_the_open_run(open_app, tiny_runs):
    app = open_app("tokens", ratio="30")
    assert not app.exception
    scores = next(iter(Run.open(tiny_runs / NAME).token_scores().values()))
    row = scores.scores["text_attention"][0]
    kept = max(1, 30 * row.size // 100)
    held = np.sort(row)[::-1][:kept].sum() / row.sum()
    assert f"**{kept} of {row.size} vision tokens are key in layer 0.**" in words(app)
    assert f"They hold {100 * held:.0f} % of the attention" in words(app)
    assert "This run keeps one signal" in words(app)
    assert "Within 10 points of the chosen ratio" in words(app)


def test_the_ratio_is_live_and_stands_in_the_address(open_app, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    app = open_app("tokens")
    before = words(app)
    app.slider(key="ratio-plain").set_value(80.0).run()
    assert not app.exception and words(app) != before
    assert dict(app.query_params)["ratio"] in ("80", ["80"])


def test_a_large_run_with_several_signals(places):
    signals = ("text_attention", "duplication", "diversity")
    synthetic_run(places / "runs" / "large", 14, 24, signals, pictures=2, tokens=4000)
    app = on_page("tokens", run="large", shown="signals", signal="duplication", sample="synthetic-1", bank="3")
    assert not app.exception
    assert app.selectbox(key="widget:place:sample").value == "synthetic-1"
    assert app.segmented_control(key="widget:place:shown").value == "signals"
    assert "of the attention" not in words(app)  # duplication is no attention
    assert re.search(r"Two signals share \d+ % of their key tokens", words(app))
    assert re.search(r"Most under “.+”: \d+ % of the experts", words(app))
    app.segmented_control(key="widget:place:shown").set_value("layers").run()
    assert not app.exception


def test_a_run_without_pictures_still_tells_how_stable_it_is(places):
    keep_run(places / "runs" / "bare", synthetic_statistics(2, 8, tokens=2000))
    app = on_page("tokens", run="bare")
    assert not app.exception
    assert "This run keeps no pictures" in words(app) and "How stable is my answer?" in words(app)


def test_a_text_only_run_leads_to_calibrate(places):
    keep_run(places / "runs" / "text", without_vision(synthetic_statistics(2, 8, tokens=2000)))
    app = on_page("tokens", run="text")
    assert not app.exception
    assert "No vision tokens were routed in this run" in words(app)
    app.button(key="next_step").click().run()
    assert app.title[0].value == "Calibrate"


@pytest.mark.parametrize("signal", ["text_attention", "none"])
def test_every_setting_of_a_sweep_is_solved_as_if_alone(signal):
    statistics = synthetic_statistics(2, 8, tokens=2000)
    found = sweep(statistics, [(0.1, signal), (0.7, signal)], AllocationRequest(budget=2.5, pins=((0, 3, 4),)))
    pinned = {next(iter(statistics.banks)): {3: 4}}  # a sweep that loses them tells of another request
    costs = cost_table(statistics, key_ratio=0.7, signal=signal)
    alone = allocate(costs, bits=(2, 3, 4), average_bits=2.5, pinned=pinned)
    np.testing.assert_array_equal(found.bits[1], flat_bits(alone.bits))
    assert found.changed(found.bits[1])[1] == 0
    away = found.divergence(found.key[0], empty=list(statistics.banks)[:1])
    assert np.isnan(away[:, 0]).all() and away[0, 1] == 0
    assert len(RATIOS) == 20


def test_overlaps_are_means_over_samples_and_banks():
    """Two samples, two banks, four tokens, half of them key: overlaps by hand."""
    first = np.array([[4.0, 3, 2, 1], [1.0, 2, 3, 4]])  # banks keep {0, 1} and {2, 3}
    second = np.array([[4.0, 3, 2, 1], [4.0, 2, 3, 1]])  # {0, 1} and {0, 2}: overlap 1/3
    other = np.array([[4.0, 3, 2, 1], [4.0, 3, 2, 1]])
    samples = [
        TokenScores("a", ("x", "y"), {"one": first, "two": other}, ((2, 2),)),
        TokenScores("b", ("x", "y"), {"one": second, "two": other}, ((2, 2),)),
    ]
    np.testing.assert_allclose(overlap_of_banks(samples, "one", 0.5), [[1, 1 / 6], [1 / 6, 1]])
    between = (1 + 0 + 1 + 1 / 3) / 4
    np.testing.assert_allclose(overlap_of_signals(samples, ["one", "two"], 0.5), [[1, between], [between, 1]])
    assert GRID[0] * GRID[1] == 192


def test_signals_that_were_only_scored_are_shown_and_said_to_be(places):
    app = on_page("tokens", shown="signals")
    assert not app.exception
    assert "Only to compare, since this run counted nothing by them" in words(app) and "greedy diversity" in words(app)
    assert re.search(r"Two signals share \d+ % of their key tokens", words(app))
    options = app.selectbox(key="widget:signal").options
    assert options == [names.signal("text_attention"), names.signal("none")]  # what counts is what was counted


def test_the_bundled_scores_are_those_of_the_bundled_model():
    """Scored again on two samples; the script refuses to write others."""
    from sample_data import signals

    run = Run.open(folders.BUNDLED_RUN)
    [first, second] = list(run.token_scores().values())[:2]
    again, _ = signals.scores_of([first, second])
    for held, made in zip((first, second), again, strict=True):
        assert sorted(held.scores) == sorted(made.scores) == sorted(signals.SIGNALS)
        for signal, scores in held.scores.items():
            np.testing.assert_allclose(made.scores[signal], scores, rtol=1e-3, atol=1e-6, err_msg=signal)
