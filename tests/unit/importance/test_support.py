"""Who has too few tokens: counted by hand, and flagged as cost_table flags them."""

import numpy as np
import pytest

from mode_core.importance import ImportanceError, cost_table, support, support_summary
from mode_core.statistics import BankShape, BankStatistics, ExpertStatistics
from tests.synthetic import synthetic_statistics

SIGNAL = "text_attention"


@pytest.fixture
def statistics() -> ExpertStatistics:
    """Four experts: 5 text; 2 text and 1 key; only redundant vision; nothing."""
    bank = BankStatistics.empty("layers.7.experts", BankShape(7, 4, 4, 4, 1), (2, 4), (SIGNAL,))
    for key in ("selections", "support"):
        bank.arrays[f"text_{key}"][0] = (5, 2, 0, 0)
        bank.arrays[f"vision_{key}/{SIGNAL}"][0, 1, 4] = 1
        bank.arrays[f"vision_{key}/{SIGNAL}"][0, 2, 80] = 9
    bank.arrays["weight_norm"][:], bank.arrays["weight_error"][:] = 1.0, 0.1
    return ExpertStatistics({bank.name: bank}, (2, 4), (SIGNAL,), {}, ("a",))


def test_counts_by_hand(statistics):
    found = support(statistics, min_support=3)["layers.7.experts"]
    assert found.tokens["text"].tolist() == [5, 2, 0, 0] and found.tokens["key"].tolist() == [0, 1, 0, 0]
    assert found.none("text").tolist() == [False, False, True, True]
    assert found.thin("text").tolist() == [False, True, False, False]
    assert found.thin("key").tolist() == [False, True, False, False]
    assert found.unsupported.tolist() == [False, False, True, True]
    assert support_summary(support(statistics, min_support=3)) == {
        "fewest_tokens": 3,
        "experts": 4,
        "no_text_tokens": 2,
        "no_key_vision_tokens": 3,
        "too_few_text_tokens": 1,
        "too_few_key_vision_tokens": 1,
        "cost_estimated": 2,
        "estimated_experts": ["layer 7, expert 2", "layer 7, expert 3"],
    }
    assert support(statistics, key_ratio=1.0)["layers.7.experts"].unsupported.tolist() == [False] * 3 + [True]


@pytest.mark.parametrize("least", [1, 50, 400])
@pytest.mark.parametrize("ratio", [0.02, 0.2, 1.0])
def test_flags_are_those_of_the_cost_table(least, ratio):
    statistics = synthetic_statistics(2, 16, tokens=2_000, unsupported=2, seed=5)
    costs = cost_table(statistics, "mode", ratio, min_support=least)
    for bank, found in support(statistics, ratio, min_support=least).items():
        np.testing.assert_array_equal(found.unsupported, costs.unsupported[bank])
        assert found.unsupported[-2:].all() and (costs[bank] > 0).all()


def test_a_long_list_is_cut(statistics):
    summary = support_summary(support(synthetic_statistics(1, 8, unsupported=4)), listed=2)
    assert summary["estimated_experts"] == ["layer 0, expert 4", "layer 0, expert 5", "and 2 more"]
    assert support_summary(support(synthetic_statistics(1, 3)))["estimated_experts"] == "none"
    with pytest.raises(ImportanceError, match="at least 1"):
        support(statistics, min_support=0)
