"""Tables behind the charts: rows against loops over their definitions, on seeded synthetic statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dashboard import charts
from dashboard.components.chart import in_words
from dashboard.words import tables
from mode_core.importance import frequencies
from tests.synthetic import synthetic_statistics


def test_the_starved_experts_are_listed_with_both_ranks():
    """Against a loop over the definition: busiest eight for text, lower half by all tokens counted together."""
    statistics = synthetic_statistics(3, 32)
    grid = charts.FrequencyGrid.of(statistics, frequencies(statistics, 0.2), 0.2, "text_attention")
    expected = set()
    for row in range(3):
        text, every = (np.argsort(-grid.shares[kind][row], kind="stable").tolist() for kind in ("text", "all"))
        expected |= {(row, e, text.index(e) + 1, every.index(e) + 1) for e in text[:8] if every.index(e) >= 16}
    table = tables.starved_table(grid)
    found = {tuple(map(int, row)) for row in table[["layer", "expert", "rank for text", "rank for all tokens"]].values}
    assert expected and found == expected
    fall = (table["rank for all tokens"] - table["rank for text"]).tolist()
    assert fall == sorted(fall, reverse=True)


def test_rows_on_the_screen_have_no_names_of_code():
    rows = pd.DataFrame({"method": ["mode", "made_up"], "against": ["uniform", None], "packed_bytes": [1, 2]})
    shown = in_words(rows)
    assert shown.columns.tolist() == ["method", "against", "packed bytes"]
    assert shown["method"].tolist() == ["MODE", "made up"] and shown["against"][0] == "uniform bits"
    assert rows["method"][0] == "mode"  # the rows themselves stay
