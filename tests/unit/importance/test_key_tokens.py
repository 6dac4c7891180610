"""Key tokens: the same as calibration bins them; overlaps by counting sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mode_core.importance.key_tokens import jaccard, key_tokens, token_ranks
from mode_core.importance.stacks import ImportanceError
from mode_core.models import VISION
from mode_core.probing.redundancy import redundancy_bins


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=130), st.integers(1, 100))
def test_key_tokens_are_those_that_calibration_bins(scores, percent):
    """Bins below κ are the key set of ρ = κ/100, ties included."""
    row = torch.tensor([scores], dtype=torch.float32)
    bins = redundancy_bins(row, torch.full(row.shape, VISION))[0].numpy()
    np.testing.assert_array_equal(key_tokens(row[0].numpy(), percent / 100), bins < percent)


def test_ranks_of_a_hand_worked_row():
    np.testing.assert_array_equal(token_ranks(np.array([[0.1, 0.7, 0.7, 0.3]])), [[3, 0, 1, 2]])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=5))
def test_jaccard_is_that_of_the_sets(sets):
    held = np.array([[number in one for number in range(10)] for one in sets])
    expected = [[len(a & b) / len(a | b) if a | b else 1.0 for b in sets] for a in sets]
    np.testing.assert_allclose(jaccard(held), expected)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.2])
def test_a_senseless_ratio_is_refused(ratio):
    with pytest.raises(ImportanceError, match="key_ratio must lie in"):
        key_tokens(np.ones(4), ratio)
