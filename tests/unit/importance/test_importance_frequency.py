"""Frequencies and costs against a list of single tokens, worked from the paper's definitions."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.importance import ImportanceError, cost_table, frequencies
from mode_core.importance.stacks import _STACKS
from mode_core.statistics import BINS, FOLDS, BankShape, BankStatistics, ExpertStatistics

BITS = (2, 4)
EXPERTS, HIDDEN, TOP_K = 6, 8, 2
SIGNAL = "text_attention"
NAME = "layers.0.mlp.experts"


def token_bin(rank: int, count: int) -> int:
    """Redundancy bin of the vision token of this rank among `count` of its sample."""
    return 0 if rank == 0 else -(-100 * (rank + 1) // count) - 1


@pytest.fixture(scope="module")
def tokens() -> list[dict]:
    """Single tokens of eleven samples: modality, rank among the sample's vision tokens, experts, squared errors."""
    draw, made = np.random.default_rng(11), []
    for sample in range(11):
        count = int(draw.integers(3, 130))
        for position in range(count + 20):
            chosen = draw.choice(EXPERTS - 1, TOP_K, replace=False)  # the last expert is never chosen
            made.append(
                {
                    "fold": sample % FOLDS,
                    "rank": position if position < count else None,
                    "count": count,
                    "experts": chosen.tolist(),
                    "gates": draw.uniform(0.1, 0.9, TOP_K).tolist(),
                    "errors": draw.uniform(0, 1, [TOP_K, len(BITS)]) * [1.0, 0.1],
                }
            )
    return made


@pytest.fixture(scope="module")
def statistics(tokens) -> ExpertStatistics:
    """The same tokens, binned as calibration bins them."""
    bank = BankStatistics.empty(NAME, BankShape(0, EXPERTS, HIDDEN, 5, TOP_K), BITS, (SIGNAL,))
    arrays = bank.arrays
    for token in tokens:
        text, fold = token["rank"] is None, token["fold"]
        kind, end = ("text", "") if text else ("vision", f"/{SIGNAL}")
        at = () if text else (token_bin(token["rank"], token["count"]),)
        arrays[f"{kind}_tokens{end}"][(fold, *at)] += 1
        arrays[f"{kind}_energy{end}"][(fold, *at)] += 3.0
        for expert, gate, errors in zip(token["experts"], token["gates"], token["errors"], strict=True):
            for key, value in (("selections", 1), ("support", 1), ("weight", gate)):
                arrays[f"{kind}_{key}{end}"][(fold, expert, *at)] += value
            for column, error in enumerate(errors):
                arrays[f"{kind}_error{end}"][(fold, expert, column, *at)] += error
                arrays[f"{kind}_gated_error{end}"][(fold, expert, column, *at)] += gate**2 * error
    arrays["weight_norm"][:] = 2.0
    arrays["weight_error"][:] = np.array([0.4, 0.04])[None, :, None]
    arrays["input_tokens"][:] = len(tokens) / FOLDS
    arrays["input_energy"][:] = HIDDEN * len(tokens) / FOLDS
    return ExpertStatistics({NAME: bank}, BITS, (SIGNAL,))


def of_kind(tokens, kind: str, percent: int) -> list[dict]:
    """Tokens of one kind; key are the max(1, floor(ρ·N)) best of each sample's N vision tokens (paper §4)."""

    def is_key(token) -> bool:
        return token["rank"] < max(1, percent * token["count"] // 100)

    vision = [token for token in tokens if token["rank"] is not None]
    return {
        "text": [token for token in tokens if token["rank"] is None],
        "vision": vision,
        "key": [token for token in vision if is_key(token)],
        "redundant": [token for token in vision if not is_key(token)],
        "all": tokens,
    }[kind]


def counted(tokens) -> np.ndarray:
    counts = np.bincount([expert for token in tokens for expert in token["experts"]], minlength=EXPERTS)
    return counts / max(counts.sum(), 1)


def mean_error(tokens, gated: bool = False) -> np.ndarray:
    """Mean squared error of each expert at each width over the tokens routed to it, `[E, B]`."""
    sums, seen = np.zeros([EXPERTS, len(BITS)]), np.zeros([EXPERTS, 1])
    for token in tokens:
        for expert, gate, errors in zip(token["experts"], token["gates"], token["errors"], strict=True):
            sums[expert] += errors * (gate**2 if gated else 1)
            seen[expert] += 1
    return sums / np.maximum(seen, 1)


@pytest.mark.parametrize("kind", ["text", "vision", "key", "redundant", "all"])
def test_frequencies_are_the_counted_ones_at_every_whole_percentage(statistics, tokens, kind):
    for percent in range(1, 101):
        found = frequencies(statistics, percent / 100)[NAME]
        chosen = of_kind(tokens, kind, percent)
        assert (kind in found.empty) == (not chosen) and getattr(found, kind).sum() == pytest.approx(1)
        if chosen:
            assert getattr(found, kind) == pytest.approx(counted(chosen))


@pytest.mark.parametrize("percent", [1, 20, 57, 100])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5])
def test_mode_is_the_papers_formula(statistics, tokens, percent, alpha):
    text, key = of_kind(tokens, "text", percent), of_kind(tokens, "key", percent)
    expected = (
        counted(text)[:, None] * mean_error(text) / HIDDEN + alpha * counted(key)[:, None] * mean_error(key) / HIDDEN
    )
    found = cost_table(statistics, "mode", percent / 100, bits=BITS, vision_weight=alpha)
    assert found[NAME][:-1] == pytest.approx(expected[:-1])
    assert found.unsupported[NAME].tolist() == [False] * (EXPERTS - 1) + [True]


def test_output_metric_weighs_by_the_gate_and_divides_by_the_banks_energy(statistics, tokens):
    text, key = of_kind(tokens, "text", 20), of_kind(tokens, "key", 20)
    expected = sum(counted(part)[:, None] * mean_error(part, gated=True) / 3.0 for part in (text, key))
    assert cost_table(statistics, "mode_output", bits=BITS)[NAME][:-1] == pytest.approx(expected[:-1])


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        ("frequency", ("all",)),
        ("text_and_vision", ("text", "vision")),
        ("text_and_redundant", ("text", "redundant")),
    ],
)
def test_ablations_use_their_own_tokens(statistics, tokens, method, kinds):
    parts = [of_kind(tokens, kind, 20) for kind in kinds]
    expected = sum(counted(part)[:, None] * mean_error(part) / HIDDEN for part in parts)
    assert cost_table(statistics, method, bits=BITS)[NAME][:-1] == pytest.approx(expected[:-1])


def test_one_factor_at_a_time(statistics, tokens):
    text, key = of_kind(tokens, "text", 20), of_kind(tokens, "key", 20)
    noise = np.array([4.0**-2, 4.0**-4])
    only = cost_table(statistics, "frequency_only", bits=BITS)[NAME]
    assert only == pytest.approx((counted(text) + counted(key))[:, None] * noise)
    only = cost_table(statistics, "sensitivity_only", bits=BITS)[NAME]
    assert only[:-1] == pytest.approx(((mean_error(text) + mean_error(key)) / HIDDEN / EXPERTS)[:-1])


def test_mixture_compressor_multiplies_shares_and_error(statistics, tokens):
    selected, weight, error = counted(tokens), np.zeros(EXPERTS), np.zeros([EXPERTS, len(BITS)])
    for token in tokens:
        for expert, gate, errors in zip(token["experts"], token["gates"], token["errors"], strict=True):
            weight[expert] += gate
            error[expert] += gate**2 * errors
    significance = (selected * (weight / weight.sum()) ** 1.5)[:, None]
    assert cost_table(statistics, "mc", bits=BITS)[NAME] == pytest.approx(significance * error)
    assert cost_table(statistics, "mc_released", bits=BITS)[NAME] == pytest.approx(significance * np.sqrt(error))


def test_reap_is_the_mean_of_what_an_expert_adds_by_modality():
    """Expert 0: two text tokens adding 3 and 5, a key token adding 2; expert 1: a redundant token; none for 2."""
    bank = BankStatistics.empty(NAME, BankShape(0, 3, 4, 4, 1), (0, 2, 4), (SIGNAL,), extras=("saliency",))
    for key, text, key_token, redundant in (("selections", 2, 1, 1), ("support", 2, 1, 1), ("saliency", 3 + 5, 2, 7)):
        bank.arrays[f"text_{key}"][0, 0] = text
        bank.arrays[f"vision_{key}/{SIGNAL}"][0, 0, 4] = key_token
        bank.arrays[f"vision_{key}/{SIGNAL}"][0, 1, 80] = redundant
    made = ExpertStatistics({NAME: bank}, (0, 2, 4), (SIGNAL,))
    found = cost_table(made, "reap", vision_weight=0.5, bits=(0, 2, 4))
    assert found[NAME].tolist() == [[5, 5 / 16, 5 / 256], [0, 0, 0], [0, 0, 0]]  # (3 + 5)/2 + 2·0.5
    assert found.unsupported[NAME].tolist() == [False, True, True]
    assert cost_table(made, "reap", vision_weight=0, bits=(0,))[NAME].tolist() == [[4], [0], [0]]
    assert cost_table(made, "reap", key_ratio=1.0, bits=(0,))[NAME].tolist() == [[6], [7], [0]]
    assert allocate(cost_table(made, "reap", bits=(0, 4)), average_bits=4 / 3).bits[NAME].tolist() == [4, 0, 0]


def test_an_expert_without_tokens_costs_what_its_weights_say(statistics, tokens):
    """One token's share of text and of key, times weight error scaled by the median measured ÷ estimated."""
    text, key = of_kind(tokens, "text", 20), of_kind(tokens, "key", 20)
    share = 1 / (TOP_K * len(text)) + 1 / (TOP_K * len(key))
    variance = 1.0 * 2.0**2 / 5  # ε‖W‖²/(H·I) with ε = H
    estimate = 2.0**2 * variance**2 / 4 * 3 * np.array([0.4, 0.04]) / 2.0**2 / HIDDEN
    ratio = np.median(mean_error(tokens)[:-1] / HIDDEN / estimate)
    found = cost_table(statistics, bits=BITS)
    assert found[NAME][-1] == pytest.approx(share * estimate * ratio)


def test_min_support_makes_thin_experts_unsupported(statistics, tokens):
    support = counted(of_kind(tokens, "text", 20) + of_kind(tokens, "key", 20))
    total = TOP_K * len(of_kind(tokens, "text", 20) + of_kind(tokens, "key", 20))
    threshold = int(np.median(support * total))
    found = cost_table(statistics, bits=BITS, min_support=threshold)
    assert (found.unsupported[NAME] == (np.round(support * total) < threshold)).all()
    assert 0 < found.unsupported[NAME].sum() < EXPERTS and (found[NAME] > 0).all()


def test_measured_on_fewer_tokens_than_counted(statistics):
    """Sensitivity from a part of the samples: an expert with selections but no measured text token is estimated."""
    bank = statistics.banks[NAME]
    arrays = {key: value.copy() for key, value in bank.arrays.items()}
    for key in ("support", "error", "gated_error"):
        arrays[f"text_{key}"][:, 2] = 0
    thin = replace(statistics, banks={NAME: replace(bank, arrays=arrays)})
    found, before = cost_table(thin, bits=BITS), cost_table(statistics, bits=BITS)
    assert (found[NAME][2] > 0.2 * before[NAME][2]).all() and not found.unsupported[NAME][2]


def test_all_tokens_key_without_a_signal(statistics, tokens):
    found = frequencies(statistics, 0.2, signal="none")[NAME]
    assert found.key == pytest.approx(found.vision) and "redundant" in found.empty


def test_text_only_statistics_have_no_vision():
    bank = BankStatistics.empty(NAME, BankShape(0, 3, HIDDEN, 5, 1), BITS, ())
    bank.arrays["text_selections"][0] = bank.arrays["text_support"][0] = [1, 3, 0]
    bank.arrays["text_error"][0] = [[8, 4], [8, 4], [0, 0]]
    bank.arrays["text_tokens"][0] = 4
    text_only = ExpertStatistics({NAME: bank}, BITS, ())
    found = frequencies(text_only, signal="none")[NAME]
    assert found.empty == {"vision", "key", "redundant"} and found.text.tolist() == [0.25, 0.75, 0]
    assert all(getattr(found, kind) == pytest.approx(1 / 3) for kind in found.empty)  # all alike, and 1 in all
    assert cost_table(text_only, bits=BITS, signal="none")[NAME][:2] == pytest.approx(
        np.array([[0.25 * 8 / 1, 0.25 * 4 / 1], [0.75 * 8 / 3, 0.75 * 4 / 3]]) / HIDDEN
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"key_ratio": 0.0}, r"key_ratio must lie in \(0, 1\]; got 0\.0"),
        ({"key_ratio": 1.01}, r"key_ratio must lie in \(0, 1\]"),
        ({"key_ratio": float("nan")}, r"key_ratio must lie in \(0, 1\]"),
        ({"key_ratio": 0.001}, "whole per cents"),
        ({"signal": "diversity"}, "no redundancy signal 'diversity'; choose one of: text_attention, none"),
        ({"method": "guess"}, "no importance method 'guess'; choose one of: mode"),
        ({"vision_weight": -1}, "vision_weight must be"),
        ({"min_support": 0}, "min_support counts tokens"),
        ({"bits": (2, 3)}, r"bits \(2, 3\) must be different widths out of those measured in calibration, \(2, 4\)"),
        ({"bits": ()}, "must be different widths"),
    ],
)
def test_settings_out_of_range_are_refused_with_what_is_possible(statistics, settings, text):
    with pytest.raises(ImportanceError, match=text):
        cost_table(statistics, **({"bits": BITS} | settings))


def test_leaving_out_a_fold_is_the_same_as_not_having_it(statistics):
    without = statistics.without_fold(3)
    for method in ("mode", "mode_output", "frequency", "mc"):
        direct = cost_table(statistics, method, 0.3, bits=BITS, leave_out_fold=3)[NAME]
        assert direct == pytest.approx(cost_table(without, method, 0.3, bits=BITS)[NAME])
    kept, made = frequencies(statistics, 0.3, leave_out_fold=3)[NAME], frequencies(without, 0.3)[NAME]
    assert all(getattr(kept, kind) == pytest.approx(getattr(made, kind)) for kind in ("text", "key", "redundant"))


def test_sums_are_forgotten_with_their_statistics(statistics):
    copy = replace(statistics)
    cost_table(copy, bits=BITS)
    key, alive = id(copy), weakref.ref(copy)
    assert key in _STACKS
    del copy
    gc.collect()
    assert alive() is None and key not in _STACKS


def test_columns_come_in_the_order_asked(statistics):
    assert (
        cost_table(statistics, bits=(4, 2))[NAME].tolist() == cost_table(statistics, bits=BITS)[NAME][:, ::-1].tolist()
    )
    assert BINS == 100
