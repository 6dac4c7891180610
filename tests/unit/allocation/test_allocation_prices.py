"""What coarser units and budgets per bank cost; budgets of whole models; experts that are dropped; CBC for HiGHS."""

from __future__ import annotations

import itertools

import numpy as np
import pulp
import pytest

from mode_core.allocation import SCOPES, UNITS, AllocationError, Solver, allocate, ilp, prices, worth_of_a_bit
from mode_core.importance import cost_table
from mode_core.quantization.sizes import expert_bytes
from tests.synthetic import synthetic_statistics
from tests.unit.allocation.test_allocation_hard import enumerated, instance, solved

BITS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def costs() -> dict[str, np.ndarray]:
    """Costs by projection of two banks of three experts, positive and falling."""
    draw = np.random.default_rng(3)
    importance = np.exp(draw.standard_normal([2, 3, 2, 1]))
    table = importance * np.exp(0.2 * draw.standard_normal([2, 3, 2, 4])) * 4.0 ** -np.asarray(BITS)
    return {f"bank{number}": own for number, own in enumerate(table)}


def least(costs, average: float, unit: str, scope: str) -> float:
    """Enumeration of one unit and scope at one budget; gate+up weigh twice what down does."""
    rows, weights, owners = [], [], []
    for bank, table in enumerate(costs.values()):
        parts = {
            "expert": [(table[e].sum(axis=0), 3) for e in range(3)],
            "projection": [(table[:, p].sum(axis=0), 3 * (2 - p)) for p in range(2)],
            "layer": [(table.sum(axis=(0, 1)), 9)],
        }[unit]
        rows += [cost for cost, _ in parts]
        weights += [weight for _, weight in parts]
        owners += [bank if scope == "bank" else 0] * len(parts)
    best = np.inf
    for choice in itertools.product(range(4), repeat=len(rows)):
        loads = np.zeros(2)
        for column, weight, owner in zip(choice, weights, owners, strict=True):
            loads[owner] += weight * (BITS[column] - average)
        if (loads <= 1e-9).all():
            best = min(best, sum(row[column] for row, column in zip(rows, choice, strict=True)))
    return best


def test_prices_against_enumeration(costs):
    for average in (1.0, 2.25, 3.5, 4.0):
        found = prices(lambda unit, scope, average=average: allocate(costs, BITS, average, scope, unit))
        assert [(price.unit, price.scope) for price in found] == list(itertools.product(UNITS, SCOPES))
        for price in found:
            if price.unit != "expert_projection":
                best = least(costs, average, price.unit, price.scope)
                assert price.allocation.objective == pytest.approx(best, rel=1e-9)
                assert price.times(best) == pytest.approx(1.0) and price.times(0.0) is None


def test_coarser_is_never_cheaper_and_what_is_impossible_says_why():
    table = cost_table(synthetic_statistics(4, 16, seed=1), method="mode_output", bits=(2, 3, 4))
    found = {(p.unit, p.scope): p for p in prices(lambda unit, scope: allocate(table, (2, 3, 4), 2.75, scope, unit))}
    finest = found["expert", "model"].allocation.objective
    assert found["layer", "bank"].times(finest) > found["layer", "model"].times(finest) > 1
    assert found["expert", "bank"].times(finest) > 1
    halves = found["projection", "bank"]
    assert halves.allocation is None and "needs costs by projection" in halves.refused and halves.times(1.0) is None
    pinned = {next(iter(table)): {0: 4}}
    held = prices(lambda unit, scope: allocate(table, (2, 3, 4), 2.0, scope, unit, pinned=pinned))
    assert all(price.allocation is None and price.refused for price in held)


def test_a_budget_of_the_whole_model_leaves_the_experts_what_the_rest_does_not_take():
    statistics = synthetic_statistics(2, 8, seed=2)
    table = cost_table(statistics, bits=(2, 3, 4))
    sizes = {bank.name: expert_bytes(bank.shape, (2, 3, 4)) for bank in statistics}
    rest, experts = 123_457, int(sum(size[1] * 8 for size in sizes.values()))
    whole = allocate(table, scope="model", sizes=sizes, budget_bytes=experts + rest, fixed_bytes=rest)
    alone = allocate(table, scope="model", sizes=sizes, budget_bytes=experts)
    assert {k: v.tolist() for k, v in whole.bits.items()} == {k: v.tolist() for k, v in alone.bits.items()}
    assert whole.bytes + rest <= experts + rest
    assert whole.settings["fixed_bytes"] == rest
    low = int(sum(size[0] * 8 for size in sizes.values())) + rest
    with pytest.raises(AllocationError, match=rf"must lie in \[{low}, \d+\], {rest} of them for all that is not"):
        allocate(table, scope="model", sizes=sizes, budget_bytes=rest, fixed_bytes=rest)
    with pytest.raises(AllocationError, match="fixed_bytes belong to a budget in bytes"):
        allocate(table, average_bits=3, fixed_bytes=rest)


def test_experts_may_be_dropped_where_leaving_them_out_costs_least():
    """Width 0 has a size of nothing and a damage of its own, here less than 2 bits for expert 1 only."""
    table = np.array([[9.0, 1.0, 0.5], [0.1, 0.4, 0.2], [7.0, 2.0, 0.1]])
    statistics = synthetic_statistics(1, 3, bits=(2, 4), seed=0)
    sizes = {"a": expert_bytes(next(iter(statistics)).shape, (0, 2, 4))}
    assert sizes["a"][0] == 0
    found = allocate({"a": table}, (0, 2, 4), average_bits=8 / 3, sizes=sizes)
    assert found.bits["a"].tolist() == [4, 0, 4]
    assert found.average_bits == pytest.approx(8 / 3)
    assert found.bytes == 2 * sizes["a"][2]
    kept = allocate({"a": table}, (0, 2, 4), average_bits=8 / 3, at_most={0: 0})
    assert kept.bits["a"].tolist() == [2, 2, 4]


def test_cbc_solves_the_same_where_highs_is_missing(monkeypatch):
    used = []
    real = pulp.PULP_CBC_CMD.actualSolve
    monkeypatch.setattr(pulp.HiGHS, "available", lambda _: False)
    monkeypatch.setattr(
        pulp.PULP_CBC_CMD, "actualSolve", lambda self, *args, **more: (used.append(1), real(self, *args, **more))[1]
    )
    assert isinstance(ilp.solver(), pulp.PULP_CBC_CMD)
    for seed in range(6):
        cost, size, budget = instance(seed)
        found = solved(cost, size, budget, engine="ilp")
        assert found.objective == pytest.approx(enumerated(cost, size, budget), rel=1e-9)
        assert found.proven_optimal
        assert found.lower_bound <= found.objective
    assert used


def test_cbc_without_time_proves_nothing_it_has_not_shown(monkeypatch):
    """A solver that stops early: the answer may still be good, but it is not called proven."""
    monkeypatch.setattr(pulp.HiGHS, "available", lambda _: False)
    cost, size, budget = instance(0)
    programme = ilp.Programme(cost - cost.min(axis=1, keepdims=True), size, budget)
    real = ilp.solve(programme)
    monkeypatch.setattr(pulp, "LpSolutionOptimal", -99)
    unproven = ilp.solve(programme)
    assert unproven.bound == -np.inf
    assert real.bound == real.value == unproven.value


def test_negative_and_rising_costs_are_taken_as_they_are():
    """A width may gain (negative) or hurt more than a lower one; the least sum is still what is found."""
    rising = {"a": np.array([[-1.0, -2.0, 5.0], [3.0, 4.0, -6.0]])}
    assert allocate(rising, (2, 3, 4), average_bits=4.0).bits["a"].tolist() == [3, 4]
    assert allocate(rising, (2, 3, 4), average_bits=3.0).bits["a"].tolist() == [2, 4]
    assert Solver(rising, (2, 3, 4)).solve(2.5).bits["a"].tolist() == [3, 2]


def test_the_worth_of_a_bit_by_hand():
    costs = np.array([[9.0, 4.0, 3.0], [6.0, 5.5, 1.0], [2.0, 1.0, 0.5]])
    gain, loss = worth_of_a_bit(costs, (2, 3, 4), np.array([3, 2, 4]))
    np.testing.assert_allclose(gain, [1.0, 2.5, np.nan])  # the second best goes on to 4 bits, at 5 for two
    np.testing.assert_allclose(loss, [5.0, np.nan, 0.5])
    gain, loss = worth_of_a_bit(costs[:, [2, 0, 1]], (4, 2, 3), np.array([3, 2, 4]))  # columns in any order
    np.testing.assert_allclose([gain[0], loss[0]], [1.0, 5.0])


def test_in_an_optimum_nobody_gains_more_by_a_bit_than_others_lose():
    """Convex costs, all steps of one bit: the largest gain and the least loss meet at the price of a bit."""
    falls = np.sort(np.random.default_rng(5).random((12, 2)), axis=1)[:, ::-1]
    costs = np.concatenate([np.full((12, 1), 3.0), 3 - np.cumsum(falls, axis=1)], axis=1)
    for average in (2.25, 2.5, 3.0, 3.75):
        bits = allocate({"a": costs}, (2, 3, 4), average).bits["a"]
        gain, loss = worth_of_a_bit(costs, (2, 3, 4), bits)
        assert np.nanmax(gain) <= np.nanmin(loss)
