"""The frequency heatmaps: values, one scale, hover, order, and what is shown where there are no vision tokens."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.charts import frequency_heatmaps, specialisation_order
from dashboard.charts.measures import FrequencyGrid, starved
from mode_core.importance import frequencies
from mode_core.importance.bias import busiest_ranks
from tests.charts.conftest import RATIO, SIGNAL


def test_shares_counts_and_load_agree_with_the_statistics(statistics, grid):
    for row, bank in enumerate(statistics):
        counts = bank.vision("selections", SIGNAL)[:, :20].sum(axis=1)
        np.testing.assert_allclose(grid.counts["key"][row], counts)
        np.testing.assert_allclose(grid.shares["key"][row], counts / counts.sum(), rtol=1e-6)
        np.testing.assert_allclose(grid.load("text")[row].mean(), 1, rtol=1e-5)


def test_three_panels_share_one_scale_and_name_their_tokens(grid):
    figure = frequency_heatmaps(grid)
    for kind, trace in zip(("text", "vision", "key"), figure.data, strict=True):
        np.testing.assert_allclose(trace.z, 100 * grid.shares[kind])
        np.testing.assert_allclose(trace.text, grid.load(kind))
        np.testing.assert_allclose(trace.hovertext, grid.counts[kind])
        assert trace.coloraxis == "coloraxis"
        assert "tokens" in trace.hovertemplate and "× uniform" in trace.hovertemplate
        assert trace.y[2] == "layer 2 · model.language_model.layers.2.mlp.experts"
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["<b>Text tokens</b>", "<b>All vision tokens</b>", "<b>Key vision tokens</b>"]
    assert figure.layout.coloraxis.cmin == 0
    assert figure.layout.xaxis2.matches == "x" and figure.layout.yaxis3.matches == "y"
    assert "Three heatmaps" in figure.layout.meta["alt"]


def test_the_scale_does_not_move_with_the_key_ratio(statistics):
    for view in ("share", "load", "difference", "rank"):
        ends = set()
        for ratio in (0.05, 0.9):
            found = FrequencyGrid.of(statistics, frequencies(statistics, ratio, SIGNAL), ratio, SIGNAL)
            axis = frequency_heatmaps(found, view).layout.coloraxis
            ends.add((axis.cmin, axis.cmax))
        assert len(ends) == 1


def test_difference_is_in_points_and_symmetric_around_zero(grid):
    figure = frequency_heatmaps(grid, "difference")
    np.testing.assert_allclose(figure.data[1].z, 100 * (grid.shares["key"] - grid.shares["vision"]), rtol=1e-5)
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax
    assert "Key vision tokens − all vision tokens" in figure.layout.annotations[1].text


def test_ranks_start_with_the_busiest(grid):
    figure = frequency_heatmaps(grid, "rank")
    shares, places = grid.shares["text"], figure.data[0].z
    assert (places[np.arange(3), shares.argmax(axis=1)] == 1).all()
    assert (np.sort(places, axis=1) == np.arange(1, 11)).all()
    np.testing.assert_array_equal(busiest_ranks(np.array([[0.1, np.nan, 0.7]]))[0], [2, np.nan, 1])


def test_specialisation_goes_from_text_to_key_vision_and_keeps_names(grid):
    figure = frequency_heatmaps(grid, order="specialisation")
    gap = (grid.shares["text"] - grid.shares["key"])[0]
    order = figure.data[0].customdata[0].astype(int)
    assert (np.diff(gap[order]) <= 0).all()
    np.testing.assert_array_equal(order, specialisation_order(grid.shares["text"], grid.shares["key"])[0])
    np.testing.assert_allclose(figure.data[2].z[0], 100 * grid.shares["key"][0][order])


def test_the_chosen_expert_is_framed_where_the_order_put_it(grid):
    figure = frequency_heatmaps(grid, order="specialisation", selected=(1, 4))
    column = list(figure.data[0].customdata[1]).index(4)
    assert len(figure.layout.shapes) == 3
    assert figure.layout.shapes[2].x0 == column - 0.5 and figure.layout.shapes[2].y0 == 0.5


def test_a_bank_without_vision_tokens_is_grey_and_says_so(without_vision):
    found = FrequencyGrid.of(without_vision, frequencies(without_vision, RATIO, SIGNAL), RATIO, SIGNAL)
    figure = frequency_heatmaps(found)
    assert np.isnan(figure.data[1].z[1]).all() and np.isfinite(figure.data[0].z).all()
    grey = [trace for trace in figure.data if "no all vision tokens routed" in trace.hovertemplate]
    assert len(grey) == 1
    np.testing.assert_array_equal(np.isfinite(grey[0].z).all(axis=1), [False, True, False])


def test_starved_counts_busy_text_experts_in_the_lower_half(grid):
    low, looked = starved(grid)  # at most half of a bank's ten experts count as the busiest
    for row in range(3):
        busiest = np.argsort(-grid.shares["text"][row], kind="stable")[:5]
        place = np.argsort(np.argsort(-grid.shares["all"][row], kind="stable"), kind="stable")
        assert low[row] == (place[busiest] >= 5).sum() and looked[row] == 5


def test_an_unknown_view_is_refused(grid):
    with pytest.raises(ValueError, match="Expected a view of"):
        frequency_heatmaps(grid, "shares")
