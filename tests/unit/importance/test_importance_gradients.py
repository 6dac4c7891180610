"""Costs from gradients and curvature, worked by hand on one bank of two or three experts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mode_core.importance import METHODS, ImportanceError, cost_table
from mode_core.importance.fisher import gradient_ratio, veq_significance
from mode_core.importance.stacks import views
from mode_core.statistics import EXTRAS, BankShape, BankStatistics, ExpertStatistics
from tests.synthetic import synthetic_statistics

SIGNAL = "text_attention"
BITS = (2, 4)
KEY, REDUNDANT = 5, 70  # a bin within the 20 per cent that are key, and one outside


def bank(name: str = "a", experts: int = 2, hidden: int = 4, intermediate: int = 3) -> BankStatistics:
    shape = BankShape(0, experts, hidden, intermediate, 1)
    return BankStatistics.empty(name, shape, BITS, (SIGNAL,), extras=EXTRAS)


def worked() -> ExpertStatistics:
    """Expert 0: 3 text tokens, damage 6 at 2 bits, 3 at 4; 2 key tokens, 8 and 4. Expert 1: 1 text token, 5 and 1;
    6 redundant tokens, 12 and 6. Softened: twice the damage for text. Folds 0 and 3 share the text of expert 0."""
    made = bank()
    arrays, end = made.arrays, f"/{SIGNAL}"
    arrays["text_fisher"][0, 0], arrays["text_fisher"][3, 0], arrays["text_fisher"][0, 1] = [4, 2], [2, 1], [5, 1]
    arrays["text_soft_fisher"][:] = 2 * arrays["text_fisher"]
    arrays["text_fisher_support"][0], arrays["text_fisher_support"][3] = [2, 1], [1, 0]
    arrays["text_fisher_tokens"][0], arrays["text_fisher_tokens"][3] = 3, 1
    arrays["text_gradient_energy"][0], arrays["text_gradient_energy"][3] = 24, 12
    arrays[f"vision_fisher{end}"][0, 0, :, KEY], arrays[f"vision_fisher{end}"][0, 1, :, REDUNDANT] = [8, 4], [12, 6]
    arrays[f"vision_soft_fisher{end}"][:] = arrays[f"vision_fisher{end}"]
    for key in ("fisher_support", "support", "selections"):
        arrays[f"vision_{key}{end}"][0, 0, KEY], arrays[f"vision_{key}{end}"][0, 1, REDUNDANT] = 2, 6
    for key in ("fisher_tokens", "tokens"):
        arrays[f"vision_{key}{end}"][0, KEY], arrays[f"vision_{key}{end}"][0, REDUNDANT] = 2, 6
    arrays[f"vision_gradient_energy{end}"][0, KEY] = 2
    for key in ("support", "selections"):
        arrays[f"text_{key}"][0], arrays[f"text_{key}"][3] = [2, 1], [1, 0]
    arrays["text_tokens"][0], arrays["text_tokens"][3] = 3, 1
    arrays["text_error"][0, 0], arrays["text_error"][0, 1] = [24, 12], [8, 4]
    arrays[f"vision_error{end}"][0, 1, :, REDUNDANT] = [48, 24]
    return ExpertStatistics({"a": made}, BITS, (SIGNAL,))


@pytest.mark.parametrize(
    ("method", "alpha", "expected"),
    [
        ("mode_fisher", 1.0, [[6 / 4 + 8 / 2, 3 / 4 + 4 / 2], [5 / 4, 1 / 4]]),
        ("mode_fisher", 0.5, [[6 / 4 + 4 / 2, 3 / 4 + 2 / 2], [5 / 4, 1 / 4]]),
        ("mode_fisher", 0.0, [[6 / 4, 3 / 4], [5 / 4, 1 / 4]]),
        ("mode_soft_fisher", 1.0, [[12 / 4 + 8 / 2, 6 / 4 + 4 / 2], [10 / 4, 2 / 4]]),
        ("fisher", 1.0, [[14 / 12, 7 / 12], [17 / 12, 7 / 12]]),
        ("soft_fisher", 1.0, [[20 / 12, 10 / 12], [22 / 12, 8 / 12]]),
    ],
)
def test_fisher_damage_per_token(method, alpha, expected):
    """4 text tokens, 8 vision tokens of which 2 are key: each kind's sums over its own number of tokens."""
    found = cost_table(worked(), method, bits=BITS, vision_weight=alpha)
    assert found["a"] == pytest.approx(np.array(expected)) and not found.unsupported["a"].any()
    assert found.comparable_across_banks


def test_more_key_tokens_with_a_larger_ratio():
    """At 80 per cent the redundant tokens of expert 1 are key too: 8 key tokens."""
    found = cost_table(worked(), "mode_fisher", 0.8, bits=BITS)
    assert found["a"] == pytest.approx(np.array([[6 / 4 + 8 / 8, 3 / 4 + 4 / 8], [5 / 4 + 12 / 8, 1 / 4 + 6 / 8]]))


def test_veq_weighs_text_by_its_gradients():
    """‖g‖² per token: 36/4 = 9 for text, 2/8 for vision, so γ = 6; β = 4/8. S = (6·3 + ½·2, 6·1 + ½·6) = (19, 9).

    δ over all tokens and 4 dimensions: expert 0 24/(5·4) and 12/(5·4), expert 1 (8 + 48)/(7·4) and half of it.
    """
    statistics = worked()
    [view] = views(statistics, 0.2, SIGNAL)
    assert gradient_ratio([view]) == pytest.approx(6)
    assert veq_significance(view, 6)[0] == pytest.approx([19 / 28, 9 / 28])
    expected = [[19 / 28 * 24 / 20, 19 / 28 * 12 / 20], [9 / 28 * 56 / 28, 9 / 28 * 28 / 28]]
    assert cost_table(statistics, "veq", bits=BITS)["a"] == pytest.approx(np.array(expected))


def test_the_ratio_of_gradients_is_that_of_the_whole_model():
    """A second bank without any vision gradient (as the last layer has) does not make the ratio infinite by itself."""
    last = worked().banks["a"]
    arrays = {key: value.copy() for key, value in last.arrays.items()}
    arrays[f"vision_gradient_energy/{SIGNAL}"][:] = 0
    both = ExpertStatistics({"a": last, "b": replace(last, name="b", arrays=arrays)}, BITS, (SIGNAL,))
    found = views(both, 0.2, SIGNAL)
    assert gradient_ratio(found) == pytest.approx(np.sqrt(9 / (2 / 16)))
    alone = views(ExpertStatistics({"b": both.banks["b"]}, BITS, (SIGNAL,)), 0.2, SIGNAL)
    assert gradient_ratio(alone) == np.inf
    assert veq_significance(alone[0], np.inf)[0] == pytest.approx([3 / 4, 1 / 4])  # text alone


def test_hessian_trace_times_the_weights_rounding_error():
    """4 samples, H·I = 12: expert 0 has the traces 48, 24, −12, so 1, ½ and 0 per entry; errors 3, 2, 1 and ¼ of it."""
    statistics = worked()
    arrays = statistics.banks["a"].arrays
    arrays["hessian_samples"][0], arrays["hessian_samples"][3] = 3, 1
    arrays["hessian_trace"][0, 0], arrays["hessian_trace"][3, 0] = [40, 24, -12], [8, 0, 0]
    arrays["hessian_trace"][0, 1] = [0, 96, 0]
    arrays["weight_error"][:, 0], arrays["weight_error"][:, 1] = [3, 2, 1], [0.75, 0.5, 0.25]
    found = cost_table(statistics, "hessian_trace", bits=BITS)
    assert found["a"] == pytest.approx(np.array([[3 + 1, 1], [2 * 2, 1]]))


def test_experts_without_tokens_get_one_token_of_what_their_weights_say():
    """Expert 2 of 3 saw nothing. Measured ÷ data-free is 6 for one expert and 2 for the other, so 4 on the median;
    the data-free error of one token is 3/16 (see the formula), and costs divide by 4 and by 2 tokens."""
    made = bank(experts=3)
    arrays = made.arrays
    arrays["weight_norm"][:], arrays["weight_error"][:] = 1.0, 1.0
    arrays["input_tokens"][0], arrays["input_energy"][0] = 10, 10 * 12
    free = 1.0 * 1.0 / 4 * 3 / 4  # ‖down‖²·s_gate²·s_up²/4 · Σ relative errors / H, with s² = 12·1/(4·3) = 1
    arrays["text_fisher"][0, 0], arrays["text_fisher"][0, 1] = 3 * 6 * free, 2 * free
    arrays["text_fisher_support"][0], arrays["text_fisher_tokens"][0] = [3, 1, 0], 4
    arrays[f"vision_fisher_tokens/{SIGNAL}"][0, KEY] = 2
    found = cost_table(ExpertStatistics({"a": made}, BITS, (SIGNAL,)), "mode_fisher", bits=BITS)
    assert found.unsupported["a"].tolist() == [False, False, True]
    assert found["a"][2] == pytest.approx([4 * free * (1 / 4 + 1 / 2)] * 2)
    assert found["a"][0] == pytest.approx([18 * free / 4] * 2)


def test_a_hessian_that_no_token_reached_is_that_of_one_token():
    statistics = worked()
    arrays = statistics.banks["a"].arrays
    arrays["hessian_samples"][0], arrays["hessian_trace"][0, 0] = 1, [60, 60, 60]
    for key in arrays:
        if "selections" in key:
            arrays[key][:, 1] = 0
    arrays["weight_error"][:] = 1.0
    found = cost_table(statistics, "hessian_trace", bits=BITS)
    assert found.unsupported["a"].tolist() == [False, True]
    assert found["a"] == pytest.approx(np.array([[15, 15], [3, 3]]))  # 5 tokens reached expert 0


@pytest.mark.parametrize("method", ["fisher", "mode_fisher", "soft_fisher", "mode_soft_fisher", "veq", "hessian_trace"])
def test_leaving_out_a_fold_is_the_same_as_not_having_it(method):
    statistics = synthetic_statistics(2, 8, bits=BITS, unsupported=1, extras=EXTRAS)
    direct = cost_table(statistics, method, 0.3, bits=BITS, leave_out_fold=3)
    without = cost_table(statistics.without_fold(3), method, 0.3, bits=BITS)
    for name, table in direct.items():
        assert table == pytest.approx(without[name], rel=1e-9, abs=1e-9 * table.max())


def test_what_was_not_measured_is_asked_for_by_name():
    plain = synthetic_statistics(1, 4)
    for method, flag, setting in (
        ("fisher", "--gradients", "gradients=True"),
        ("hessian_trace", "--hessian-probes 1", "hessian_probes=1"),
    ):
        with pytest.raises(ImportanceError, match=f"'{method}' needs .*{flag} .*{setting}"):
            cost_table(plain, method)
    assert {name for name, method in METHODS.items() if method.needs == "gradients"} == {
        "fisher", "mode_fisher", "soft_fisher", "mode_soft_fisher", "veq"
    }  # fmt: skip
    assert METHODS["mode"].available(plain) and not METHODS["veq"].available(plain)
    assert METHODS["veq"].available(synthetic_statistics(1, 4, extras=("gradients",)))
