"""What a run says of the lessons' claims: runs made to bear each of them out, and to contradict it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from dashboard.parts.learn import lesson_claims as claims
from dashboard.parts.learn.lessons import LESSONS
from dashboard.parts.learn.scenes import SCENES
from mode_core.allocation import allocate
from mode_core.importance import cost_table, frequencies
from mode_core.importance.bias import busy_experts
from mode_core.importance.folds import only_folds
from mode_core.statistics import FOLDS, ExpertStatistics
from tests.synthetic import synthetic_statistics
from tests.synthetic_evidence import synthetic_evidence

EXPERTS, SIGNAL = 16, "text_attention"
EVEN, STEEP = np.ones(EXPERTS), 0.6 ** np.arange(EXPERTS)  # what an expert gets, relative to others


def run(text: np.ndarray, key: np.ndarray, rest: np.ndarray, tokens: float = 900, seed: int = 0) -> ExpertStatistics:
    """Two banks whose text, key and redundant tokens choose experts in these proportions; four times as many tokens
    are redundant as are key, and `tokens` of vision come to a fold for 300 of text."""
    made, draw = synthetic_statistics(2, EXPERTS), np.random.default_rng(seed)
    banks = {}
    for name, bank in made.banks.items():
        bins = np.stack([key / key.sum()] * 20 + [rest / rest.sum()] * 80, axis=-1) / 100
        held = {
            "text_selections": draw.poisson(np.tile(300 * text / text.sum(), (FOLDS, 1))),
            f"vision_selections/{SIGNAL}": draw.poisson(np.tile(tokens * bins, (FOLDS, 1, 1))),
        }
        arrays = bank.arrays | {each: counts.astype(float) for each, counts in held.items()}
        banks[name] = replace(bank, arrays=arrays)
    return replace(made, banks=banks)


def facts(statistics: ExpertStatistics, **more) -> claims.Facts:
    return claims.Facts(statistics, 0.2, SIGNAL, **more)


def said(findings: list[claims.Finding]) -> list[str]:
    return [one.verdict for one in findings]


def test_few_experts_do_most_of_the_work_or_not():
    crowded = run(STEEP, STEEP, STEEP)
    visited, busiest = claims.router(facts(crowded))
    shares = [np.sort(found.all)[-4:].sum() for found in frequencies(crowded).values()]
    assert visited.words == "Each token visits 2 of 16 experts." and visited.verdict == busiest.verdict == "holds"
    assert f"does {100 * np.mean(shares):.0f} % (" in busiest.words
    assert said(claims.router(facts(run(EVEN, EVEN, EVEN)))) == ["holds", "otherwise"]
    assert said(claims.router(facts(synthetic_statistics(2, 4))))[0] == "otherwise"  # two of four are not few


def test_vision_outvotes_text_or_not():
    reversed_ = run(STEEP, STEEP[::-1], STEEP[::-1])
    apart, shares = claims.frequency(facts(reversed_)), frequencies(reversed_).values()
    assert said(apart) == ["holds", "holds"] and apart[0].words.startswith("There are 3.0 (")
    low = sum(len({*np.argsort(one.text)[8:]} & {*np.argsort(one.all)[:8]}) for one in shares)
    assert f"{low} ({low} to {low}) of the 16 experts" in apart[1].words and low > 5
    assert said(claims.frequency(facts(run(STEEP, STEEP, STEEP)))) == ["holds", "otherwise"]
    assert said(claims.frequency(facts(run(STEEP, STEEP[::-1], STEEP[::-1], tokens=90))))[0] == "otherwise"


def test_samples_of_a_single_fold_settle_nothing():
    """What other samples would have said is not known; the number is told, without an interval."""
    visited, busiest = claims.router(facts(only_folds(run(STEEP, STEEP, STEEP), [0])))
    assert (visited.verdict, busiest.verdict) == ("holds", "open") and " (" not in busiest.words


def test_without_folds_the_number_alone_decides():
    """A trace of traffic: no samples, and no key tokens."""
    found = claims.frequency(facts(run(STEEP, STEEP[::-1], STEEP[::-1]), folds=False))
    assert said(found) == ["holds", "holds"] and found[0].words == "There are 3.0 vision tokens for each of text."
    assert said(claims.denoised(facts(run(STEEP, EVEN, STEEP), folds=False))) == ["open"]


def test_redundant_tokens_crowd_or_not():
    assert said(claims.denoised(facts(run(STEEP, EVEN, STEEP))))[0] == "holds"
    hidden = claims.denoised(facts(run(STEEP, STEEP[::-1], STEEP)))
    assert hidden[1].verdict == "holds" and "of the 16 experts that key tokens keep busiest" in hidden[1].words
    assert said(claims.denoised(facts(run(STEEP, STEEP, STEEP**0.5, 9000)))) == ["otherwise", "otherwise"]
    alike = [said(claims.denoised(facts(run(STEEP, EVEN, EVEN, seed=seed))))[0] for seed in range(20)]
    assert alike.count("open") >= 17  # the fewer key tokens do not seem to crowd by chance alone


def test_busy_experts_is_one_over_the_chance_that_two_tokens_meet():
    counts = np.array([3.0, 2.0, 0.0, 1.0])
    tokens = [expert for expert, count in enumerate(counts) for _ in range(int(count))]
    pairs = [one == other for one, other in combinations(tokens, 2)]
    assert busy_experts(counts) == pytest.approx(1 / np.mean(pairs))
    assert busy_experts(np.full(8, 1000.0)) == pytest.approx(8, rel=1e-2) and np.isnan(busy_experts(np.zeros(3)))


@pytest.mark.parametrize(("held", "verdict"), [([8.0, *[0.01] * 63], "holds"), ([1.0] * 64, "otherwise")])
def test_few_tokens_hold_the_attention_or_not(held, verdict):
    many, found, untold = claims.redundancy([np.array([held] * 3)] * 5, [(64, 13), (64, 15)])
    assert found.verdict == verdict and untold.verdict == "open"
    assert many.verdict == "holds" and many.words == "The pictures of a sample become 64 tokens, its words 14."
    assert f"{2 if verdict == 'holds' else 50} % (" in found.words
    assert claims.redundancy([np.array([held])], [(9, 13)])[0].verdict == "otherwise"


def test_attention_that_differs_between_samples_is_not_settled():
    few, all_alike = np.eye(1, 64), np.ones((1, 64))
    assert said(claims.redundancy([few, all_alike, few], []))[0] == "open"


def hurt(levels: np.ndarray, count: float = 20.0) -> ExpertStatistics:
    """Every expert sees `count` text tokens a fold; errors at all widths are those of `levels` `[F, E]` a token."""
    made = synthetic_statistics(2, EXPERTS)
    tokens = np.full((FOLDS, EXPERTS), count)
    errors = np.repeat((count * levels)[..., None], len(made.bits), axis=-1)
    held = {"text_support": tokens, "text_error": errors}
    return replace(made, banks={name: replace(bank, arrays=bank.arrays | held) for name, bank in made.banks.items()})


def test_some_experts_are_hurt_more_or_only_seem_so():
    lasting = np.tile(np.repeat([1.0, 3.0], EXPERTS // 2), (FOLDS, 1))
    found = claims.sensitivity(facts(hurt(lasting)), "text", "text tokens", 2)
    assert said(found) == ["holds"] and "errs 3.0 (3.0 to 3.0) times as much" in found[0].words
    draw = np.random.default_rng(3)
    chance = np.exp(0.35 * draw.standard_normal(lasting.shape))  # within a fold some err more, others in the next
    assert said(claims.sensitivity(facts(hurt(chance)), "text", "text tokens", 2)) == ["otherwise"]
    few = claims.sensitivity(facts(hurt(lasting, 4)), "text", "text tokens", 2)  # 28 without one of eight folds
    assert said(few) == ["open"] and few[0].words == "Too few experts saw 32 text tokens to tell who is hurt more."


def test_the_allocation_is_proven_and_drawn_by_the_formula_or_not():
    costs = cost_table(synthetic_statistics(2, EXPERTS))
    stakes = {bank: table[:, 0] - table[:, -1] for bank, table in costs.items()}
    solved = allocate(costs, costs.bits)
    assert said(claims.program(solved, stakes, None, "MODE")) == ["holds", "holds"]
    against = {bank: -stake for bank, stake in stakes.items()}
    cut = replace(solved, proven_optimal=False, lower_bound=solved.objective - 0.5)
    proof, order, formula = claims.program(cut, against, stakes, "another method")
    assert {proof.verdict, order.verdict, formula.verdict} == {"otherwise"}
    assert "0.5 less" in proof.words and "another method" in formula.words and "is -1.00" in formula.words


def test_the_evidence_speaks_for_a_method_against_it_or_for_neither():
    paired = synthetic_evidence(synthetic_statistics(1, 4)).paired
    rows = paired.query("method == 'mode' and against == 'frequency' and metric == 'kl' and modality != 'all'")
    found = claims.evidence(rows, "MODE", "counting")
    assert said(found) == ["holds"] and "surely better than counting in 2 of 8 cases" in found[0].words
    against = rows.assign(low=-rows["high"], high=-rows["low"])
    assert said(claims.evidence(against, "MODE", "counting")) == ["otherwise"]
    assert said(claims.evidence(rows.assign(apart=5), "MODE", "counting")) == ["open"]
    assert claims.evidence(rows[:0], "MODE", "counting") == []


def test_every_lesson_has_a_check():
    for lesson in LESSONS:
        assert lesson.key in SCENES and callable(getattr(claims, lesson.key))
