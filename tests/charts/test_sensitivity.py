"""The sensitivity heatmaps: logarithmic values, grey where nothing was measured, rows aligned with frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.charts import frequency_heatmaps, sensitivity_heatmaps, specialisation_order
from tests.charts.conftest import SIGNAL


def test_errors_are_means_over_routed_tokens(statistics, sensitivity):
    bank = next(iter(statistics))
    error, support = (bank.vision(name, SIGNAL)[:9, ..., :20].sum(axis=-1) for name in ("error", "support"))
    key = error[:, 1] / support
    np.testing.assert_allclose(sensitivity.errors["key"][0, :9, 1], key / bank.shape.hidden, rtol=1e-5)
    assert np.isnan(sensitivity.errors["key"][0, 9]).all()  # nothing was ever routed there


def test_values_hover_and_scale(sensitivity):
    figure = sensitivity_heatmaps(sensitivity, 3)
    trace = figure.data[0]
    np.testing.assert_allclose(trace.z[:, :9], np.log10(sensitivity.errors["text"][:, :9, 1]), rtol=1e-4)
    np.testing.assert_allclose(trace.text[:, :9], sensitivity.errors["text"][:, :9, 1])
    assert "squared error at 3 bits" in trace.hovertemplate
    assert figure.layout.annotations[2].text == "<b>Error at 3 bits on key vision tokens</b>"
    assert figure.layout.coloraxis == sensitivity_heatmaps(sensitivity, 2).layout.coloraxis


def test_experts_without_tokens_are_grey(sensitivity):
    figure = sensitivity_heatmaps(sensitivity, 3)
    grey = [trace for trace in figure.data if "measured here" in trace.hovertemplate]
    assert len(grey) == 3
    assert all(np.isfinite(trace.z[:, 9]).all() and np.isnan(trace.z[:, :9]).all() for trace in grey)


def test_rows_align_with_the_frequencies(grid, sensitivity):
    columns = specialisation_order(grid.shares["text"], grid.shares["key"])
    left = frequency_heatmaps(grid, order="specialisation")
    right = sensitivity_heatmaps(sensitivity, 3, columns=columns)
    assert left.layout.height == right.layout.height
    assert left.layout.yaxis2.domain == right.layout.yaxis2.domain
    np.testing.assert_array_equal(left.data[0].customdata, right.data[0].customdata)


def test_a_width_that_was_not_measured_is_refused(sensitivity):
    with pytest.raises(ValueError, match=r"measured at \(2, 3, 4\) bits, not at 5"):
        sensitivity_heatmaps(sensitivity, 5)
