"""Bit map, counts, frontier and damage by layer: the numbers in the figures against the allocation's own."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard import charts
from dashboard.charts import (
    Axes,
    bit_map,
    check_scatter,
    damage_by_layer,
    frontier_chart,
    no_bits,
    sufficiency_curve,
    theme,
    width_counts,
)
from dashboard.charts.measures import frontier_of, original_bytes
from dashboard.charts.theme import width_colour
from dashboard.words.tables import allocation_table, damage_by_bank, frontier_table, moves_table
from mode_core.allocation import Solver
from mode_core.importance import cost_table
from mode_core.prediction import Ranking, Sufficiency


@pytest.fixture(scope="module")
def costs(statistics):
    return cost_table(statistics)


@pytest.fixture(scope="module")
def solver(costs):
    return Solver(costs)


def test_bit_map_shows_the_bits_and_what_moved(statistics, solver):
    axes = Axes.of(statistics)
    before, now = solver.solve(2.5), solver.solve(3.2)
    figure = bit_map(axes, now.bits, now.widths, before.bits)
    bits = np.stack(list(now.bits.values()))
    np.testing.assert_array_equal(figure.data[0].customdata, bits)
    np.testing.assert_array_equal(figure.data[0].z, bits - 2)
    np.testing.assert_array_equal(figure.data[0].text, np.stack(list(before.bits.values())))
    assert "was %{text:.0f} bits" in figure.data[0].hovertemplate
    moved = moves_table(axes, before.bits, now.bits)
    assert len(figure.data[1].x) == len(moved) == (bits != np.stack(list(before.bits.values()))).sum()
    assert list(figure.data[0].colorbar.ticktext) == ["2", "3", "4"]
    counts = np.bincount(bits.ravel(), minlength=5)
    assert f"{counts[2]} at 2 bits, {counts[3]} at 3 bits, {counts[4]} at 4 bits" in figure.layout.meta["summary"]


def test_hovering_a_bit_says_what_each_width_would_cost(statistics, solver, costs):
    axes, now = Axes.of(statistics), solver.solve(3.0)
    plain, told = bit_map(axes, now.bits, now.widths), bit_map(axes, now.bits, now.widths, costs=costs)
    assert "at 2, 3, 4 bits:<br>%{hovertext}" in told.data[0].hovertemplate
    assert "hovertext" not in plain.data[0].hovertemplate  # as it is while a slider is held
    own = costs[axes.names[1]][7]
    assert told.data[0].hovertext[1][7] == ", ".join(f"{own[costs.bits.index(width)]:.2g}" for width in (2, 3, 4))


def test_the_bit_map_may_grow_with_the_window_and_its_neighbour_with_it(statistics, solver):
    axes, now = Axes.of(statistics), solver.solve(3.0)
    figures = (bit_map(axes, now.bits, now.widths), width_counts(axes, now.bits, now.widths), no_bits(axes, "none"))
    least, most = figures[0].layout.meta["tall"]
    assert least <= figures[0].layout.height <= most and figures[0].layout.meta["reserve"] > 300
    assert len({(*figure.layout.meta["tall"], figure.layout.meta["reserve"]) for figure in figures}) == 1


def test_bit_map_refuses_a_width_without_a_place(statistics, solver):
    with pytest.raises(ValueError, match=r"holds \[4\] bits, which are not among the widths"):
        bit_map(Axes.of(statistics), solver.solve(4.0).bits, (2, 3))


def test_widths_keep_their_colour_and_get_lighter():
    def lightness(bits):
        red, green, blue = (int(part) for part in width_colour(bits)[4:-1].split(","))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light = [lightness(bits) for bits in (1, 2, 3, 4, 5, 6, 7, 8)]
    assert light == sorted(light) and min(np.diff(light[:4])) > 20
    with pytest.raises(ValueError, match="no colour for 9 bits"):
        width_colour(9)


def test_counts_add_up_to_every_expert_of_a_layer(statistics, solver):
    now = solver.solve(3.0)
    figure = width_counts(Axes.of(statistics), now.bits, now.widths)
    assert [trace.name for trace in figure.data] == ["2", "3", "4"]
    assert figure.layout.title.text == "Experts by bits" and figure.layout.showlegend is not False
    np.testing.assert_array_equal(sum(trace.customdata for trace in figure.data), 10)
    np.testing.assert_allclose(sum(trace.x for trace in figure.data), 100)


def test_a_short_logarithmic_axis_is_labelled_in_full_and_a_long_one_by_powers():
    axis = theme.log_axis(np.array([0.3, 4.0, 0.0, np.nan]), "damage")
    assert {"0.5", "1", "2"} <= set(axis["ticktext"]) and axis["tickvals"][axis["ticktext"].index("2")] == 2
    assert theme.log_axis(np.array([1e-3, 4.0]), "damage")["dtick"] == 1
    assert "tickvals" not in theme.log_axis(np.array([0.0]), "damage")


def test_frontier_marks_uniform_widths_and_this_budget(solver):
    line, now = frontier_of(solver), solver.solve(3.0)
    uniform = list(zip(line.uniform_bits, line.uniform_bits, line.uniform_objective, strict=True))
    figure = frontier_chart(line.average_bits, line.objective, uniform, (now.average_bits, now.objective))
    curve, points, here = figure.data
    assert list(points.text) == ["2 bits", "3 bits", "4 bits"]
    assert (np.diff(curve.y) <= 1e-12).all()
    assert here.y[0] <= np.interp(3.0, curve.x, curve.y) * (1 + 1e-9) and here.y[0] <= points.y[1]
    assert figure.layout.yaxis.type == "log" and "estimate" in figure.layout.title.text
    assert "do no more damage than" in figure.layout.meta["summary"]
    assert list(frontier_table(line)) == ["average_bits", "predicted_damage", "lower_bound"]


def test_other_methods_are_points_of_their_own():
    figure = frontier_chart([2, 3], [4.0, 1.0], [(2, 2, 4.0), (3, 3, 1.0)], rivals=[("frequency", 2.5, 3.0)])
    assert figure.data[1].customdata[0] == "frequency" and (figure.data[1].x[0], figure.data[1].y[0]) == (2.5, 3.0)
    assert figure.data[2].name == "uniform bits"  # above a rival that comes to the same


def test_a_curve_that_beats_no_uniform_width_says_so():
    figure = frontier_chart([2, 3], [4.0, 1.0], [(2, 2, 4.0), (3, 3, 1.0)])
    assert figure.layout.meta["summary"] == "By this method's costs no budget does better than uniform bits."


def test_damage_by_layer_sums_to_the_objective(statistics, costs, solver):
    axes, now = Axes.of(statistics), solver.solve(2.7)
    chosen = damage_by_bank(axes, costs, now.bits)
    assert chosen.sum() == pytest.approx(now.objective)
    figure = damage_by_layer(axes.ticks, chosen, 2 * chosen, "2 bits for all")
    np.testing.assert_allclose(figure.data[0].y, chosen)
    assert "estimate" in figure.layout.title.text
    table = allocation_table(axes, now.bits, costs)
    assert table["predicted_damage"].sum() == pytest.approx(now.objective)
    assert table["bits"].mean() == pytest.approx(now.average_bits)


def test_original_size_counts_three_matrices_at_sixteen_bits(statistics):
    assert original_bytes(statistics) == 3 * 10 * (3 * 64 * 48) * 2


def test_cells_that_hang_on_the_samples_are_hatched_with_a_legend_and_their_share_in_the_hover(statistics, solver):
    axes, now = Axes.of(statistics), solver.solve(2.5)
    share = {name: np.zeros(10) for name in axes.names}
    share[axes.names[1]][[2, 7]] = 0.25, 0.5
    figure = bit_map(axes, now.bits, now.widths, unsettled=share)
    mark = figure.data[-1]
    assert list(mark.x) == [2, 7] and set(mark.y) == {axes.labels[1]}
    np.testing.assert_array_equal(mark.customdata[:, 1], [25, 50])
    np.testing.assert_array_equal(mark.customdata[:, 0], now.bits[axes.names[1]][[2, 7]])
    assert figure.layout.showlegend and mark.name == "other bits without some of the samples"
    assert "2 of them would get other bits" in figure.layout.meta["summary"]
    plain = bit_map(axes, now.bits, now.widths, unsettled={name: np.zeros(10) for name in axes.names})
    assert not plain.layout.showlegend and len(plain.data) == 1


def test_the_curve_of_fewer_samples_shows_the_librarys_numbers():
    figure = sufficiency_curve([Sufficiency(8, 0.5, 1.2), Sufficiency(16, 0.25, 1.05), Sufficiency(24, 0.0, 1.0)])
    said = figure.layout.meta["summary"]
    assert "With 16 of the 24 samples 25 % of the experts had other bits, and 5.0 % more" in said
    np.testing.assert_allclose(figure.data[1].y, [20, 5, 0], atol=1e-9)
    assert (
        "With 16 of the 24 samples 25 % of the experts had other bits, and 5.0 % more" in figure.layout.meta["summary"]
    )


def test_a_check_is_a_dot_a_group_and_says_how_sure_its_correlation_is():
    figure = check_scatter((1.0, 2.0), (0.1, 0.3), "MODE <x>", Ranking("mode", "all", 0.5, -0.1, 0.9))
    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([1, 2], [0.1, 0.3])
    assert figure.layout.meta["summary"] == "Rank correlation 0.50 (-0.10 to 0.90, 95 %)."
    assert figure.layout.title.text == "MODE &lt;x&gt;: predicted against measured, 2 groups"


def test_the_difference_of_two_is_signed_and_its_scale_even():
    axes = Axes(("a", "b"), (0, 1), (3, 2))
    one, other = {"a": np.array([4, 2, 3]), "b": np.array([2, 2])}, {"a": np.array([2, 2, 4]), "b": np.array([2, 3])}
    figure = charts.bits_difference(axes, one, other, ("first", "sec<b>ond"))
    (heat,) = figure.data
    np.testing.assert_array_equal(heat.z, [[2, 0, -1], [0, -1, np.nan]])
    assert (heat.zmin, heat.zmax) == (-2, 2) and list(heat.colorbar.ticktext) == ["-2", "-1", "0", "+1", "+2"]
    assert figure.layout.meta["summary"].startswith("Of 5 experts 1 have more bits in first and 2 in ")
    assert "<b>ond" not in figure.layout.title.text
