"""Token overlays: what is dimmed and outlined, hover facts, overlaps, and how an answer drifts with the ratio."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard import charts
from dashboard.charts.tokens import Overlay, outline

URI = "data:image/png;base64,AAAA"


def overlay(title: str = "Layer 0") -> Overlay:
    """Six tokens, 2 × 3; the two best are the first and the last."""
    scores = np.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.8])
    ranks = np.array([0, 5, 4, 3, 2, 1])
    return Overlay(title, scores, ranks, ranks < 2)


def test_the_picture_lies_beneath_and_the_veil_clears_with_rank():
    figure = charts.token_overlays(URI, (2, 3), [overlay()])
    [image] = figure.layout.images
    assert (image.source, image.sizex, image.sizey, image.layer) == (URI, 3, 2, "below")
    veil = figure.data[0]
    np.testing.assert_allclose(veil.z, [[1.0, 0.0, 0.2], [0.4, 0.6, 0.8]], atol=1e-6)
    np.testing.assert_array_equal(veil.text, [[1, 6, 5], [4, 3, 2]])
    np.testing.assert_allclose(veil.customdata, overlay().scores.reshape(2, 3), rtol=1e-6)
    assert veil.hovertext[0][0] == "key token" and veil.hovertext[0][1] == "redundant token"
    assert "2 of 6" in figure.layout.meta["summary"]
    assert figure.layout.yaxis.range == (2, 0)  # the first row of tokens on top, as in the picture


def test_the_outline_is_the_border_of_the_key_tokens():
    """Length by hand: two single cells have four edges each; neighbours lose the edge between them."""

    def length(key: np.ndarray) -> float:
        x, y = (values.reshape(-1, 3) for values in outline(key))
        assert np.isnan(x[:, 2]).all() and np.isnan(y[:, 2]).all()
        return float((np.abs(x[:, 1] - x[:, 0]) + np.abs(y[:, 1] - y[:, 0])).sum())

    apart = overlay().key.reshape(2, 3)
    assert length(apart) == 8
    assert length(np.array([[True, True, False], [False, False, False]])) == 6
    assert length(np.ones((2, 3), bool)) == 10


def test_panels_stand_in_rows_and_keep_proportions():
    figure = charts.token_overlays(URI, (2, 3), [overlay(f"Layer {n}") for n in range(4)], columns=2, shape=0.5)
    assert [note.text for note in figure.layout.annotations] == [f"<b>Layer {n}</b>" for n in range(4)]
    assert len(figure.layout.images) == 4 and figure.layout.images[3].xref == "x4"
    assert figure.layout.xaxis2.domain[0] >= figure.layout.xaxis.domain[1]
    assert figure.layout.yaxis3.domain[1] <= figure.layout.yaxis.domain[0]
    assert figure.layout.yaxis.scaleratio == pytest.approx(0.5 * 3 / 2)


def test_a_panel_with_other_tokens_is_refused():
    with pytest.raises(ValueError, match="holds 4 tokens; Layer 0 has another number"):
        charts.token_overlays(URI, (2, 2), [overlay()])


def test_overlap_tells_the_mean_and_the_least():
    matrix = np.array([[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]])
    figure = charts.overlap_map(["0", "1", "2"], matrix, "Overlap between layers", "layer")
    np.testing.assert_allclose(figure.data[0].z, matrix)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 1)
    assert "share 50 % of their key tokens on average, at least 25 %" in figure.layout.meta["summary"]
    alone = charts.overlap_map(["0"], np.ones((1, 1)), "Overlap", "layer")
    assert "only one layer" in alone.layout.meta["summary"]


def test_tokens_without_a_place_come_in_order_of_rank():
    one = overlay()
    figure = charts.strip_of_scores(one.ranks, one.scores, one.key)
    np.testing.assert_array_equal(figure.data[0].x, [1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(figure.data[0].y, [0.9, 0.8, 0.4, 0.3, 0.2, 0.1])
    assert len(set(figure.data[0].marker.color[:2])) == 1 and figure.data[0].marker.color[2] != "#009e73"


def test_drift_of_frequencies_is_a_median_in_a_band():
    away = np.array([[0.0, 0.2, np.nan], [0.1, 0.5, np.nan]])
    figure = charts.frequency_drift((0.05, 0.10), away, 0.05)
    most, least, middle = figure.data
    np.testing.assert_allclose(middle.y, [0.1, 0.3])
    np.testing.assert_allclose(least.y, [0.0, 0.1])
    np.testing.assert_allclose(most.y, [0.2, 0.5])
    assert "Furthest at 10 %: up to 0.500 bits" in figure.layout.meta["summary"]
    assert figure.layout.shapes[0].x0 == 5
    assert "no key ratio" in charts.frequency_drift((0.1,), np.full((1, 2), np.nan), 0.1).layout.meta["alt"]


def test_drift_of_bits_tells_the_neighbourhood_and_the_worst():
    figure = charts.bits_drift((0.1, 0.2, 0.5), np.array([0.04, 0.0, 0.3]), 0.2)
    np.testing.assert_allclose(figure.data[0].y, [4, 0, 30])
    told = figure.layout.meta["summary"]
    assert "Within 10 points of the chosen ratio at most 4 %" in told and "at most 30 %" in told


def test_drift_by_signal_names_the_worst():
    figure = charts.signal_drift({"diversity": 0.25, "none": 0.1}, {"diversity": 0.02, "none": 0.01})
    np.testing.assert_allclose(figure.data[0].x, [25, 10])
    assert "Most under “diversity”: 25 %" in figure.layout.meta["summary"]
