"""What one step of a slider costs on the server, part by part: `python -m tests.benchmarks.interactive`.

Synthetic statistics (seed 0) of 48 banks × 128 experts and of 4 × 32. Each part is timed alone, with the caches that
the dashboard has (statistics summed once); a dragged key ratio visits a new ratio at every step, a dragged budget a
new budget. The median of 15 runs is shown, in milliseconds of wall time and of this process's CPU time. The browser's
part (transfer and redraw) is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from statistics import median

import plotly.io

from dashboard import charts
from dashboard.charts.measures import divergences, frontier_of, starved
from dashboard.words import tables
from mode_core.allocation import Solver
from mode_core.importance import cost_table, frequencies
from tests.synthetic import synthetic_statistics

SIZES = ((48, 128), (4, 32))
REPEATS = 15
SIGNAL = "text_attention"


def milliseconds(step: Callable[[int], object]) -> tuple[float, float]:
    """Median wall and CPU time of `step(0)`, `step(1)`, … after one run to warm up."""
    step(0)
    walls, works = [], []
    for number in range(1, REPEATS + 1):
        wall, work = time.perf_counter(), time.process_time()
        step(number)
        walls.append(1e3 * (time.perf_counter() - wall))
        works.append(1e3 * (time.process_time() - work))
    return median(walls), median(works)


def parts(banks: int, experts: int) -> dict[str, Callable[[int], object]]:
    """Name → one step of that part; the argument numbers the step."""
    statistics = synthetic_statistics(banks, experts, bits=(1, 2, 3, 4), unsupported=1)
    axes, widths = charts.Axes.of(statistics), (2, 3, 4)
    costs = cost_table(statistics, bits=widths)
    solver, fresh = Solver(costs), count()
    shares = frequencies(statistics, 0.2)
    grid = charts.FrequencyGrid.of(statistics, shares, 0.2, SIGNAL)
    sensitivity = charts.SensitivityGrid.of(statistics, 0.2, SIGNAL)
    before, after = solver.solve(2.5), solver.solve(3.0)
    maps, bits = charts.expert_maps(grid, sensitivity, 3), charts.bit_map(axes, after.bits, widths, before.bits)
    rows, columns = charts.layer_order(grid, "divergence"), charts.expert_order(grid, "specialisation")
    line, uniform = frontier_of(solver), [(2, 2, 4.0), (3, 3, 1.0)]

    def ratio(step: int) -> float:
        return (next(fresh) % 99 + 1) / 100

    return {
        "frequencies": lambda step: frequencies(statistics, ratio(step)),
        "frequency grid": lambda step: charts.FrequencyGrid.of(statistics, shares, 0.2, SIGNAL),
        "sensitivity grid": lambda step: charts.SensitivityGrid.of(statistics, ratio(step), SIGNAL),
        "bias of every bank": lambda step: (starved(grid), divergences(grid)),
        "costs": lambda step: cost_table(statistics, key_ratio=ratio(step), bits=widths),
        "prepare a solver": lambda step: Solver(costs).solve(3.0),
        "solve": lambda step: solver.solve(2.01 + 0.1 * step),
        "frontier of a solver": lambda step: frontier_of.__wrapped__(solver),
        "damage by layer": lambda step: tables.damage_by_bank(axes, costs, after.bits),
        "figure: maps": lambda step: charts.expert_maps(grid, sensitivity, 3),
        "figure: maps, in order": lambda step: charts.expert_maps(
            grid, sensitivity, 3, rows=rows, columns=columns, selected=(1, 2)
        ),
        "figure: bits": lambda step: charts.bit_map(axes, after.bits, widths, before.bits),
        "figure: counts": lambda step: charts.width_counts(axes, after.bits, widths),
        "figure: frontier": lambda step: charts.frontier_chart(line.average_bits, line.objective, uniform),
        "JSON: maps": lambda step: plotly.io.to_json(maps, validate=False),
        "JSON: bits": lambda step: plotly.io.to_json(bits, validate=False),
    }


def main() -> None:
    """Print the table."""
    found = {size: {name: milliseconds(step) for name, step in parts(*size).items()} for size in SIZES}
    head = "".join(f"{f'{banks} × {experts}':>22}" for banks, experts in SIZES)
    print(f"{'milliseconds, wall (CPU)':<40}{head}")
    for name in found[SIZES[0]]:
        cells = [found[size][name] for size in SIZES]
        print(f"{name:<40}" + "".join(f"{f'{wall:.1f} ({work:.1f})':>22}" for wall, work in cells))


if __name__ == "__main__":
    main()
