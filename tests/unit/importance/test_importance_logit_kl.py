"""KL as a cost: by hand on two experts, at the ratio it was measured at only, and for experts that none reached."""

import numpy as np
import pytest

from mode_core.importance import ImportanceError, cost_table, frequencies
from mode_core.statistics import BankShape, BankStatistics, ExpertStatistics
from tests.synthetic import synthetic_statistics

NAME, SIGNAL = "layers.0.experts", "text_attention"


@pytest.fixture
def statistics() -> ExpertStatistics:
    """Three experts: text chose 6 and 2 times, key vision 1 and 3; the third expert was chosen by none."""
    bank = BankStatistics.empty(NAME, BankShape(0, 3, 4, 4, 1), (2, 4), (SIGNAL,), extras=("logit_kl",))
    arrays = bank.arrays
    arrays["text_selections"][1], arrays[f"vision_selections/{SIGNAL}"][2, :, 3] = (6, 2, 0), (1, 3, 0)
    arrays["text_logit_kl"][1] = [[0.8, 0.4], [0.2, 0.1], [0, 0]]
    arrays["key_logit_kl"][2] = [[0.3, 0.1], [0.5, 0.2], [0, 0]]
    arrays["text_logit_kl_support"][1], arrays["key_logit_kl_support"][2] = (6, 2, 0), (1, 3, 0)
    arrays["text_logit_kl_samples"][1], arrays["key_logit_kl_samples"][2] = 4, 2
    arrays["weight_norm"][:], arrays["weight_error"][:] = 1.0, np.array([0.2, 0.1])[None, :, None]
    arrays["input_tokens"][0], arrays["input_energy"][0] = 1, 4
    settings = {"logit_kl": {"key_ratio": 0.2, "signal": SIGNAL, "positions": "last"}}
    return ExpertStatistics({NAME: bank}, (2, 4), (SIGNAL,), settings, ("a",))


def test_costs_by_hand(statistics):
    found = cost_table(statistics, "logit_kl", vision_weight=2.0, bits=(2, 4))
    assert found[NAME][:2] == pytest.approx(
        np.array([[0.2 + 2 * 0.15, 0.1 + 2 * 0.05], [0.05 + 2 * 0.25, 0.025 + 0.2]])
    )
    assert found.comparable_across_banks and found.unsupported[NAME].tolist() == [False, False, True]
    share = frequencies(statistics)[NAME]
    assert share.text.tolist() == [0.75, 0.25, 0] and share.key.tolist() == [0.25, 0.75, 0]
    often = cost_table(statistics, "mode_logit_kl", bits=(4, 2))
    assert often[NAME][0] == pytest.approx([0.75 * 0.1 + 0.25 * 0.05, 0.75 * 0.2 + 0.25 * 0.15])


def test_an_expert_that_none_chose_costs_what_one_token_would(statistics):
    """All weights are alike, so the estimate is the median KL of one token: a sum over samples ÷ tokens, per sample."""
    bank = statistics.banks[NAME]
    free = np.array([2.0, 1.0])  # in proportion; equal weights, errors 0.2 and 0.1 in each matrix
    per_token = (bank.text_logit_kl + bank.key_logit_kl)[:2] / np.array([[7], [5]])
    factor = np.median(per_token / free)
    found = cost_table(statistics, "logit_kl", bits=(2, 4))[NAME][2]
    assert found == pytest.approx((1 + 1) * factor * free / 4)


def test_only_where_it_was_measured(statistics):
    with pytest.raises(ImportanceError, match=r"measured with key_ratio 0\.20 .* cannot be had at 0\.30"):
        cost_table(statistics, "logit_kl", key_ratio=0.3, bits=(2, 4))
    with pytest.raises(ImportanceError, match=r"cannot be had at 0\.20 with 'none'"):
        cost_table(statistics, "mode_logit_kl", signal="none", bits=(2, 4))
    with pytest.raises(ImportanceError, match=r"needs the KL of the answer .* Calibrate again with --logit-kl"):
        cost_table(synthetic_statistics(1, 4), "logit_kl")


def test_leaving_out_a_fold_leaves_out_its_samples():
    whole = synthetic_statistics(1, 6, extras=("logit_kl",), seed=3)
    left = cost_table(whole, "logit_kl", leave_out_fold=2)
    taken = cost_table(whole.without_fold(2), "logit_kl")
    for bank in whole.banks:
        assert left[bank] == pytest.approx(taken[bank])
        assert not np.allclose(left[bank], cost_table(whole, "logit_kl")[bank])
