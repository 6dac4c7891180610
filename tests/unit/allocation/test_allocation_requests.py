"""What allocations refuse and in which words; what they record; frontier, uniform widths, constraints at size."""

from __future__ import annotations

import numpy as np
import pytest

from mode_core.allocation import (
    Allocation,
    AllocationError,
    Solver,
    allocate,
    frontier,
    scope_warning,
    uniform_allocation,
)
from mode_core.importance import CostTable, cost_table
from tests.synthetic import synthetic_statistics

BITS = (2, 3, 4)


@pytest.fixture(scope="module")
def costs() -> CostTable:
    return cost_table(synthetic_statistics(4, 16, seed=1), bits=BITS)


def broken(costs: CostTable, value: float) -> dict[str, np.ndarray]:
    tables = {name: table.copy() for name, table in costs.items()}
    tables[list(tables)[2]][5, 1] = value
    return tables


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_cost_that_is_no_number_is_named(costs, value):
    with pytest.raises(AllocationError, match=r"layers\.2\.mlp\.experts, expert 5, at 3 bits is (nan|inf)"):
        allocate(broken(costs, value), BITS)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"average_bits": 1.5}, r"average_bits must lie in \[2, 4\] in bank .*layers\.0.* got 1\.5"),
        ({"average_bits": 4.5, "equality": True}, r"must lie in \[2, 4\]"),
        ({"average_bits": float("nan")}, "must be a number"),
        ({"average_bits": None}, "Give a budget"),
        ({"average_bits": 2.99, "equality": True}, r"nearest are average_bits 2\.9375 and 3\."),
        ({"budget_bytes": 100}, "needs sizes"),
        ({"scope": "layer"}, "no scope 'layer'; choose one of bank, model"),
        ({"unit": "tensor"}, "no unit 'tensor'"),
        ({"unit": "projection"}, r"needs costs by projection"),
        ({"at_least": {5: 1}}, r"at_least names 5 bits, which is not among bits \(2, 3, 4\)"),
        ({"at_least": {4: 17}}, r"asks for 17 units in .*which has 16"),
        ({"at_least": {4: 3}, "at_most": {4: 2}}, r"asks for 3 at 4 bits, at_most allows 2"),
        ({"at_most": {2: 1, 3: 1, 4: 1}}, r"leaves room for 3 units"),
        ({"at_most": {2: -1}}, "whole number of units"),
        ({"at_least": {4: 12}, "average_bits": 3.0}, r"With at_least \{4: 12\}, average_bits .* \[3\.5, 4\]"),
        ({"at_most": {2: 4}, "average_bits": 2.5}, r"With at_most \{2: 4\}, average_bits .* \[2\.75, 4\]"),
        ({"pinned": {"nowhere": {0: 2}}}, "pinned names the bank 'nowhere'"),
        ({"pinned": {"model.language_model.layers.1.mlp.experts": {16: 2}}}, "has experts 0 to 15"),
    ],
)
def test_impossible_requests_name_the_constraint_and_the_range(costs, request_, text):
    with pytest.raises(AllocationError, match=text):
        allocate(costs, **request_)


def test_pins_that_contradict_a_unit_or_the_budget_are_refused(costs):
    bank = next(iter(costs))
    with pytest.raises(AllocationError, match="pinned to different widths, but unit 'layer'"):
        allocate(costs, unit="layer", pinned={bank: {0: 2, 1: 3}})
    with pytest.raises(AllocationError, match=r"must lie in \[3, 4\] .*with the experts that are pinned"):
        allocate(costs, average_bits=2.9, pinned={bank: dict.fromkeys(range(8), 4)})


def test_widths_and_sizes_that_do_not_fit_are_refused(costs):
    with pytest.raises(AllocationError, match="holds no width 8; it has 2, 3, 4"):
        allocate(costs, (2, 8))
    with pytest.raises(AllocationError, match="different whole widths"):
        allocate(costs, (2, 2, 3))
    with pytest.raises(AllocationError, match="bits must be given"):
        allocate(dict(costs))
    with pytest.raises(AllocationError, match=r"shape \[16, 3\]; expected \[experts, 2\]"):
        allocate(dict(costs), (2, 3))
    with pytest.raises(AllocationError, match="must rise with the width"):
        allocate(costs, sizes=dict.fromkeys(costs, np.array([10, 10, 20])))
    with pytest.raises(AllocationError, match="sizes hold no bank"):
        allocate(costs, sizes={})
    with pytest.raises(AllocationError, match=r"budget_bytes must lie in \[640, 1280\]; got 639"):
        allocate(costs, sizes=dict.fromkeys(costs, np.array([10, 15, 20])), budget_bytes=639)
    with pytest.raises(AllocationError, match="holds no expert bank"):
        allocate({}, BITS)


def test_an_equality_that_no_widths_can_meet_is_refused():
    with pytest.raises(AllocationError, match="nearest are average_bits 2 and 3"):
        allocate({"a": np.zeros([2, 2])}, (2, 4), 2.5, equality=True)
    with pytest.raises(AllocationError, match=r"average_bits of the model exactly 2\.2\."):
        tables = {"a": np.zeros([1, 2]), "b": np.zeros([1, 2])}
        allocate(tables, (2, 3), 2.2, "model", equality=True, weights={"a": 3, "b": 2})


def test_a_table_may_be_asked_for_some_of_its_widths_in_any_order(costs):
    few = allocate(costs, (4, 2), 3.0)
    same = allocate({name: table[:, [0, 2]] for name, table in costs.items()}, (2, 4), 3.0)
    assert few.widths == (2, 4) and few.objective == pytest.approx(same.objective)
    assert all((few.bits[name] == same.bits[name]).all() for name in costs)


def test_a_width_that_costs_more_and_hurts_more_is_not_chosen():
    found = allocate({"a": np.array([[3.0, 1.0, 2.0], [-1.0, -5.0, -2.0]])}, BITS, 4.0)
    assert found.bits["a"].tolist() == [3, 3] and found.objective == -4.0 and found.proven_optimal


def test_ties_go_to_the_earlier_bank_and_the_lower_expert():
    table = np.tile(4.0 ** -np.array(BITS), (4, 1))
    found = allocate({"a": table, "b": table}, BITS, 2.75, "model")
    assert found.bits["a"].tolist() == [3, 3, 3, 3] and found.bits["b"].tolist() == [3, 3, 2, 2]


def test_more_experts_than_the_budget_divides_leaves_less_than_one_step(costs):
    found = allocate(costs, average_bits=2.7)
    assert found.average_bits == pytest.approx(np.floor(2.7 * 16) / 16)
    assert found.settings["average_bits"] == 2.7 and found.settings["key_ratio"] == 0.2 and found.method == "mode"


def test_equality_spends_exactly_even_where_it_hurts():
    rising = {"a": np.array([[0.0, 1.0, 5.0], [0.0, 2.0, 3.0]])}
    assert allocate(rising, BITS, 3.0).objective == 0.0
    exact = allocate(rising, BITS, 3.0, equality=True)
    assert exact.objective == 3.0 and exact.average_bits == 3.0


def test_only_layer_units_can_be_priced_against_experts(costs):
    experts, layers = (allocate(costs, BITS, 3.1, "model", unit) for unit in ("expert", "layer"))
    assert layers.objective > experts.objective
    assert all(len(np.unique(bits)) == 1 for bits in layers.bits.values())


@pytest.mark.parametrize("scope", ["bank", "model"])
def test_the_frontier_is_what_the_solver_finds(costs, scope):
    sizes = dict.fromkeys(costs, np.array([100, 140, 185]))
    solver = Solver(costs, scope=scope, sizes=sizes)
    curve = frontier(solver, points=33)
    assert (np.diff(curve.objective) <= 1e-12).all() and (curve.lower_bound <= curve.objective).all()
    for point in (0, 7, 16, 25, 32):
        found = solver.solve(curve.average_bits[point])
        assert curve.lower_bound[point] - 1e-9 <= found.objective <= curve.objective[point] + 1e-9
        assert found.objective == pytest.approx(curve.objective[point], rel=1e-6)
        assert found.bytes == curve.bytes[point]
    assert curve.uniform_objective == pytest.approx([uniform_allocation(costs, None, b).objective for b in BITS])
    assert curve.uniform_bytes.tolist() == [64 * 100, 64 * 140, 64 * 185]


def test_uniform_widths_are_an_allocation_with_an_honest_bound(costs):
    uniform, best = uniform_allocation(costs, BITS, 3), allocate(costs)
    assert uniform.average_bits == 3.0 and not uniform.proven_optimal
    assert uniform.lower_bound <= best.objective < uniform.objective
    assert uniform_allocation(costs, BITS, 4).proven_optimal
    with pytest.raises(AllocationError, match="no width 5"):
        uniform_allocation(costs, BITS, 5)


def test_one_budget_for_all_banks_warns_unless_costs_compare(costs):
    assert "each layer's own unit" in scope_warning(costs)
    assert "each layer's own unit" in allocate(costs, scope="model").settings["warning"]
    assert "warning" not in allocate(costs, scope="bank").settings
    comparable = cost_table(synthetic_statistics(2, 8), "mode_output")
    assert scope_warning(comparable) is None and scope_warning(dict(costs)) is None


@pytest.mark.parametrize("scope", ["bank", "model"])
@pytest.mark.parametrize("equality", [False, True])
def test_counts_at_size_cost_no_less_and_hold(costs, scope, equality):
    units = 16 if scope == "bank" else 64
    free = allocate(costs, BITS, 3.0, scope, equality=equality)
    counts = {"at_least": {3: units // 2}, "at_most": {4: units // 8}}
    held = allocate(costs, BITS, 3.0, scope, equality=equality, **counts)
    assert held.proven_optimal and held.objective >= free.objective
    parts = list(held.bits.values()) if scope == "bank" else [np.concatenate(list(held.bits.values()))]
    assert all((part == 3).sum() >= units // 2 and (part == 4).sum() <= units // 8 for part in parts)


def test_an_allocation_survives_its_file(costs, tmp_path):
    found = allocate(costs, pinned={next(iter(costs)): {3: 4}})
    found.save(tmp_path / "a.json")
    again = Allocation.load(tmp_path / "a.json")
    assert again.objective == found.objective and again.widths == found.widths and again.proven_optimal
    assert all((again.bits[name] == bits).all() for name, bits in found.bits.items())
    assert found.bits[next(iter(costs))][3] == 4


@pytest.mark.parametrize("scope", ["bank", "model"])
def test_one_width_alone_and_too_few_bytes_is_refused(scope: str) -> None:
    costs, sizes = {"a": np.ones([4, 1]), "b": np.ones([2, 1])}, {"a": np.array([10]), "b": np.array([30])}
    solver = Solver(costs, (3,), scope, sizes=sizes)
    assert solver.solve(None, budget_bytes=100).bytes == 100
    with pytest.raises(
        AllocationError, match=r"budget_bytes must be at least 100, as there is one width alone.*got 99"
    ):
        solver.solve(None, budget_bytes=99)
    with pytest.raises(AllocationError, match=r"at least 107, 7 of them for all that is not a routed expert"):
        solver.solve(None, budget_bytes=106, fixed_bytes=7)
    exact = Solver(costs, (3,), scope, equality=True, sizes=sizes)
    with pytest.raises(AllocationError, match=r"budget_bytes must lie in \[100, 100\]; got 101"):
        exact.solve(None, budget_bytes=101)


def test_pins_that_leave_nothing_to_choose_do_not_hide_too_few_bytes() -> None:
    costs, sizes = {"a": np.ones([2, 2])}, {"a": np.array([10, 20])}
    solver = Solver(costs, (2, 4), pinned={"a": {0: 4, 1: 4}}, sizes=sizes)
    with pytest.raises(AllocationError, match=r"must lie in \[40, 40\] with the experts that are pinned; got 39"):
        solver.solve(None, budget_bytes=39)
