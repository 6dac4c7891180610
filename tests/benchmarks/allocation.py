"""How fast allocations are, beside the usual ways: `python -m tests.benchmarks.allocation [--quick]`.

Synthetic costs, seeded. Prints one table in Markdown; a row's median and best are over the repeats stated (on a busy
machine the best says more; the load is printed). The other ways solve the same problem: `scipy.optimize.milp` bank by
bank, as the paper's released code does, and the whole problem as one programme in PuLP with HiGHS and with CBC. These
stop at a time limit, and then their objective may be worse than ours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pulp
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from mode_core.allocation import Solver, allocate, frontier

LIMIT = 60.0


def synthetic_costs(banks: int, experts: int, bits: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Skewed importance, about a quarter of the damage per bit more, 30 % noise: many curves are not convex."""
    draw = np.random.default_rng(seed)
    importance = np.exp(1.5 * draw.standard_normal([banks, experts, 1]))
    noise = np.exp(0.3 * draw.standard_normal([banks, experts, len(bits)]))
    costs = importance * noise * 4.0 ** -np.asarray(bits, dtype=float)
    return {f"layers.{number}": table for number, table in enumerate(costs)}


def timed(work: Callable[[], float], repeats: int) -> tuple[float, float, float]:
    """Median and best milliseconds, and the objective."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(seconds), 1e3 * min(seconds), value


def scipy_per_bank(costs: dict[str, np.ndarray], bits: tuple[int, ...], average: float) -> float:
    """`scipy.optimize.milp` on each bank, as the paper's released code does."""
    return sum(_milp(table, np.tile(bits, len(table)), average * len(table)) for table in costs.values())


def _milp(table: np.ndarray, load: np.ndarray, budget: float) -> float:
    experts, widths = table.shape
    rows = np.repeat(np.arange(experts), widths)
    one = csr_array((np.ones(table.size), (rows, np.arange(table.size))), shape=(experts, table.size))
    constraint = LinearConstraint(vstack([one, csr_array(load[None, :].astype(float))]), *_sides(experts, budget))
    scale = 1e4 / table.max()
    found = milp(
        table.ravel() * scale,
        constraints=constraint,
        integrality=np.ones(table.size),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0, "time_limit": LIMIT},
    )
    return found.fun / scale


def _sides(experts: int, budget: float) -> tuple[np.ndarray, np.ndarray]:
    return np.append(np.ones(experts), -np.inf), np.append(np.ones(experts), budget)


def pulp_whole(costs: dict[str, np.ndarray], bits: tuple[int, ...], average: float, scope: str, solver) -> float:
    """The whole problem as one integer programme in PuLP."""
    scale = 1e4 / max(table.max() for table in costs.values())
    model, objective, loads = pulp.LpProblem("whole", pulp.LpMinimize), [], []
    for bank, table in costs.items():
        own = []
        for expert, row in enumerate(table):
            x = [pulp.LpVariable(f"x_{bank}_{expert}_{width}", cat="Binary") for width in bits]
            one = pulp.LpAffineExpression([(variable, 1) for variable in x])
            model += pulp.LpConstraint(one, pulp.LpConstraintEQ, f"one_{bank}_{expert}", 1)
            objective += zip(x, (row * scale).tolist(), strict=True)
            own += zip(x, bits, strict=True)
        loads.append((own, average * len(table)))
    if scope == "model":
        loads = [([pair for own, _ in loads for pair in own], sum(budget for _, budget in loads))]
    for number, (own, budget) in enumerate(loads):
        load = pulp.LpAffineExpression(own)
        model += pulp.LpConstraint(load, pulp.LpConstraintLE, f"budget_{number}", budget)
    model += pulp.LpAffineExpression(objective)
    model.solve(solver)
    return (pulp.value(model.objective) or np.nan) / scale


def ours(costs, bits, average, scope, **constraints) -> float:
    """One budget, from costs to the proven optimum."""
    found = allocate(costs, bits, average, scope, **constraints)
    assert found.proven_optimal
    return found.objective


def line(size: str, scope: str, what: str, work: Callable[[], float], repeats: int = 1) -> None:
    """Measure and print one row."""
    median, best, objective = timed(work, repeats)
    print(f"| {size} | {scope} | {what} | {median:,.2f} | {best:,.2f} | {objective:.8f} | {repeats} |", flush=True)


def compare(banks: int, experts: int, bits: tuple[int, ...], scope: str, others: tuple[str, ...] = ()) -> None:
    """One size and scope: first solve, another budget, frontier, side constraints, and the other ways."""
    costs, size, average = synthetic_costs(banks, experts, bits), f"{banks}×{experts}×{len(bits)}", bits[0] + 0.97
    line(size, scope, "ours, costs to proven optimum", lambda: ours(costs, bits, average, scope), 9)
    solver, budgets = Solver(costs, bits, scope), iter(np.linspace(bits[0] + 0.1, bits[-1] - 0.1, 51))
    solver.solve(average)
    line(size, scope, "ours, another budget", lambda: solver.solve(next(budgets)).objective, 51)
    line(size, scope, "ours, whole frontier", lambda: frontier(solver).objective[0], 9)
    units = experts if scope == "bank" else experts * banks
    counts = {"at_least": {bits[1]: units * 3 // 5}}
    what = f"ours, at least {units * 3 // 5} at {bits[1]} bits"
    line(size, scope, what, lambda: ours(costs, bits, bits[0] + 1.0, scope, **counts))
    if "scipy" in others:
        line(size, scope, "scipy.optimize.milp per bank", lambda: scipy_per_bank(costs, bits, average))
    if "highs" in others:
        highs = pulp.HiGHS(msg=False, gapRel=0, threads=1, timeLimit=LIMIT)
        line(size, scope, "PuLP + HiGHS, whole problem", lambda: pulp_whole(costs, bits, average, scope, highs))
    if "cbc" in others:
        cbc = pulp.PULP_CBC_CMD(msg=False, gapRel=0, threads=1, timeLimit=LIMIT)
        name = f"PuLP + CBC, whole problem (≤ {LIMIT:.0f} s)"
        line(size, scope, name, lambda: pulp_whole(costs, bits, average, scope, cbc))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ours only, without the other ways")
    quick = parser.parse_args().quick
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{os.cpu_count()} CPU cores, load (1, 5, 15 minutes) {load}; numpy {np.__version__}, PuLP {pulp.__version__}\n"
    )
    print("| banks × experts × widths | scope | what | median ms | best ms | objective | repeats |")
    print("|---|---|---|---:|---:|---:|---:|")
    small, large = (2, 3, 4), (1, 2, 3, 4, 6, 8)
    compare(48, 128, small, "bank", () if quick else ("scipy", "highs", "cbc"))
    compare(48, 128, small, "model", () if quick else ("highs", "cbc"))
    compare(48, 128, (1, 2, 3, 4), "bank")
    compare(60, 512, large, "model", () if quick else ("highs",))


if __name__ == "__main__":
    main()
