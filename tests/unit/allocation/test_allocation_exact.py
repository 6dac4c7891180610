"""Allocations against enumeration of every choice, and against the plain integer programme at real size."""

from __future__ import annotations

import itertools

import numpy as np
import pulp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mode_core.allocation import AllocationError, allocate
from mode_core.allocation.dp import Table, fill
from mode_core.importance import cost_table
from tests.synthetic import synthetic_statistics

SLACK = 1e-9


def enumerate_best(cost, weight, budget, equality=False, allowed=None, least=None, most=None):
    """Least cost over every choice of one column per row whose weight fits; None where none does."""
    best = None
    for choice in itertools.product(range(cost.shape[1]), repeat=len(cost)):
        spent = sum(weight[row][column] for row, column in enumerate(choice))
        if spent > budget + SLACK or (equality and abs(spent - budget) > 1e-6):
            continue
        if allowed is not None and not all(allowed[row][column] for row, column in enumerate(choice)):
            continue
        counts = [choice.count(column) for column in range(cost.shape[1])]
        if any(counts[c] < n for c, n in (least or {}).items()) or any(counts[c] > n for c, n in (most or {}).items()):
            continue
        value = sum(cost[row][column] for row, column in enumerate(choice))
        best = value if best is None else min(best, value)
    return best


@st.composite
def requests(draw):
    """Up to two banks of up to four experts, any costs (negative, rising, tied), any of the constraints."""
    widths = tuple(sorted(draw(st.sets(st.sampled_from([0, 1, 2, 3, 4, 8]), min_size=2, max_size=4))))
    number = st.one_of(st.integers(-3, 3).map(float), st.floats(-10, 10, allow_subnormal=False))
    costs = {}
    for bank in range(draw(st.integers(1, 2))):
        experts = draw(st.integers(1, 4 if len(widths) < 4 else 3))
        values = draw(st.lists(number, min_size=experts * len(widths), max_size=experts * len(widths)))
        costs[f"layer{bank}"] = np.array(values).reshape(experts, len(widths))
    columns = st.sampled_from(range(len(widths)))
    return {
        "costs": costs,
        "bits": widths,
        "average_bits": draw(st.floats(widths[0], widths[-1])),
        "scope": draw(st.sampled_from(["bank", "model"])),
        "engine": draw(st.sampled_from(["auto", "dp", "ilp"])),
        "equality": draw(st.booleans()),
        "least": draw(st.dictionaries(columns, st.integers(0, 2), max_size=2)),
        "most": draw(st.dictionaries(columns, st.integers(0, 3), max_size=2)),
        "pins": draw(st.dictionaries(st.integers(0, 3), columns, max_size=2)),
        "weights": {bank: draw(st.integers(1, 3)) for bank in costs},
    }


@pytest.mark.parametrize("least", [{}, {2: 2}, {4: 2}])
@pytest.mark.parametrize("most", [{}, {2: 0}, {4: 0}])
def test_counts_at_the_end_widths(least, most):
    """More of the narrowest or the widest than would be chosen freely, or fewer; both bind."""
    cost, widths = np.array([[9, 2, 1.9], [1, 0.5, 0.4], [8, 3, 2.5], [1, 0.9, 0.1]]), (2, 3, 4)
    ends = [{widths.index(width): count for width, count in side.items()} for side in (least, most)]
    best = enumerate_best(cost, np.tile(widths, (4, 1)), 12, least=ends[0], most=ends[1])
    if best is None:
        with pytest.raises(AllocationError):
            allocate({"a": cost}, widths, 3.0, at_least=least, at_most=most)
        return
    found = allocate({"a": cost}, widths, 3.0, at_least=least, at_most=most)
    assert found.proven_optimal and found.objective == pytest.approx(best)
    assert all((found.bits["a"] == width).sum() >= count for width, count in least.items())
    assert all((found.bits["a"] == width).sum() <= count for width, count in most.items())
    assert (best > 6.1 + 1e-9) == bool(least or most)


def expected(request) -> float | None:
    """Enumeration of a request: the sum over budgets of the best cost, None where one has none."""
    costs, widths = request["costs"], np.array(request["bits"])
    parts = []
    for bank, table in costs.items():
        weight = np.outer(np.full(len(table), request["weights"][bank]), widths)
        allowed = np.ones(table.shape, dtype=bool)
        for expert, column in request["pins"].items():
            if bank == "layer0" and expert < len(table):
                allowed[expert] = np.arange(len(widths)) == column
        parts.append((table, weight, allowed))
    if request["scope"] == "model":
        parts = [tuple(np.concatenate([part[i] for part in parts]) for i in range(3))]
    total = 0.0
    for table, weight, allowed in parts:
        budget = request["average_bits"] * weight[:, -1].sum() / widths[-1]
        best = enumerate_best(table, weight, budget, request["equality"], allowed, request["least"], request["most"])
        if best is None:
            return None
        total += best
    return total


def answer(request):
    """The same request to `allocate`."""
    widths = request["bits"]
    first = request["costs"]["layer0"]
    return allocate(
        request["costs"],
        widths,
        request["average_bits"],
        scope=request["scope"],
        equality=request["equality"],
        at_least={widths[column]: count for column, count in request["least"].items()},
        at_most={widths[column]: count for column, count in request["most"].items()},
        pinned={"layer0": {e: widths[c] for e, c in request["pins"].items() if e < len(first)}},
        weights=request["weights"],
        engine=request["engine"],
    )


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_every_request_matches_enumeration(request):
    if request["equality"]:  # so that the budget can be met at all
        widths = request["bits"]
        request["average_bits"] = float(widths[int(request["average_bits"]) % len(widths)])
    best = expected(request)
    if best is None:
        with pytest.raises(AllocationError):
            answer(request)
        return
    found = answer(request)
    assert found.objective == pytest.approx(best, abs=1e-7)
    assert found.lower_bound <= best + 1e-7
    assert found.proven_optimal
    assert found.objective == pytest.approx(recomputed(request["costs"], request["bits"], found.bits), abs=1e-9)


def recomputed(costs, widths, bits) -> float:
    """Sum of the costs that the bits stand for."""
    column = {width: number for number, width in enumerate(widths)}
    return sum(table[e, column[int(b)]] for bank, table in costs.items() for e, b in enumerate(bits[bank]))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests(), st.integers(0, 1000))
def test_budgets_in_bytes_match_enumeration(request, part):
    widths, costs = np.array(request["bits"]), request["costs"]
    sizes = {bank: 7 * (widths + 1) * request["weights"][bank] + widths**2 for bank in costs}
    rows = [(table, np.tile(sizes[bank], (len(table), 1))) for bank, table in costs.items()]
    least, most = (sum(int(size[0][column]) * len(size) for _, size in rows) for column in (0, -1))
    budget = least + (most - least) * part // 1000
    table, size = (np.concatenate([row[i] for row in rows]) for i in range(2))
    found = allocate(costs, request["bits"], None, "model", sizes=sizes, budget_bytes=budget, engine=request["engine"])
    assert found.objective == pytest.approx(enumerate_best(table, size, budget), abs=1e-7)
    assert found.proven_optimal and found.bytes <= budget
    shared = allocate(costs, request["bits"], None, "bank", sizes=sizes, budget_bytes=budget)
    assert shared.bytes <= budget and shared.objective >= found.objective - 1e-9


@pytest.mark.parametrize("unit", ["expert", "expert_projection", "projection", "layer"])
@pytest.mark.parametrize("scope", ["bank", "model"])
def test_units_match_enumeration(unit, scope):
    draw = np.random.default_rng(5)
    widths, costs = (1, 2, 4), {bank: draw.normal(size=(2, 2, 3)) for bank in ("a", "b")}
    found = allocate(costs, widths, 2.4, scope=scope, unit=unit)
    parts = []
    for table in costs.values():
        rows = {
            "expert": [(row.sum(axis=0), 3) for row in table],
            "expert_projection": [(row[p], (2, 1)[p]) for row in table for p in (0, 1)],
            "projection": [(table[:, p].sum(axis=0), 2 * (2, 1)[p]) for p in (0, 1)],
            "layer": [(table.sum(axis=(0, 1)), 6)],
        }[unit]
        parts.append(rows)
    parts = [parts[0] + parts[1]] if scope == "model" else parts
    best = 0.0
    for rows in parts:
        weight = np.array([[heavy * width for width in widths] for _, heavy in rows])
        best += enumerate_best(np.array([cost for cost, _ in rows]), weight, 2.4 * sum(h for _, h in rows))
    assert found.objective == pytest.approx(best)
    shape = (2, 2) if "projection" in unit else (2,)
    assert all(bits.shape == shape for bits in found.bits.values())
    if unit in ("layer", "projection"):
        assert all((bits == bits[0]).all() for bits in found.bits.values())


def plain_ilp(table: np.ndarray, widths, average: float) -> float:
    """One bank as the paper states it, in PuLP without any of our reductions."""
    model = pulp.LpProblem("plain", pulp.LpMinimize)
    x = [[pulp.LpVariable(f"x{e}_{b}", cat="Binary") for b in range(len(widths))] for e in range(len(table))]
    scale = 1e4 / table.max()
    model += pulp.lpSum(table[e, b] * scale * x[e][b] for e in range(len(table)) for b in range(len(widths)))
    for row in x:
        model += pulp.lpSum(row) == 1
    model += pulp.lpSum(widths[b] * row[b] for row in x for b in range(len(widths))) <= average * len(table)
    model.solve(pulp.HiGHS(msg=False, gapRel=0, threads=1))
    return sum(table[e, b] for e, row in enumerate(x) for b, cell in enumerate(row) if cell.varValue > 0.5)


@pytest.fixture(scope="module")
def big():
    """48 banks × 128 experts; 1 bit is better than its curve, so that hulls have jumps and cores are not empty."""
    statistics = synthetic_statistics(48, 128, bits=(1, 2, 3, 4), seed=3, tokens=4000)
    costs = cost_table(statistics, bits=(1, 2, 3, 4))
    for table in costs.costs.values():
        table[:, 0] = table[:, 1] * 1.5
    return costs


def every_budget(cost: np.ndarray) -> Table:
    """All budgets of widths 1 to 4 at once: entry s is the least cost of a bank whose bits add up to E + s."""
    return fill(cost, np.broadcast_to(np.arange(4), cost.shape), 3 * cost.shape[1])


def test_real_size_matches_the_plain_ilp_and_dp(big):
    found = allocate(big, (1, 2, 3, 4), 2.4, "bank")
    assert found.proven_optimal
    table = np.stack(list(big.values()))
    exact = every_budget(table)
    capacity = int(2.4 * 128) - 128
    best = exact.value[:, : capacity + 1].min(axis=1)
    for number in (0, 17, 47):
        name = list(big)[number]
        own = recomputed({name: big[name]}, (1, 2, 3, 4), found.bits)
        assert own == pytest.approx(best[number], rel=1e-9)
        assert plain_ilp(big[name], (1, 2, 3, 4), 2.4) == pytest.approx(own, rel=1e-9)
    assert found.objective == pytest.approx(best.sum(), rel=1e-9)


def test_dp_trace_gives_the_value_it_promises(big):
    table = np.stack(list(big.values())[:3])
    exact = every_budget(table)
    spent = np.array([5, 100, 384])
    items = exact.trace(spent)
    assert (items.sum(axis=1) == spent).all()
    value = np.take_along_axis(table, items[:, :, None], axis=2).sum(axis=(1, 2))
    assert value == pytest.approx(exact.value[np.arange(3), spent])


@pytest.mark.parametrize("average", [1.7, 2.25, 3.1])
def test_core_engines_agree_and_repeat(big, average):
    few = {name: big[name] for name in list(big)[:6]}
    by_dp = allocate(few, (1, 2, 3, 4), average, "model", engine="dp")
    by_ilp = allocate(few, (1, 2, 3, 4), average, "model", engine="ilp")
    again = allocate(few, (1, 2, 3, 4), average, "model", engine="dp")
    assert by_dp.proven_optimal and by_ilp.proven_optimal
    assert by_dp.objective == pytest.approx(by_ilp.objective, rel=1e-9)
    assert all((by_dp.bits[name] == again.bits[name]).all() for name in few)


def test_model_scope_is_never_worse_than_bank_scope(big):
    for average in (1.5, 2.0, 2.9):
        bank, model = (allocate(big, (1, 2, 3, 4), average, scope) for scope in ("bank", "model"))
        assert model.objective <= bank.objective + 1e-12 and bank.lower_bound >= model.lower_bound
        assert max(bank.average_bits, model.average_bits) <= average + 1e-9
