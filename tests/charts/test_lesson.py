"""Pictures of the lessons: the answer is not in them before it is asked for; facts against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dashboard import charts
from dashboard.charts import lecture, theme
from dashboard.charts import lesson as pictures
from dashboard.charts.lecture import LETTERS, for_a_hall
from dashboard.parts.learn.lesson_facts import band, growth, half_of_work, nearest, stay_among, tokens_for_half
from tests.synthetic import synthetic_statistics
from tests.synthetic_evidence import synthetic_evidence

SHARES = np.array([0.4, 0.1, 0.3, 0.2])


@settings(deadline=None, derandomize=True, max_examples=50)
@given(arrays(float, st.integers(1, 40), elements=st.floats(0.01, 1)))
def test_half_of_the_work_is_the_least_number_that_does_it(values):
    shares = values / values.sum()
    found, ordered = half_of_work(shares), sorted(shares, reverse=True)
    assert sum(ordered[:found]) >= 0.5 - 1e-9
    assert found == 1 or sum(ordered[: found - 1]) < 0.5 + 1e-9


def test_tokens_for_half_of_the_attention_by_hand():
    assert tokens_for_half(np.array([6.0, 2.0, 1.0, 1.0])) == 0.25
    assert tokens_for_half(np.ones(10)) == 0.5


def test_who_stays_among_the_busiest_by_hand():
    assert stay_among(SHARES, np.array([0.1, 0.5, 0.3, 0.1]), 2) == 1


def test_growth_is_the_median_factor_between_the_two_widths():
    errors = np.array([[8.0, 2.0, 1.0], [9.0, 3.0, 1.0], [np.nan, 1.0, 1.0], [16.0, 2.0, 1.0]])
    assert growth(errors, (2, 3, 4)) == (3, 2, 4.0)
    assert growth(errors[:, :2], (1, 2)) == (2, 1, 4.0)
    assert growth(errors[:, :1], (2,)) is None
    assert growth(np.full((2, 2), np.nan), (2, 3)) is None


@pytest.mark.parametrize(("value", "place"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (9, 3)])
def test_bands_hold_their_lower_edge(value, place):
    assert band((0, 1, 3, 5), value) == place


def test_the_nearest_option_by_difference_and_by_factor():
    assert nearest((5, 15, 30, 45), 24) == 2
    assert nearest((2, 4, 8, 16), 5.7, ratio=True) == 2  # 5.7 is nearer to 8 than to 4 as a factor


def test_before_the_guess_every_expert_looks_alike():
    asked, told = pictures.router_load(SHARES, 2, shown=False), pictures.router_load(SHARES, 2)
    np.testing.assert_allclose(asked.data[0].y, 25)
    np.testing.assert_allclose(told.data[0].y, [40, 30, 20, 10])
    np.testing.assert_array_equal(told.data[0].customdata, [0, 2, 3, 1])
    assert asked.layout.meta["summary"] == "" and "2 busiest of 4" in told.layout.meta["summary"]
    assert asked.layout.yaxis.range == told.layout.yaxis.range


def test_slopes_go_from_one_rank_to_the_other_and_mark_the_fallen():
    text, every = np.array([1, 2, 3, 4, 5, 6]), np.array([6, 1, 2, 3, 4, 5])
    figure = pictures.rank_slopes(text, every, top=2)
    assert [tuple(trace.y) for trace in figure.data[:2]] == [(1, 6), (2, 1)]
    np.testing.assert_allclose(figure.data[3].y, [1, 6])
    assert list(figure.data[3].text) == ["rank 1", "rank 6"] and list(figure.data[2].text) == ["expert 0", "expert 1"]
    assert figure.data[0].line.color == pictures.LOST and figure.data[1].line.color == pictures.BUSY
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol  # not by colour alone
    assert "1 of the 2 busiest" in figure.layout.meta["summary"]
    asked = pictures.rank_slopes(text, every, top=2, shown=False)
    assert (
        [tuple(trace.y) for trace in asked.data[:2]] == [(1,), (2,)]
        and len(asked.data) == 3
        and not asked.layout.meta["summary"]
    )


def test_names_do_not_cover_each_other_and_stay_within():
    np.testing.assert_allclose(pictures.apart(np.array([0.0, 0.1, 1.0]), 0.2, 2.0), [0, 0.2, 1.0])
    crowded = pictures.apart(np.array([1.0, 1.01, 1.02, 1.03]), 0.1, 1.2)
    np.testing.assert_allclose(crowded, [0.9, 1.0, 1.1, 1.2])
    assert pictures.apart(np.array([]), 0.1, 1.0).size == 0


def test_dumbbells_join_both_shares_of_an_expert():
    key = np.array([0.1, 0.5, 0.3, 0.1])
    figure = pictures.key_dumbbells(SHARES, key, top=2)
    vision, kept = figure.data[-2:]
    np.testing.assert_array_equal(vision.customdata, [0, 2, 3, 1])
    np.testing.assert_allclose(kept.y, 100 * key[[0, 2, 3, 1]])
    moved = figure.data[1]
    np.testing.assert_allclose(moved.y.reshape(-1, 3)[:, :2], [[40, 10], [10, 50]])
    assert "1 of the 2 busiest stay" in figure.layout.meta["summary"]
    assert len(pictures.key_dumbbells(SHARES, key, top=2, shown=False).data) == 1


def test_the_fan_draws_medians_of_what_was_measured():
    errors = np.array([[8.0, 2.0], [4.0, 1.0], [np.nan, 1.0], [6.0, 1.5]])
    figure = pictures.error_fan((2, 3), errors, "text tokens")
    np.testing.assert_allclose(figure.data[1].y, [6, 1.5])
    assert np.isnan(figure.data[0].y).sum() == 3  # one gap after each of three experts
    asked = pictures.error_fan((2, 3), errors, "text tokens", shown=False)
    assert list(asked.data[0].x) == [3]
    nothing = pictures.error_fan((2, 3), np.full((2, 2), np.nan), "text tokens")
    assert "not measured" in nothing.layout.meta["alt"]


def test_bars_are_coloured_by_bits_only_in_the_answer():
    stake, bits = np.array([1.0, 4.0, 2.0]), np.array([2, 4, 3])
    figure = pictures.spent_bits(stake, bits, (2, 3, 4))
    assert [(trace.name, list(trace.x), list(trace.y)) for trace in figure.data] == [
        ("2 bits", [3], [1.0]),
        ("3 bits", [2], [2.0]),
        ("4 bits", [1], [4.0]),
    ]
    assert len(pictures.spent_bits(stake, bits, (2, 3, 4), shown=False).data) == 1


def drawn_in_a_hall() -> list:
    """Every lesson's picture, as a lecture hall sees it."""
    ranks, errors = np.arange(1, 9), np.array([[8.0, 2.0], [4.0, 1.0]])
    flat = np.zeros(4)
    made = (
        pictures.router_load(SHARES, 2),
        pictures.rank_slopes(ranks, ranks[::-1], 4, letters=LETTERS),
        charts.token_overlays("data:,", (2, 2), [charts.Overlay("", flat, flat, flat > 0)], width=480),
        pictures.key_dumbbells(SHARES, SHARES[::-1], 2),
        pictures.error_fan((2, 3), errors, "text tokens"),
        pictures.spent_bits(np.array([1.0, 4.0]), np.array([2, 3]), (2, 3)),
        charts.paired_by_budget(synthetic_evidence(synthetic_statistics(1, 4)).paired, "mode", "frequency"),
        theme.empty("Nothing was measured."),
    )
    return [for_a_hall(figure) for figure in made]


@pytest.mark.parametrize("figure", drawn_in_a_hall(), ids=lambda figure: figure.layout.meta["alt"][:20])
def test_no_letter_is_small_in_a_lecture_hall(figure):
    """Every font that the figure or the template would set is the figure's own, and large."""
    held = figure.layout
    fonts = [held.font, held.title.font, held.legend.font, held.hoverlabel.font]
    fonts += [font for axis in figure.select_xaxes() for font in (axis.tickfont, axis.title.font)]
    fonts += [font for axis in figure.select_yaxes() for font in (axis.tickfont, axis.title.font)]
    fonts += [note.font for note in held.annotations]
    fonts += [trace.textfont for trace in figure.data if "text" in trace.to_plotly_json().get("mode", "")]
    assert len(fonts) >= 8 and all(font.size >= LETTERS for font in fonts)
    assert held.meta["letters"] == LETTERS and ("tall" in held.meta) == (not held.images)


def test_names_in_a_lecture_hall_stand_a_line_apart():
    figure = drawn_in_a_hall()[1]
    pixels = lecture.LEAST - held.t - held.b if (held := figure.layout.margin) else 0
    span = figure.layout.yaxis.range[0] - figure.layout.yaxis.range[1]
    for names in figure.data[-2:]:
        steps = np.diff(np.log10(names.y)) / span * pixels
        assert len(names.text) == 4 and (steps >= LETTERS).all()
