"""What is said of the model's other sizes holds in the tables that were kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mode_core.runs.evidence import Evidence

SCALES = Path(__file__).resolve().parents[3] / "sample_data" / "scales"


@pytest.mark.parametrize("size", ["half", "double", "double_uneven"])
def test_the_recommended_estimate_holds_across_sizes(size: str) -> None:
    """Surely before uniform bits, `mode` and `frequency` at every budget, on text and on pictures."""
    found = Evidence.load(SCALES / size)
    own = "metric == 'kl' and modality != 'all' and method == 'mode_soft_fisher' and scope == 'model'"
    rows = found.paired.query(f"{own} and shrinkage == 0.5 and against in ('uniform', 'mode', 'frequency')")
    assert len(rows) == 3 * 6  # three budgets, text and pictures
    assert (rows["high"] < 0).all(), rows
    ranks = found.ranking.query("calibration == -1 and bank == 'all' and modality != 'all'").set_index("method")
    assert ranks.loc["mode_soft_fisher", "low"].min() > ranks.loc["mode", "high"].max()


@pytest.mark.parametrize("size", ["half", "double"])
def test_mode_does_not_beat_uniform_bits_at_any_size(size: str) -> None:
    """As it is surely worse on text at every budget; with insurance nowhere surely better."""
    told = Evidence.load(SCALES / size).paired.query("metric == 'kl' and method == 'mode' and against == 'uniform'")
    assert (told.query("modality == 'text' and shrinkage == 0")["low"] > 0).all()
    assert (told.query("modality != 'all' and shrinkage == 0.5")["high"] > 0).all()
