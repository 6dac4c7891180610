"""Choosing samples that reach experts: greedy by hand and against every other choice, counts against a calibration."""

from itertools import combinations

import numpy as np
import pytest

from mode_core.calibration import CalibrationSettings, balance, calibrate
from mode_core.errors import SettingsError
from mode_core.samples import SampleList

COUNTS = np.array([[30, 0, 0], [20, 20, 0], [0, 30, 3], [0, 0, 9], [0, 0, 0]], dtype=np.uint8)


def gain(counts: np.ndarray, chosen: list[int], least: int) -> int:
    return int(np.minimum(counts[list(chosen)].sum(axis=0, dtype=int), least).sum())


def test_greedy_by_hand():
    """Gains: 40 by the second sample; then 15 (12 and 3) by the third; 12 by the first; 9 by the fourth."""
    assert balance.greedy(COUNTS, 5, least=32) == [1, 2, 0, 3]
    assert balance.greedy(COUNTS, 2, least=32) == [1, 2]
    assert balance.covered(COUNTS).tolist() == [True, True, False]


@pytest.mark.parametrize("seed", range(4))
def test_every_step_gains_most_and_no_choice_gains_much_more(seed: int):
    counts = np.random.default_rng(seed).poisson(1.2, (9, 2, 4)).astype(np.uint8)
    flat, chosen = counts.reshape(9, -1), balance.greedy(counts, 4, seed, least=5)
    assert len(set(chosen)) == 4 and chosen == balance.greedy(counts, 4, seed, least=5)
    for step in range(4):
        left = [place for place in range(9) if place not in chosen[:step]]
        assert gain(flat, chosen[: step + 1], 5) == max(gain(flat, [*chosen[:step], place], 5) for place in left)
    best = max(gain(flat, list(four), 5) for four in combinations(range(9), 4))
    assert gain(flat, chosen, 5) >= (1 - 1 / np.e) * best


def test_lots_decide_between_equal_samples():
    firsts = {balance.greedy(np.ones((6, 3), np.uint8), 1, seed)[0] for seed in range(20)}
    assert len(firsts) > 2


def test_counts_are_those_of_a_calibration(tiny_model, tiny_samples):
    """Of each sample alone, experts in the order of the banks, text before vision, nothing beyond what matters."""
    pool = SampleList(tiny_samples)
    counts, plain = balance.routing_counts(tiny_model, pool, batch_size=3), CalibrationSettings(sensitivity=False)
    for row, sample in enumerate(pool):
        found = calibrate(tiny_model, [sample], plain)
        text = np.concatenate([bank.text("selections") for bank in found])
        vision = np.concatenate([bank.vision("selections", "text_attention").sum(axis=-1) for bank in found])
        np.testing.assert_array_equal(counts[row], np.minimum([text, vision], 32))
    assert counts.max() == 32


def test_the_rest_is_drawn_evenly_and_the_order_stays(tiny_model, tiny_samples, monkeypatch):
    monkeypatch.setattr(balance, "greedy", lambda counts, limit, seed: [5, 2])
    found, told = balance.balanced(tiny_model, SampleList(tiny_samples), 4, seed=3)
    ids = [sample.id for sample in tiny_samples]
    assert len(found) == 4 and {ids[5], ids[2]} < {sample.id for sample in found}
    assert [sample.id for sample in found] == sorted((sample.id for sample in found), key=ids.index)
    assert told["chosen_for_reach"] == told["drawn_evenly"] == 2
    monkeypatch.setattr(balance, "MOST_BYTES", 64)
    with pytest.raises(SettingsError, match=r"A pool of 8 samples is too large .* at most 2 of them first"):
        balance.balanced(tiny_model, SampleList(tiny_samples), 4)
