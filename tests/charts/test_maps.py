"""The maps of the Experts page: values, scales and their ends, hover, orders, the crosshair, and what is grey."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from dashboard.charts import Axes, expert_at, expert_maps, expert_order, layer_order, specialisation_order
from dashboard.charts.measures import FrequencyGrid, SensitivityGrid, starved
from dashboard.charts.panels import Panel, stacked
from mode_core.importance import frequencies
from mode_core.importance.bias import busiest_ranks
from tests.charts.conftest import RATIO, SIGNAL

VIEWS = ("load", "rank", "ratio", "specialisation")


def at_ratio(statistics, ratio: float) -> FrequencyGrid:
    return FrequencyGrid.of(statistics, frequencies(statistics, ratio, SIGNAL), ratio, SIGNAL)


def titles(figure) -> list[str]:
    return [note.text.replace("<b>", "").replace("</b>", "") for note in figure.layout.annotations[:-1]]


def test_shares_counts_and_load_agree_with_the_statistics(statistics, grid):
    for row, bank in enumerate(statistics):
        counts = bank.vision("selections", SIGNAL)[:, :20].sum(axis=1)
        np.testing.assert_allclose(grid.counts["key"][row], counts)
        np.testing.assert_allclose(grid.shares["key"][row], counts / counts.sum(), rtol=1e-6)
        np.testing.assert_allclose(grid.load("text")[row].mean(), 1, rtol=1e-5)


def test_four_maps_on_one_expert_axis_say_what_they_show(grid, sensitivity):
    figure = expert_maps(grid, sensitivity, 3)
    assert titles(figure) == [
        "Text · text tokens",
        "Raw vision · all vision tokens",
        "Denoised vision · key vision tokens",
        "Sensitivity · mean squared output error at 3 bits, text tokens",
    ]
    for place, kind in enumerate(("text", "vision", "key")):
        trace = figure.data[place]
        known = grid.counts[kind] > 0
        np.testing.assert_allclose(2.0 ** trace.z[known], 10 * grid.shares[kind][known], rtol=1e-5)
        np.testing.assert_allclose(trace.text, grid.load(kind))
        np.testing.assert_allclose(trace.hovertext, grid.counts[kind])
        assert trace.coloraxis == "coloraxis" and "× an even share" in trace.hovertemplate
        assert trace.y[2] == "layer 2 · model.language_model.layers.2.mlp.experts"
    assert all(figure.layout[f"yaxis{place}"].matches == "y" for place in "234")
    assert {trace.xaxis for trace in figure.data} == {None} and figure.layout.xaxis.anchor == "y4"
    assert [trace.yaxis for trace in figure.data[:4]] == ["y", "y2", "y3", "y4"]
    tops = [figure.layout[f"yaxis{place}"].domain[1] for place in ("", "2", "3", "4")]
    assert tops == sorted(tops, reverse=True) and tops[0] == 1
    least, most = figure.layout.meta["tall"]
    assert least < most and "4 maps under each other" in figure.layout.meta["alt"]


def test_four_maps_of_48_layers_may_be_as_low_as_a_window_of_768_pixels_leaves_them():
    numbers, missing = tuple(range(48)), np.zeros((48, 128), bool)
    axes = Axes(tuple(map(str, numbers)), numbers, (128,) * 48)
    _, layout = stacked(axes, [Panel("", {"type": "heatmap", "z": missing}, missing, "")] * 4, "expert", None)
    assert layout["meta"]["tall"][0] <= 768 - 220 and layout["meta"]["fold"] < 10  # 185 pixels stand above them


def test_the_scale_is_even_around_1_and_marks_its_clipped_ends(grid, sensitivity):
    axis = expert_maps(grid, sensitivity, 3).layout.coloraxis
    assert axis.cmin == -axis.cmax and axis.cmax in (1, 2, 3)
    texts = dict(zip(axis.colorbar.tickvals, axis.colorbar.ticktext, strict=True))
    assert texts[0] == "1×" and texts[1].endswith("2×") and texts[-1].endswith("½×")
    assert texts[axis.cmin].startswith("≤ ")  # the last expert of each bank was never routed to
    loads = np.stack([grid.load(kind) for kind in ("text", "vision", "key")])
    assert texts[axis.cmax].startswith("≥ ") == bool((loads > 2**axis.cmax).any())
    even = {kind: np.full_like(share, 0.1) for kind, share in grid.shares.items()}
    texts = expert_maps(FrequencyGrid(grid.axes, even, grid.counts), sensitivity, 3).layout.coloraxis.colorbar.ticktext
    assert texts == ("½×", "1×", "2×")  # nothing lies beyond
    crowded = np.tile(np.array([0.91] + 9 * [0.01], np.float32), (3, 1))  # a ratio at which one expert has nearly all
    axis = expert_maps(FrequencyGrid(grid.axes, even | {"key": crowded}, grid.counts), sensitivity, 3).layout.coloraxis
    assert axis.colorbar.ticktext == ("≤ ½×", "1×", "≥ 2×")


@pytest.mark.parametrize("view", VIEWS)
def test_no_scale_moves_with_the_key_ratio(statistics, sensitivity, view: str):
    axes = [expert_maps(at_ratio(statistics, ratio), sensitivity, 3, view=view).layout for ratio in (0.05, 0.9)]
    assert len({(axis.coloraxis.cmin, axis.coloraxis.cmax) for axis in axes}) == 1
    assert len({(axis.coloraxis2.cmin, axis.coloraxis2.cmax) for axis in axes}) == 1


def test_ratios_compare_two_kinds(grid, sensitivity):
    figure = expert_maps(grid, sensitivity, 3, view="ratio")
    assert titles(figure)[1] == "Denoised vision ÷ raw vision"
    known = (grid.counts["key"] > 0) & (grid.counts["vision"] > 0)
    expected = grid.shares["key"][known] / grid.shares["vision"][known]
    np.testing.assert_allclose(2.0 ** figure.data[1].z[known], expected, rtol=1e-4)
    never = grid.counts["vision"] == 0
    assert np.isnan(figure.data[1].z[never]).all()  # 0 ÷ 0 says nothing
    assert never.any() and any("no such token was routed" in (one.hovertemplate or "") for one in figure.data)


def test_specialisation_is_text_over_denoised_vision_and_fades_where_there_is_little_of_both(grid, sensitivity):
    figure = expert_maps(grid, sensitivity, 3, view="specialisation")
    assert len(titles(figure)) == 2 and titles(figure)[0].startswith("Text ÷ denoised vision")
    known = (grid.counts["key"] > 0) & (grid.counts["text"] > 0)
    expected = np.log2(grid.shares["text"][known] / grid.shares["key"][known])
    np.testing.assert_allclose(figure.data[0].z[known], expected, atol=1e-4)
    veil = next(trace for trace in figure.data if trace.hoverinfo == "skip" and trace.type == "heatmap")
    np.testing.assert_allclose(veil.z, np.minimum(np.maximum(grid.load("text"), grid.load("key")), 1))
    assert veil.colorscale[0][1].endswith("0.92)") and veil.colorscale[1][1].endswith("0)")


def test_ranks_start_with_the_busiest(grid, sensitivity):
    figure = expert_maps(grid, sensitivity, 3, view="rank")
    shares, places = grid.shares["text"], figure.data[0].z
    assert (places[np.arange(3), shares.argmax(axis=1)] == 1).all()
    assert (np.sort(places, axis=1) == np.arange(1, 11)).all()
    np.testing.assert_array_equal(busiest_ranks(np.array([[0.1, np.nan, 0.7]]))[0], [2, np.nan, 1])


def test_experts_go_from_text_to_denoised_vision_on_every_map_and_keep_their_names(grid, sensitivity):
    columns = expert_order(grid, "specialisation")
    figure = expert_maps(grid, sensitivity, 3, columns=columns)
    gap = (grid.shares["text"] - grid.shares["key"])[0]
    order = figure.data[0].customdata[0].astype(int)
    assert (np.diff(gap[order]) <= 0).all()
    np.testing.assert_array_equal(order, specialisation_order(grid.shares["text"], grid.shares["key"])[0])
    np.testing.assert_array_equal(figure.data[3].customdata, figure.data[0].customdata)
    assert figure.layout.annotations[-1].text == "experts of each layer, from text to denoised vision"
    np.testing.assert_allclose(figure.data[2].text[0], grid.load("key")[0][order])
    np.testing.assert_allclose(figure.data[3].text[1], sensitivity.errors["text"][1, columns[1], 1])


def test_layers_go_from_the_most_divergent_and_keep_their_values(grid, sensitivity):
    rows = layer_order(grid, "divergence")
    apart = [jensenshannon(*(grid.shares[kind][row].astype(float) for kind in ("text", "vision")), base=2)
             for row in range(3)]  # fmt: skip
    np.testing.assert_array_equal(rows, np.argsort(apart)[::-1])
    assert rows.tolist() != [0, 1, 2]  # the test would hold of any order else
    figure = expert_maps(grid, sensitivity, 3, rows=rows)
    for place, row in enumerate(rows):
        np.testing.assert_allclose(figure.data[0].text[place], grid.load("text")[row])
        np.testing.assert_allclose(figure.data[3].text[place], sensitivity.errors["text"][row, :, 1])
        assert figure.data[0].y[place].startswith(f"layer {row} ·")
    assert figure.layout.yaxis.ticktext == tuple(str(row) for row in rows)


def test_the_crosshair_stands_where_the_orders_put_the_expert_and_leads_back(grid, sensitivity):
    rows, columns = layer_order(grid, "divergence"), expert_order(grid, "specialisation")
    figure = expert_maps(grid, sensitivity, 3, rows=rows, columns=columns, selected=(1, 4))
    row, column = figure.layout.meta["at"]
    assert figure.data[0].customdata[row, column] == 4 and figure.data[0].y[row].startswith("layer 1 ·")
    assert expert_at(rows, columns, (row, column)) == (1, 4)
    marks = {name: [shape for shape in figure.layout.shapes if shape.name == name] for name in ("row", "column")}
    assert {shape.yref for shape in marks["row"]} == {"y", "y2", "y3", "y4"}
    assert {(shape.y0, shape.y1) for shape in marks["row"]} == {(row - 0.5, row + 0.5)}
    assert {(shape.x0, shape.x1) for shape in marks["column"]} == {(column - 0.5, column + 0.5)}
    assert figure.layout.meta["experts"] == [10, 10, 10]


def test_banks_of_a_layer_keep_their_letters_in_another_order():
    axes = Axes(("layers.1.text", "layers.1.vision", "layers.2"), (1, 1, 2), (4, 2, 4))
    assert axes.taken(np.array([1, 2, 0])).ticks == ["1b", "2", "1a"]


def test_a_bank_without_vision_tokens_is_grey_and_the_legend_says_why(without_vision, sensitivity):
    found = at_ratio(without_vision, RATIO)
    figure = expert_maps(found, sensitivity, 3)
    assert np.isnan(figure.data[1].z[1]).all() and np.isfinite(figure.data[0].z).all()
    grey = [trace for trace in figure.data if "raw vision: no such token" in (trace.hovertemplate or "")]
    assert len(grey) == 1
    np.testing.assert_array_equal(np.isfinite(grey[0].z).all(axis=1), [False, True, False])
    assert [trace.name for trace in figure.data if trace.showlegend] == ["grey: no such token was routed there"]


def test_starved_counts_busy_text_experts_in_the_lower_half(grid):
    low, looked = starved(grid)  # at most half of a bank's ten experts count as the busiest
    for row in range(3):
        busiest = np.argsort(-grid.shares["text"][row], kind="stable")[:5]
        place = np.argsort(np.argsort(-grid.shares["all"][row], kind="stable"), kind="stable")
        assert low[row] == (place[busiest] >= 5).sum() and looked[row] == 5


def test_errors_are_means_over_routed_tokens(statistics, sensitivity):
    bank = next(iter(statistics))
    error, support = (bank.vision(name, SIGNAL)[:9, ..., :20].sum(axis=-1) for name in ("error", "support"))
    key = error[:, 1] / support
    np.testing.assert_allclose(sensitivity.errors["key"][0, :9, 1], key / bank.shape.hidden, rtol=1e-5)
    assert np.isnan(sensitivity.errors["key"][0, 9]).all()  # nothing was ever routed there


def test_sensitivity_is_logarithmic_on_one_scale_for_all_widths_and_grey_where_unmeasured(grid, sensitivity):
    figure = expert_maps(grid, sensitivity, 3)
    trace = figure.data[3]
    np.testing.assert_allclose(trace.z[:, :9], np.log10(sensitivity.errors["text"][:, :9, 1]), rtol=1e-4)
    np.testing.assert_allclose(trace.text[:, :9], sensitivity.errors["text"][:, :9, 1])
    assert figure.layout.coloraxis2 == expert_maps(grid, sensitivity, 2, kind="key").layout.coloraxis2
    grey = [one for one in figure.data if "text tokens measured here" in (one.hovertemplate or "")]
    assert len(grey) == 1 and np.isfinite(grey[0].z[:, 9]).all() and np.isnan(grey[0].z[:, :9]).all()


def test_ends_of_the_error_scale_are_marked_where_errors_lie_beyond(grid, sensitivity):
    errors = {kind: np.full((3, 10, 3), 2e-3, np.float32) for kind in sensitivity.errors}
    errors["text"].ravel()[:60] = 2e-6
    plain = SensitivityGrid(sensitivity.axes, sensitivity.bits, errors, sensitivity.support)
    texts = expert_maps(grid, plain, 3).layout.coloraxis2.colorbar.ticktext
    assert texts[0] == "10<sup>-6</sup>" and not any(text.startswith(("≤", "≥")) for text in texts)
    errors["text"][0, 0, 0] = 1e-12  # one in 180 values: the scale does not stretch to it
    texts = expert_maps(grid, plain, 3).layout.coloraxis2.colorbar.ticktext
    assert texts[0] == "≤ 10<sup>-6</sup>"


def test_what_cannot_be_shown_is_refused(grid, sensitivity):
    with pytest.raises(ValueError, match="Expected a view of"):
        expert_maps(grid, sensitivity, 3, view="shares")
    with pytest.raises(ValueError, match=r"measured at \(2, 3, 4\) bits, not at 5"):
        expert_maps(grid, sensitivity, 5)
    with pytest.raises(ValueError, match="Expected a kind of"):
        expert_maps(grid, sensitivity, 3, kind="redundant")
