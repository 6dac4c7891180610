"""Charts of evidence on synthetic tables whose answers are known: lines, differences, rankings, truth, two runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboard import charts
from dashboard.charts.grids import Axes
from dashboard.charts.two_runs import crossed
from dashboard.words import paper
from tests.synthetic_evidence import REACH, synthetic_evidence


@pytest.fixture(scope="module")
def found(statistics):
    return synthetic_evidence(statistics)


def test_lines_show_means_over_draws_with_their_intervals(found):
    figure = charts.scores_by_budget(found.scores, "kl", "text", [("mode", "bank"), ("uniform", "bank")])
    mode, uniform = figure.data
    np.testing.assert_allclose(mode.x, [2, 2.5, 3, 3.5])
    np.testing.assert_allclose(mode.y, 0.05 * 4.0 ** -np.array([0, 0.5, 1, 1.5]))
    np.testing.assert_allclose(mode.error_y.array, REACH)
    np.testing.assert_allclose(mode.error_y.arrayminus, REACH)
    assert figure.layout.yaxis.type == "log"
    assert (mode.marker.symbol, mode.line.color) != (uniform.marker.symbol, uniform.line.color)
    assert "At 2 bits mode is first (0.05) and uniform last (0.14)" in figure.layout.meta["summary"]
    percent = charts.scores_by_budget(found.scores, "accuracy", "all", [("mode", "bank")])
    np.testing.assert_allclose(percent.data[0].y[0], 90)


def test_an_unknown_metric_is_refused(found):
    with pytest.raises(ValueError, match="Expected a metric of"):
        charts.scores_by_budget(found.scores, "speed", "all", [])


def test_differences_put_the_best_on_top_and_colour_only_what_is_sure(found):
    figure = charts.paired_forest(found.paired, "frequency", 2.0, "kl", "text")
    points = figure.data[0]
    assert list(points.y) == ["uniform", "mc", "mode"]  # the last one is drawn on top
    np.testing.assert_allclose(points.x, [0.05, -0.01, -0.04])
    assert list(points.text) == ["surely worse", "not told apart", "surely better"]
    assert len(set(points.marker.color)) == 3 and len(set(points.marker.symbol)) == 3
    assert "1 of 3 methods are surely better than frequency here, 1 surely worse" in figure.layout.meta["summary"]
    empty = charts.paired_forest(found.paired, "frequency", 7.0, "kl", "text")
    assert "not measured at this budget" in empty.layout.meta["alt"]


def test_where_hardly_any_items_differ_nothing_is_sure(found):
    """The rule of `verdicts`, in the forest's words and colours and in the sentence over the budgets."""
    paired = found.paired.assign(apart=5)
    points = charts.paired_forest(paired, "frequency", 2.0, "kl", "text").data[0]
    assert list(points.text) == ["not told apart; only 5 items differ"] * 3 and len(set(points.marker.color)) == 1
    told = charts.paired_by_budget(paired, "mode", "frequency").layout.meta["summary"]
    assert told.startswith("Surely better in 0 of 8 cases, surely worse in 0") and "fewer than 6 items" in told


def test_one_method_against_one_rival_by_budget_and_kind_of_item(found):
    figure = charts.paired_by_budget(found.paired, "mode", "frequency")
    text, vision = figure.data
    np.testing.assert_allclose(text.y, -0.04 * 4.0 ** -np.array([0, 0.5, 1, 1.5]), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(text.x) + 0.012, [2, 2.5, 3, 3.5])
    assert np.all(np.abs(vision.y) < np.abs(text.y))
    assert "Surely better in 2 of 8 cases, surely worse in 0" in figure.layout.meta["summary"]


def test_rankings_name_the_nearest_and_the_furthest(found):
    figure = charts.ranking_dots(found.ranking, 2, "text")
    assert list(figure.data[0].y) == ["frequency", "mc", "mode"]
    assert "Nearest to the truth: mode (0.80); furthest: frequency (0.56)" in figure.layout.meta["summary"]
    assert "another width" in charts.ranking_dots(found.ranking, 4, "text").layout.meta["alt"]


def test_the_truth_scatter_leaves_out_what_has_no_logarithm_and_says_so():
    frame = pd.DataFrame(
        {
            "layer": ["0", "0", "1", "1"],
            "expert": [0, 1, 0, 1],
            "cost": [1.0, 2.0, 4.0, 0.0],
            "kl": [0.1, 0.2, 0.4, 0.1],
        }
    )
    figure = charts.truth_scatter(frame, "title")
    assert [trace.name for trace in figure.data] == ["layer 0", "layer 1"]
    assert list(figure.data[1].customdata) == [0]
    assert "Rank correlation over all experts: 1.00." in figure.layout.meta["summary"]
    assert "1 experts without" in figure.layout.meta["summary"]


def test_crossed_counts_are_those_of_a_loop():
    draw = np.random.default_rng(0)
    one, other = draw.choice([2, 3, 4], 200), draw.choice([2, 3, 4], 200)
    counts = crossed(one, other, (2, 3, 4))
    by_hand = [[int(((one == a) & (other == b)).sum()) for b in (2, 3, 4)] for a in (2, 3, 4)]
    np.testing.assert_array_equal(counts, by_hand)
    figure = charts.bits_crossed(counts, (2, 3, 4), ("one", "other"))
    np.testing.assert_array_equal(figure.data[0].text, counts)
    np.testing.assert_allclose(np.sum(figure.data[0].z), 100, rtol=1e-5)
    assert f"{np.trace(counts)} of 200 experts" in figure.layout.meta["summary"]


def test_changes_by_layer_are_shares_of_its_experts():
    axes = Axes(("a", "b"), (0, 1), (4, 4))
    one = {"a": np.array([2, 2, 3, 4]), "b": np.array([3, 3, 3, 3])}
    other = {"a": np.array([2, 3, 3, 2]), "b": np.array([3, 3, 3, 3])}
    figure = charts.changed_by_layer(axes, one, other)
    np.testing.assert_allclose(figure.data[0].y, [50, 0])
    assert "Most in layer 0: 50 %" in figure.layout.meta["summary"]


def test_orders_that_agree_are_told():
    figure = charts.order_agreement(["0", "1"], {"text tokens": np.array([1.0, 0.5]), "key": np.array([np.nan, 0.2])})
    assert "text tokens 0.75, key 0.20" in figure.layout.meta["summary"]


def test_the_papers_numbers_are_called_the_papers():
    figure = charts.reported_bars(paper.AVERAGES, paper.ORIGINAL, "the paper")
    assert "not measured here" in figure.layout.title.text and "Reported by the paper" in figure.layout.meta["summary"]
    assert figure.data[0].type == "scatter"  # no bars, whose lengths an axis without 0 would belie
    frame = paper.frame().set_index("method")
    assert frame.loc["MODE", "points against the original"] == pytest.approx(69.89 - 72.65)
