"""Who saw too few tokens: counted by hand; how many samples more, by hand and by drawing them."""

from dataclasses import replace

import numpy as np

from mode_core.importance import coverage, coverage_sentences
from mode_core.importance.coverage import samples_more
from mode_core.modalities import MODALITIES
from mode_core.quantization.settings import LEAST_TOKENS
from mode_core.statistics import BankShape, BankStatistics, ExpertStatistics

SIGNAL = "text_attention"


def test_samples_more_by_hand():
    """32 − 8 = 24 tokens are missing; 8 came of 10 samples, so 30 samples more. 31 of 62: two a sample, half of one."""
    assert samples_more(np.array([8, 32, 40, 0, 16]), 10).tolist() == [30, 0, 0, np.inf, 10]
    assert samples_more(np.array([31]), 10).tolist() == [1]


def test_samples_more_reach_the_level_when_they_are_drawn():
    """Experts of different rates, Poisson counts: after the samples that were told, `LEAST_TOKENS` in the middle (in
    the mean a little more, as 1/n bends upwards)."""
    draw, samples = np.random.default_rng(0), 200
    rates = draw.uniform(0.05, 0.12, 20_000)
    seen = draw.poisson(rates * samples)
    few = (seen > 5) & (seen < LEAST_TOKENS)
    more = samples_more(seen, samples)[few]
    reached = seen[few] + draw.poisson(rates[few] * more)
    assert abs(np.median(reached) - LEAST_TOKENS) <= 1 and 1 <= reached.mean() / LEAST_TOKENS < 1.1


def statistics(samples: tuple[str, ...]) -> ExpertStatistics:
    """Four experts: 40 text; 8 text and 30 vision; 16 vision; nothing."""
    bank = BankStatistics.empty("layers.7.experts", BankShape(7, 4, 4, 4, 1), (2, 4), (SIGNAL,))
    bank.arrays["text_selections"][0] = (40, 8, 0, 0)
    bank.arrays[f"vision_selections/{SIGNAL}"][1, 1, 4] = 30
    bank.arrays[f"vision_selections/{SIGNAL}"][2, 2, 80] = 16
    return ExpertStatistics({bank.name: bank}, (2, 4), (SIGNAL,), {}, samples)


def test_who_is_named_and_with_what():
    found = statistics(("a", "b"))
    assert [(one.expert, one.tokens, one.more) for one in coverage(found).uncovered] == [(3, 0, np.inf), (2, 16, 2)]
    assert coverage_sentences(found, listed=2) == {
        "all": "2 of 4 experts saw fewer than 32 tokens: layer 7, expert 3 (no token in 2 samples: more than as many "
        "again); layer 7, expert 2 (16 tokens: an estimated 2 samples more)",
        "text": "3 of 4 experts saw fewer than 32 text tokens: layer 7, expert 2 (no token in 2 samples: more than as "
        "many again); layer 7, expert 3 (no token in 2 samples: more than as many again); and 1 more",
    }


def test_sounds_count_too():
    plain = statistics(("a", "b"))
    [bank] = (one.having(MODALITIES) for one in plain)
    bank.arrays[f"audio_selections/{SIGNAL}"][0, 3, 9] = 33
    heard = replace(plain, banks={bank.name: bank})
    assert [one.expert for one in coverage(heard).uncovered] == [2]
    assert [one.expert for one in coverage(heard, "text").uncovered] == [2, 3, 1]


def test_a_run_without_samples_says_nothing():
    assert coverage(statistics(())) is None and coverage_sentences(statistics(())) == {}
