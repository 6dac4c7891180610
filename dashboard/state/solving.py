"""What follows from the open run and the choices: frequencies, costs, solvers, allocations, sizes.

Results are kept for the whole process, keyed by the run's folder and its time of change, never by hashing arrays.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import streamlit as st

from dashboard.parts.budget.sweep import Sweep
from dashboard.parts.budget.sweep import sweep as compute_sweep
from dashboard.state.address import choices
from dashboard.state.choices import Choices
from dashboard.state.current_run import run_entry, run_key, statistics
from mode_core.allocation import Allocation, Solver
from mode_core.importance import CostTable, Frequencies
from mode_core.importance import cost_table as compute_costs
from mode_core.importance import frequencies as compute_frequencies
from mode_core.importance.projections import by_projection
from mode_core.quantization.sizes import expert_bytes
from mode_core.statistics import ExpertStatistics


def frequencies() -> dict[str, Frequencies]:
    """Bank name → shares of text, vision, key, redundant and all tokens, for the chosen ratio and signal."""
    now = choices()
    return _frequencies(run_key(), statistics(), now.key_ratio, now.signal)


def costs() -> CostTable:
    """Predicted damage of every expert at every chosen width, by the chosen method."""
    return _costs(run_key(), statistics(), _importance(choices()), widths())


def split_costs() -> CostTable:
    """The same by projection: bank → `[E, 2, B]`, gate and up, and down (an estimate of how they divide)."""
    return by_projection(costs(), statistics())


def solver() -> Solver:
    """The allocation problem, prepared for any budget."""
    return solver_of()


def solver_of(unit: str | None = None, scope: str | None = None) -> Solver:
    """The same at another unit or scope."""
    now = choices()
    unit, scope = unit or now.unit, scope or now.scope
    return _solver(run_key(), statistics(), _importance(now), widths(), scope, _grid_key(), unit, pinned())


def pinned() -> tuple[tuple[int, int, int], ...]:
    """The pins (bank number, expert, bits) that this run and these widths can have."""
    shapes, offered = [bank.shape for bank in statistics()], widths()
    return tuple(
        (bank, expert, bits)
        for bank, expert, bits in choices().pins
        if bank < len(shapes) and expert < shapes[bank].experts and bits in offered
    )


def allocation() -> Allocation:
    """The exact allocation for everything chosen.

    Raises:
        AllocationError: the budget cannot be met with these widths; the text has the feasible range.
    """
    now = choices()
    if now.budget_unit == "MB":
        return solver().solve(None, budget_bytes=round(1e6 * megabytes()))
    return solver().solve(now.average_bits)


def megabytes() -> float:
    """The budget in MB: what was chosen, else the size of all experts at the chosen average bits."""
    now = choices()
    if now.megabytes is not None:
        return now.megabytes
    low, high = size_range()
    few, many = min(widths()), max(widths())
    share = (now.average_bits - few) / (many - few) if many > few else 1.0
    return (low + np.clip(share, 0, 1) * (high - low)) / 1e6


def bits_asked() -> float:
    """The budget in average bits, whatever its unit; within the chosen widths."""
    few, many = min(widths()), max(widths())
    if choices().budget_unit == "bits":
        return float(np.clip(choices().average_bits, few, many))
    low, high = (size / 1e6 for size in size_range())
    share = (megabytes() - low) / (high - low) if high > low else 1.0
    return float(few + np.clip(share, 0, 1) * (many - few))


def size_range() -> tuple[int, int]:
    """Bytes of all packed experts at the narrowest and at the widest chosen width."""
    each = sizes()
    totals = sum(each[bank.name] * bank.shape.experts for bank in statistics())
    return int(totals.min()), int(totals.max())


def uniform_allocation() -> Allocation:
    """The rival of the same size: every expert at the widest of the chosen widths that the budget affords.

    At an average of 2.5 bits that is 2 bits. Raises `AllocationError` as `allocation` does.
    """
    chosen = allocation()
    fitting = [width for width in sorted(widths()) if width <= chosen.average_bits + 1e-9]
    return solver().uniform(fitting[-1] if fitting else min(widths()))


def widths() -> tuple[int, ...]:
    """The chosen widths that this run has measured, rising; all measured ones where none of them was."""
    measured = statistics().bits
    return tuple(sorted(set(choices().widths) & set(measured))) or tuple(sorted(measured))


def grid() -> dict[str, Any]:
    """`group_size` and `symmetric` of the quantizer: as chosen, else as the run's sensitivity was measured."""
    now, measured = choices(), statistics().settings
    return {
        "group_size": int(measured["group_size"]) if now.group_size is None else now.group_size,
        "symmetric": bool(measured["symmetric"]) if now.symmetric is None else now.symmetric,
    }


def rounding() -> dict[str, Any]:
    """Arguments of `quantize_experts`: quantizer, grid, and the widths of attention and shared experts."""
    now = choices()
    around = {"attention_bits": now.attention_bits, "shared_bits": now.shared_bits}
    return grid() | {"method": now.quantizer} | around


def sizes() -> dict[str, np.ndarray]:
    """Bank name → bytes of one packed expert at each of `widths()`, int `[B]`; predicted, exact for `rtn`."""
    return _sizes(run_key(), statistics(), widths(), _grid_key(), False)


RIVALS = ("mode", "frequency", "mc", "mopeq", "random")  # whose allocations stand beside the chosen one
_SAME_AT_ANY_RATIO = ("frequency", "mc", "mc_released", "mopeq", "uniform", "random")


def rivals() -> list[tuple[str, Allocation, float]]:
    """(method, its allocation at the present budget, damage by the *chosen* method's costs), the chosen one left out.

    Each is solved in the chosen scope and unit; the best any can reach by these costs is the chosen allocation.
    """
    now, table, found = choices(), costs(), []
    if "projection" in now.unit:
        table = split_costs()
    budget = {"budget_bytes": round(1e6 * megabytes())} if now.budget_unit == "MB" else {}
    for method in RIVALS:
        if method == now.method:
            continue
        fixed = method in _SAME_AT_ANY_RATIO
        asked = (method, *((0.2, "none", 1.0) if fixed else (now.key_ratio, now.signal, now.vision_weight)))
        solver = _solver(run_key(), statistics(), asked, widths(), now.scope, _grid_key(), now.unit, pinned())
        solved = solver.solve(None if budget else now.average_bits, **budget)
        found.append((method, solved, _damage(table, solved.bits)))
    return found


def _damage(table: CostTable, bits: dict[str, np.ndarray]) -> float:
    """Summed cost of these bits, `[E]` or `[E, 2]` per bank, by any table of the same shape."""
    ordered = np.argsort(table.bits)
    known = np.asarray(table.bits)[ordered]
    return float(
        sum(
            np.take_along_axis(table[name], ordered[np.searchsorted(known, row)][..., None], axis=-1).sum()
            for name, row in bits.items()
        )
    )


def split_sizes() -> dict[str, np.ndarray]:
    """Bytes of one expert's gate and up, and of its down, at each width: bank → `[B, 2]`."""
    return _sizes(run_key(), statistics(), widths(), _grid_key(), True)


def _importance(now: Choices) -> tuple:
    return now.method, now.key_ratio, now.signal, now.vision_weight


def _grid_key() -> tuple:
    """What decides the bytes of an expert: the grid, and the quantizer (hqq keeps larger zero points)."""
    return tuple(sorted((grid() | {"method": choices().quantizer}).items()))


@st.cache_resource(max_entries=64, show_spinner=False)
def _frequencies(key: tuple, _statistics: ExpertStatistics, key_ratio: float, signal: str) -> dict[str, Frequencies]:
    return compute_frequencies(_statistics, key_ratio=key_ratio, signal=signal)


@st.cache_resource(max_entries=64, show_spinner=False)
def _costs(key: tuple, _statistics: ExpertStatistics, importance: tuple, bits: tuple[int, ...]) -> CostTable:
    method, key_ratio, signal, vision_weight = importance
    return compute_costs(
        _statistics, method=method, key_ratio=key_ratio, signal=signal, vision_weight=vision_weight, bits=bits
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def _sizes(
    key: tuple, _statistics: ExpertStatistics, bits: tuple[int, ...], grid_key: tuple, split: bool
) -> dict[str, np.ndarray]:
    """bank → `[B]`, or with `split` `[B, 2]`; banks of one shape are counted once."""
    alike = {bank.name: replace(bank.shape, layer=0) for bank in _statistics}
    of_shape = {
        shape: expert_bytes(shape, bits, by_projection=split, **dict(grid_key)) for shape in set(alike.values())
    }
    return {name: of_shape[shape] for name, shape in alike.items()}


@st.cache_resource(max_entries=64, show_spinner=False)
def _solver(
    key: tuple,
    _statistics: ExpertStatistics,
    importance: tuple,
    bits: tuple[int, ...],
    scope: str,
    grid_key: tuple,
    unit: str = "expert",
    pins: tuple[tuple[int, int, int], ...] = (),
) -> Solver:
    table, split = _costs(key, _statistics, importance, bits), "projection" in unit
    if split:
        table = by_projection(table, _statistics)
    each = _sizes(key, _statistics, bits, grid_key, split)
    names, wishes = list(_statistics.banks), {}
    for bank, expert, width in pins:
        wishes.setdefault(names[bank], {})[expert] = width
    return Solver(table, bits, scope=scope, unit=unit, sizes=each, pinned=wishes or None)


def sweep(settings: tuple[tuple[float, str], ...]) -> Sweep:
    """The present allocation's request, with each of these (key ratio, signal) in place of the chosen ones."""
    now = choices()
    request = (now.method, now.vision_weight, widths(), now.scope, round(bits_asked(), 4))
    return _sweep(run_key(), statistics(), settings, request)


@st.cache_resource(max_entries=16, show_spinner="Solving for every key ratio …")
def _sweep(key: tuple, _statistics: ExpertStatistics, settings: tuple, request: tuple) -> Sweep:
    return compute_sweep(_statistics, settings, *request)


# --- stale marks -------------------------------------------------------------------------------------------


def fingerprint(of: Allocation | None = None) -> str:
    """Seal of what a quantized model is made from: the run, every expert's bits, and the quantizer's grid.

    A measured result is stale exactly where its fingerprint is another one than this.
    """
    chosen = of or allocation()
    now = choices()
    around = (now.attention_bits, now.shared_bits)
    seal = hashlib.sha256(json.dumps([str(run_entry().path), *map(str, _grid_key()), *around]).encode())
    for bank, bits in sorted(chosen.bits.items()):
        seal.update(bank.encode() + np.asarray(bits, np.int16).tobytes())
    return seal.hexdigest()[:16]


def settings_now() -> dict[str, Any]:
    """Everything chosen as a plain dictionary, to be kept beside a measured result."""
    return asdict(choices()) | {"widths": list(widths())} | grid()
