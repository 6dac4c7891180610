"""Synthetic statistics, small and seeded (0); the grids that the charts draw from them."""

from __future__ import annotations

import pytest

from dashboard.charts import theme
from dashboard.charts.measures import FrequencyGrid, SensitivityGrid
from mode_core.importance import frequencies
from tests.synthetic import synthetic_statistics

SIGNAL, RATIO = "text_attention", 0.2


@pytest.fixture(autouse=True)
def checked_by_plotly(monkeypatch):
    """A misspelt property is an error here, though not on the screen, where checking would cost time."""
    monkeypatch.setattr(theme, "CHECKED", True)


@pytest.fixture(scope="session")
def statistics():
    """Three banks of ten experts, the last of each never routed to."""
    return synthetic_statistics(banks=3, experts=10, unsupported=1, tokens=4000)


@pytest.fixture(scope="session")
def grid(statistics) -> FrequencyGrid:
    return FrequencyGrid.of(statistics, frequencies(statistics, RATIO, SIGNAL), RATIO, SIGNAL)


@pytest.fixture(scope="session")
def sensitivity(statistics) -> SensitivityGrid:
    return SensitivityGrid.of(statistics, RATIO, SIGNAL)


@pytest.fixture(scope="session")
def without_vision(statistics):
    """The same statistics where the middle bank saw no vision token."""
    from dataclasses import replace

    names = list(statistics.banks)
    bank = statistics.banks[names[1]]
    arrays = {key: 0 * value if key.startswith("vision_") else value for key, value in bank.arrays.items()}
    return replace(statistics, banks=statistics.banks | {names[1]: replace(bank, arrays=arrays)})
