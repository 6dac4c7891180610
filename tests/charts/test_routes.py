"""A token's path and the strip of a sample: what is drawn where, and what is told of two models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dashboard import charts
from dashboard.charts.routes import token_name
from mode_core.runs.token_routes import TokenRoutes
from tests.synthetic import synthetic_statistics

AXES = charts.Axes.of(synthetic_statistics(2, 8, tokens=200))


@pytest.fixture
def routes() -> TokenRoutes:
    """Three tokens in two banks of eight experts, two chosen each; the middle one is a vision token."""
    experts = np.array([[[1, 2], [3, 4], [5, 6]], [[0, 7], [2, 1], [4, 3]]], np.uint8)
    weights = np.broadcast_to(np.array([0.75, 0.25], np.float16), experts.shape)
    entropy = np.array([[1.0, 2.0, 2.5], [0.5, 1.5, np.nan]], np.float16)
    vision = np.array([False, True, False])
    return TokenRoutes("s", AXES.names, (8, 8), 3, ("<b>", "", " x"), vision, ~vision, experts, weights, entropy)


def test_the_path_shows_every_expert_with_its_weight(routes):
    figure = charts.token_path(AXES, routes, 0, (1, 7))
    line, dots, ring, entropy = figure.data
    assert [tuple(one) for one in dots.customdata] == [(0, 1, 0.75), (0, 2, 0.25), (1, 0, 0.75), (1, 7, 0.25)]
    np.testing.assert_array_equal(line.x, [1, 0])
    assert (ring.x, ring.y) == ((7,), (1,)) and list(entropy.x) == [1.0, 0.5]
    assert figure.layout.xaxis2.range == (0, 3)  # log2 of 8 experts
    assert "&lt;b&gt;" in figure.layout.title.text and "0.5 to 1.0 of at most 3.0 bits" in figure.layout.meta["summary"]
    assert token_name(routes, 1) == "vision token 0 (token 1)"


def test_where_two_models_part(routes):
    experts = routes.experts.copy()
    experts[1, 0] = [0, 5]
    other = replace(routes, experts=experts)
    figure = charts.token_path(AXES, routes, 0, (0, 1), other)
    [crosses] = [trace for trace in figure.data if trace.name == "only quantized"]
    assert [tuple(one) for one in crosses.customdata] == [(1, 5, 0.25)]
    assert f"parts in layer {AXES.ticks[1]}." in figure.layout.meta["summary"]
    strip = charts.token_strip(AXES, routes, (1, 0), routes.parted(other))
    np.testing.assert_array_equal(strip.data[0].z, [[0, 0, 0], [1, 0, 0]])
    assert f"{100 / 6:.1f} % of the sample's routings" in strip.layout.meta["summary"]
    assert "parts nowhere" in charts.token_path(AXES, routes, 1, (0, 1), other).layout.meta["summary"]


def test_the_strip_shows_entropy_and_names_the_words(routes):
    strip = charts.token_strip(AXES, routes, (0, 2))
    np.testing.assert_array_equal(strip.data[0].z, routes.entropy.astype(np.float32))
    assert strip.layout.xaxis.ticktext == ("&lt;b&gt;", "▦", "x") and strip.layout.meta["at"] == [0, 2]
    assert "text tokens 1.33, vision tokens 1.75" in strip.layout.meta["summary"]
    unknown = replace(routes, entropy=np.full((2, 3), np.nan, np.float16))
    assert "not known" in charts.token_strip(AXES, unknown, (0, 0)).layout.meta["summary"]
    assert "does not tell its scores" in charts.token_path(AXES, unknown, 0, (0, 0)).layout.meta["summary"]
