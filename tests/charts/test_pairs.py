"""Experts beside one expert: order, shares and words worked by hand."""

from __future__ import annotations

import numpy as np

from dashboard.charts import alike_dots, together_dots


def test_the_most_alike_come_first_without_the_expert_itself():
    figure = alike_dots(np.array([0.1, 1.0, np.nan, 0.7]), 1)
    assert list(figure.data[0].y) == ["expert 3", "expert 0"] and list(figure.data[0].x) == [0.7, 0.1]
    assert figure.layout.meta["summary"].startswith("Most alike: expert 3, cosine 0.70")


def test_shares_of_tokens_in_common_stand_beside_those_of_all():
    both = np.array([[4, 3, 0], [3, 6, 2], [0, 2, 5]])  # of 10 tokens 4 went to expert 0, 3 of these to expert 1 too
    figure = together_dots(both, 10, 0)
    assert list(figure.data[0].x) == [60, 50] and list(figure.data[0].y) == [75, 0]
    assert list(figure.data[0].text) == [" 1", ""]  # who shares nothing is not named
    told = figure.layout.meta["summary"]
    assert "Of 4 kept tokens of this expert 3 (75 %) went to expert 1 too, which takes 60 % of all 10" in told
    nothing = together_dots(np.diag([0, 6, 5]), 10, 0)
    assert "None of the kept tokens was sent to this expert." in nothing.layout.meta["summary"]
