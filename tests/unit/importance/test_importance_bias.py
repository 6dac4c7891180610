"""Bias measures against scipy, intervals against repeated drawing, rivals against sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import spearmanr
from scipy.stats import t as student

from mode_core.allocation import allocate
from mode_core.importance import (
    METHODS,
    ImportanceError,
    cost_table,
    frequency_intervals,
)
from mode_core.importance.bias import busiest, jensen_shannon, spearman, starved
from mode_core.importance.folds import jackknife
from mode_core.importance.rivals import mopeq_trace
from mode_core.importance.sensitivity import data_free
from mode_core.importance.stacks import stacks
from mode_core.statistics import EXTRAS, FOLDS, BankShape, BankStatistics, ExpertStatistics
from tests.synthetic import synthetic_statistics


@pytest.fixture(scope="module")
def statistics() -> ExpertStatistics:
    return synthetic_statistics(3, 16, seed=2)


def shares(seed: int) -> np.ndarray:
    """Shares [5, 12] with ties and zeros."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(0, 6, [5, 12]).astype(float)
    return counts / counts.sum(axis=1, keepdims=True)


def test_measures_agree_with_scipy():
    one, other = shares(1), shares(2)
    assert jensen_shannon(one, other) == pytest.approx(jensenshannon(one, other, base=2, axis=1) ** 2)
    expected = [spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert spearman(one, other) == pytest.approx(expected)
    assert np.isnan(spearman(np.full(4, 0.25), np.array([0.1, 0.2, 0.3, 0.4])))


def test_divergence_is_nothing_for_equals_and_a_bit_for_strangers():
    left, right = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.25, 0.75])
    assert jensen_shannon(left, left) == 0 and jensen_shannon(left, right) == 1


def test_starved_experts_are_busy_for_text_and_low_in_aggregate():
    text = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01])
    aggregate = np.array([0.01, 0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.01])
    assert np.flatnonzero(busiest(text)).tolist() == [0, 1, 2, 3]  # half of a small bank
    assert np.flatnonzero(starved(text, aggregate)).tolist() == [0]
    padded = np.stack([np.pad(each, (0, 4), constant_values=np.nan) for each in (text, aggregate)])
    assert np.flatnonzero(starved(*padded)).tolist() == [0]  # beside banks of other sizes
    assert not starved(np.full(8, np.nan), aggregate).any()


def test_jackknife_of_a_mean_is_the_textbook_interval():
    """Delete-one estimates of a mean of F equal groups give sd/√F exactly."""
    groups = np.random.default_rng(4).normal(size=[FOLDS, 3])
    without = np.stack([np.delete(groups, fold, axis=0).mean(axis=0) for fold in range(FOLDS)])
    found = jackknife(groups.mean(axis=0), without, 0.9)
    error = groups.std(axis=0, ddof=1) / np.sqrt(FOLDS)
    assert found.standard_error == pytest.approx(error)
    assert found.high == pytest.approx(groups.mean(axis=0) + student.ppf(0.95, FOLDS - 1) * error)


def test_intervals_cover_what_fresh_samples_give():
    """60 drawings of 8 experts from a known router, folds of 12 samples that each have their own taste."""
    draw, covered = np.random.default_rng(8), []
    truth = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02])
    for _ in range(60):
        bank = BankStatistics.empty("a", BankShape(0, 8, 4, 4, 1), (2, 4), ())
        for fold in range(FOLDS):
            tastes = draw.dirichlet(truth * 30, size=12)
            bank.arrays["text_selections"][fold] = sum(draw.multinomial(40, taste) for taste in tastes)
            bank.arrays["text_tokens"][fold] = 480
        interval = frequency_intervals(ExpertStatistics({"a": bank}, (2, 4), ()), signal="none")["a"]["text"]
        covered.append((interval.low <= truth) & (truth <= interval.high))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_intervals_of_damage_cover_what_fresh_samples_give():
    """The same for a cost: 60 drawings of Fisher damages, whose mean over text tokens is known; folds of 12 samples."""
    draw, covered = np.random.default_rng(9), []
    truth = np.array([4.0, 2.0, 1.0, 0.5])
    for _ in range(60):
        bank = BankStatistics.empty("a", BankShape(0, 4, 4, 4, 1), (2,), (), extras=("gradients",))
        sample = draw.gamma(2.0, truth / 2, [FOLDS, 12, 4])  # mean `truth` per sample of 10 tokens
        bank.arrays["text_fisher"][..., 0] = 10 * sample.sum(axis=1)
        bank.arrays["text_fisher_support"][:], bank.arrays["text_fisher_tokens"][:] = 30, 120
        bank.arrays["text_tokens"][:] = 120
        made = ExpertStatistics({"a": bank}, (2,), ())
        whole, *without = (
            cost_table(made, "mode_fisher", signal="none", bits=(2,), leave_out_fold=fold)["a"][:, 0]
            for fold in (None, *range(FOLDS))
        )
        interval = jackknife(whole, np.stack(without))
        covered.append((interval.low <= truth) & (truth <= interval.high))
    assert 0.90 <= np.mean(covered) <= 0.99


def test_intervals_cover_the_rest_of_the_bundled_samples(bundled_run):
    """Each half of the bundled run's folds gives an interval of every text frequency. Both are drawn, so estimates
    may differ by the root of both squared reaches: about 95 per cent should."""
    statistics = bundled_run.statistics
    halves = []
    for folds in (range(4), range(4, FOLDS)):
        less = statistics
        for fold in sorted(set(range(FOLDS)) - set(folds), reverse=True):
            less = less.without_fold(fold)
        halves.append(frequency_intervals(less))
    inside = []
    for name, first in halves[0].items():
        one, other = first["text"], halves[1][name]["text"]
        reach = np.sqrt((one.high - one.estimate) ** 2 + (other.high - other.estimate) ** 2)
        inside.append(np.abs(one.estimate - other.estimate) <= reach)
    assert 0.85 <= np.mean(inside) <= 1.0


def test_intervals_need_two_folds():
    bank = BankStatistics.empty("a", BankShape(0, 2, 4, 4, 1), (2, 4), ())
    bank.arrays["text_tokens"][5] = 3
    with pytest.raises(ImportanceError, match="at least two folds; these statistics have 1"):
        frequency_intervals(ExpertStatistics({"a": bank}, (2, 4), ()), signal="none")


def test_mopeq_closed_form_is_what_hutchinson_sampling_gives():
    """Hessian–vector products of ‖W‖_F by autograd, 400 probes on the unit sphere, seed 0."""
    generator = torch.Generator().manual_seed(0)
    shape = BankShape(0, 2, 6, 5, 1)
    bank = BankStatistics.empty("a", shape, (2, 4), ())
    sampled = np.zeros(2)
    for expert in range(2):
        for matrix in range(3):
            weight = torch.randn(30, generator=generator, dtype=torch.float64) * (expert + 1)
            bank.arrays["weight_norm"][expert, matrix] = float(weight.norm())
            probes = torch.randn(400, 30, generator=generator, dtype=torch.float64)
            probes /= probes.norm(dim=1, keepdim=True)
            hessian = torch.autograd.functional.hessian(torch.linalg.vector_norm, weight)
            sampled[expert] += float(((probes @ hessian) * probes).sum(dim=1).mean())
    [stack] = stacks(ExpertStatistics({"a": bank}, (2, 4), ()))
    assert mopeq_trace(stack)[0] == pytest.approx(sampled, rel=5e-3)


def hutchinson(matrix: np.ndarray, draw: np.random.Generator, probes: int = 200) -> float:
    """The trace as MoPEQ's authors sample it: the mean over unit vectors v of vᵀHv, H the Hessian of ‖W‖_F."""
    weights = matrix.ravel()
    norm, total = np.linalg.norm(weights), 0.0
    for _ in range(probes):
        probe = draw.standard_normal(weights.size)
        probe /= np.linalg.norm(probe)
        total += probe @ (probe - weights * (weights @ probe) / norm**2) / norm / probes
    return total


def test_mopeq_by_sampling_agrees_with_the_closed_form():
    """The three matrices of two experts, 200 probes each, seed 0; (n − 1)/n shows at n = 30."""
    draw = np.random.default_rng(0)
    bank = BankStatistics.empty("a", BankShape(0, 2, 6, 5, 1), (2, 4), ())
    experts = [[draw.normal(size=(5, 6)), 2 * draw.normal(size=(5, 6)), draw.normal(size=(6, 5))] for _ in range(2)]
    bank.arrays["weight_norm"][:] = [[np.linalg.norm(matrix) for matrix in expert] for expert in experts]
    [stack] = stacks(ExpertStatistics({"a": bank}, (2, 4), ()))
    sampled = [sum(hutchinson(matrix, draw) for matrix in expert) for expert in experts]
    assert mopeq_trace(stack)[0] == pytest.approx(sampled, rel=5e-3)
    assert (1 / bank.arrays["weight_norm"]).sum(axis=1) != pytest.approx(sampled, rel=1e-2)


def test_data_free_estimate_is_what_isotropic_inputs_give():
    """A gated SiLU expert with small random weights, 4,000 Gaussian inputs, independent weight errors; seed 0."""
    draw, hidden, inner = np.random.default_rng(0), 48, 40
    shape = BankShape(0, 1, hidden, inner, 1)
    bank = BankStatistics.empty("a", shape, (2,), ())
    weights = [0.02 * draw.normal(size=size) for size in ((inner, hidden), (inner, hidden), (hidden, inner))]
    errors = [0.05 * weight.std() * draw.normal(size=weight.shape) for weight in weights]
    inputs = 1.5 * draw.normal(size=[4000, hidden])

    def expert(gate, up, down):
        inner_states = inputs @ gate.T
        return (inner_states / (1 + np.exp(-inner_states)) * (inputs @ up.T)) @ down.T

    moved = expert(*(weight + error for weight, error in zip(weights, errors, strict=True)))
    measured = ((expert(*weights) - moved) ** 2).sum(axis=1).mean() / hidden
    bank.arrays["weight_norm"][0] = [np.linalg.norm(weight) for weight in weights]
    bank.arrays["weight_error"][0, 0] = [np.linalg.norm(error) ** 2 for error in errors]
    bank.arrays["input_tokens"][0], bank.arrays["input_energy"][0] = len(inputs), (inputs**2).sum()
    [stack] = stacks(ExpertStatistics({"a": bank}, (2,), ()))
    assert data_free(stack)[0, 0, 0] == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_costs_that_can_be_solved(method):
    statistics = synthetic_statistics(2, 12, unsupported=1, extras=EXTRAS)
    found = cost_table(statistics, method)
    assert METHODS[method].name == method and METHODS[method].description.endswith(".")
    assert found.comparable_across_banks == METHODS[method].comparable
    assert all(table.shape == (12, 3) and (table >= 0).all() for table in found.values())
    assert all((np.diff(table, axis=1) <= 0).all() for table in found.values())
    assert allocate(found, average_bits=2.6).proven_optimal
    blind = ("mopeq", "uniform", "random", "frequency_only")  # these do without the tokens' errors
    assert all(rows.tolist() == [False] * 11 + [method not in blind] for rows in found.unsupported.values())
    assert method in ("mc", "mc_released", "reap", *blind) or all((table > 0).all() for table in found.values())


def test_random_is_by_seed_and_not_by_neighbours(statistics):
    one, again, other = (cost_table(statistics, "random", seed=seed) for seed in (0, 0, 1))
    name = list(statistics.banks)[1]
    alone = replace(statistics, banks={name: statistics.banks[name]})
    assert (one[name] == again[name]).all() and (one[name] != other[name]).any()
    assert (cost_table(alone, "random")[name] == one[name]).all()


def test_banks_of_different_shape_keep_their_order():
    small, large = synthetic_statistics(2, 8, seed=1), synthetic_statistics(4, 12, seed=1)
    names = list(large.banks)
    banks = {names[2]: large.banks[names[2]]} | small.banks | {names[3]: large.banks[names[3]]}
    mixed = replace(small, banks=banks)
    found = cost_table(mixed)
    assert list(found) == list(banks) and [len(found[name]) for name in banks] == [12, 8, 8, 12]
    assert (found[names[2]] == cost_table(large)[names[2]]).all()
    assert allocate(found, scope="model").proven_optimal
