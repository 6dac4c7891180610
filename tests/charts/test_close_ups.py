"""Bias bars, one bank, one expert, measured accuracy; and what every figure carries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy

from dashboard.charts import (
    Axes,
    accuracy_by_task,
    bank_profile,
    divergence_by_layer,
    error_by_width,
    expert_frequencies,
    expert_maps,
)
from dashboard.charts.measures import divergences
from dashboard.charts.theme import empty, template, themed
from dashboard.words.tables import bias_table, frequency_table, sensitivity_table


def test_divergence_is_jensen_shannon_in_bits(grid):
    found = divergences(grid)["text against raw vision"]
    for row in range(3):
        p, q = (grid.shares[kind][row].astype(float) for kind in ("text", "vision"))
        middle = (p + q) / 2
        by_hand = (entropy(p, middle, base=2) + entropy(q, middle, base=2)) / 2
        assert found[row] == pytest.approx(by_hand, rel=1e-4)


def test_divergence_is_a_line_for_each_pair_from_zero(grid):
    figure = divergence_by_layer(grid.axes.ticks, divergences(grid))
    assert [trace.name for trace in figure.data] == list(divergences(grid))
    assert list(figure.data[0].x) == ["0", "1", "2"]
    np.testing.assert_allclose(figure.data[2].y, divergences(grid)["denoised against raw vision"])
    assert "bits" in figure.layout.yaxis.title.text and figure.layout.yaxis.rangemode == "tozero"
    assert len(bias_table(grid.axes, divergences(grid))) == 3


def test_bank_profile_orders_by_text_and_counts_the_starved():
    shares = {
        "text": np.array([0.1, 0.4, 0.3, 0.2]),
        "all": np.array([0.4, 0.3, 0.05, 0.25]),
        "vision": np.array([0.5, 0.2, 0.1, 0.2]),
        "key": np.array([0.3, 0.3, 0.2, 0.2]),
    }
    figure = bank_profile(shares, shares, "Layer 7", selected=0)
    text = next(trace for trace in figure.data if trace.name == "text tokens")
    np.testing.assert_allclose(text.y, [40, 30, 20, 10])
    np.testing.assert_array_equal(text.customdata[:, 0], [1, 2, 3, 0])
    assert figure.layout.shapes[0].y0 == 25  # an even share of four
    assert figure.layout.shapes[1].x0 == 2.5  # expert 0 stands last
    assert figure.layout.meta["summary"].startswith("1 of the 2 busiest experts for text")


def test_expert_frequencies_start_at_zero_and_name_missing_tokens():
    shares = {"text": 0.25, "vision": np.nan, "key": np.nan}
    figure = expert_frequencies(shares, {"text": 10, "vision": 0, "key": 0}, 0.25, {"text": 2})
    told = [note.text for note in figure.layout.annotations]
    assert told[0] == "text tokens: <b>25.00 %, rank 2</b>" and told[2] == "key vision tokens: <b>none came here</b>"
    assert list(figure.data[0].x) == [25, 0, 0] and figure.layout.xaxis.rangemode == "tozero"
    assert {shape.x0 for shape in figure.layout.shapes} == {25}
    assert "25.00 %, rank 2" in figure.layout.meta["alt"]


def test_error_by_width_has_the_expert_the_median_and_a_legend():
    errors = {"text": np.array([1e-1, 1e-2]), "key": np.array([np.nan, np.nan])}
    figure = error_by_width((2, 3), errors, errors)
    np.testing.assert_allclose(figure.data[0].y, [1e-1, 1e-2])
    assert [trace.name for trace in figure.data if trace.showlegend] == ["text tokens", "key vision tokens"]
    assert figure.data[1].name == "median of the layer, text tokens" and "dotted" in figure.layout.title.text
    assert figure.layout.showlegend is not False and figure.layout.yaxis.type == "log"


def test_accuracy_bars_carry_intervals_and_items():
    scores = pd.DataFrame(
        [("original", "colour", 0.9, 0.8, 0.95, 50), ("3 bits", "colour", 0.7, 0.6, 0.8, 50)],
        columns=["model", "task", "accuracy", "low", "high", "items"],
    )
    figure = accuracy_by_task(scores)
    assert [trace.name for trace in figure.data] == ["original", "3 bits"]
    assert figure.data[0].y[0] == pytest.approx(90)
    assert figure.data[0].error_y.arrayminus[0] == pytest.approx(10)
    assert figure.data[0].customdata[0, 2] == 50
    assert figure.layout.meta["summary"] == "Mean over tasks: original 90.0 %, 3 bits 70.0 %."
    with pytest.raises(ValueError, match=r"lack the columns \['items'\]"):
        accuracy_by_task(scores.drop(columns="items"))
    with pytest.raises(ValueError, match="shares between 0 and 1"):
        accuracy_by_task(scores.assign(accuracy=90))


def test_themes_differ_only_in_the_template(grid, sensitivity):
    figure = expert_maps(grid, sensitivity, 3)
    light, dark = themed(figure, False).layout.template, template(True)
    assert light.layout.font.color != dark.layout.font.color
    assert light.layout.paper_bgcolor == dark.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_an_empty_chart_says_why():
    figure = empty("No vision tokens in this run; calibrate with pictures.")
    assert figure.layout.annotations[0].text == figure.layout.meta["alt"]


def test_tables_have_one_row_per_expert(grid, sensitivity):
    table = frequency_table(grid)
    assert len(table) == 30 and table.groupby("layer")["text_share"].sum().round(4).eq(1).all()
    assert len(sensitivity_table(sensitivity)) == 90
    assert table.loc[12, ["layer", "expert"]].tolist() == [1, 2]


def test_two_banks_of_one_layer_are_told_apart():
    axes = Axes(("layers.1.text", "layers.1.vision", "layers.2"), (1, 1, 2), (4, 2, 4))
    assert axes.ticks == ["1a", "1b", "2"]
    stacked = axes.stack({"layers.1.text": np.ones(4), "layers.1.vision": np.ones(2), "layers.2": np.ones(4)})
    assert stacked.shape == (3, 4) and np.isnan(stacked[1, 2:]).all() and np.isfinite(stacked[[0, 2]]).all()
