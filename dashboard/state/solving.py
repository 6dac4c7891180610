"""What follows from the open run and the choices: frequencies, costs, solvers, allocations, sizes.

Results are kept for the whole process, keyed by the run's folder and its time of change and by what was asked for,
never by hashing arrays.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np

from dashboard.state import folders
from dashboard.state.address import choices
from dashboard.state.choices import describe
from dashboard.state.current_run import run_entry, run_key, statistics
from dashboard.state.remembered import remembered
from dashboard.state.sweep import Sweep
from dashboard.state.sweep import sweep as compute_sweep
from mode_core.allocation import Allocation, Solver
from mode_core.errors import ModeError
from mode_core.importance import METHODS, CostTable, Frequencies
from mode_core.importance import frequencies as compute_frequencies
from mode_core.importance.projections import by_projection
from mode_core.request import AllocationRequest, Quantizer
from mode_core.statistics import ExpertStatistics
from mode_core.traffic import follows_frequencies

CALIBRATED_ON = 64  # samples that a quantizer looks at here, where it looks at any


def request() -> AllocationRequest:
    """What is asked for, as the open run can have it: its widths, its experts, and the budget in its unit; traffic only
    where the method looks at frequencies."""
    asked = choices().request.fitted(statistics())
    if asked.traffic and not heard():
        asked = replace(asked, traffic="")
    if choices().budget_unit == "MB":
        return replace(asked, budget=float(round(1e6 * megabytes())), measure="bytes")
    return asked


def heard() -> bool:
    """Does the chosen method look at how often experts are chosen, so that traffic changes its allocation?"""
    return _heard(run_key(), statistics(), choices().request.method)


def quantizer() -> Quantizer:
    """How weights are rounded: as chosen, else as the run's sensitivity was measured."""
    return _fitted(run_key(), statistics(), choices().quantizer)


def frequencies() -> dict[str, Frequencies]:
    """Bank name → shares of text, vision, key, redundant and all tokens, for the chosen ratio and signal."""
    now = choices().request
    return _frequencies(run_key(), statistics(), now.key_ratio, now.signal)


def costs() -> CostTable:
    """Predicted damage of every expert at every chosen width, by the chosen method."""
    return costs_of(request())


def costs_of(asked: AllocationRequest) -> CostTable:
    """The same for another request."""
    return _costs(run_key(), statistics(), asked.costs_alone)


def split_costs() -> CostTable:
    """The same by projection: bank → `[E, 2, B]`, gate and up, and down (an estimate of how they divide)."""
    return by_projection(costs(), statistics())


def solver() -> Solver:
    """The allocation problem, prepared for any budget."""
    return solver_of(request())


def solver_of(asked: AllocationRequest) -> Solver:
    """The problem of another request, prepared for any budget."""
    return _solver(run_key(), statistics(), asked.unbudgeted, quantizer().of_experts)


def solve(asked: AllocationRequest) -> Allocation:
    """The exact allocation of a request.

    Raises:
        AllocationError: the budget cannot be met with these widths; the text has the feasible range.
    """
    return _solved(run_key(), statistics(), asked, quantizer())


def allocation() -> Allocation:
    """The exact allocation for everything chosen; raises as `solve`."""
    return solve(request())


def megabytes() -> float:
    """The budget in MB: what was chosen, else the size of all experts at the chosen average bits."""
    if (chosen := choices().megabytes) is not None:
        return chosen
    low, high = size_range()
    few, many = min(widths()), max(widths())
    share = (choices().request.budget - few) / (many - few) if many > few else 1.0
    return (low + np.clip(share, 0, 1) * (high - low)) / 1e6


def bits_asked() -> float:
    """The budget in average bits, whatever its unit; within the chosen widths."""
    few, many = min(widths()), max(widths())
    if choices().budget_unit == "bits":
        return float(np.clip(choices().request.budget, few, many))
    low, high = (size / 1e6 for size in size_range())
    share = (megabytes() - low) / (high - low) if high > low else 1.0
    return float(few + np.clip(share, 0, 1) * (many - few))


def size_range() -> tuple[int, int]:
    """Bytes of all packed experts at the narrowest and at the widest chosen width."""
    each = _sizes(run_key(), statistics(), widths(), quantizer().of_experts, False)
    totals = sum(each[bank.name] * bank.shape.experts for bank in statistics())
    return int(totals.min()), int(totals.max())


def uniform_like(chosen: Allocation) -> Allocation:
    """The rival of the same size: uniform bits, of two neighbouring widths where the size lies between them, as
    `compare` makes it."""
    return solve(AllocationRequest("uniform", widths=widths(), budget=chosen.average_bits))


def widths() -> tuple[int, ...]:
    """The chosen widths that this run has measured, rising; all measured ones where none of them was."""
    return choices().request.fitted(statistics()).widths


def rivals() -> list[tuple[str, Allocation, float]]:
    """(method, its allocation at the present budget, damage by the *chosen* method's costs), the chosen one left out.

    Each is solved in the chosen scope and unit; the best any can reach by these costs is the chosen allocation.
    """
    asked = request()
    table = split_costs() if "projection" in asked.unit else costs()
    others = [name for name, method in METHODS.items() if method.rival and name != asked.method]
    solved = [(name, solve(replace(asked, method=name))) for name in others]
    return [(name, found, table.damage(found.bits)) for name, found in solved]


def split_sizes() -> dict[str, np.ndarray]:
    """Bytes of one expert's gate and up, and of its down, at each width: bank → `[B, 2]`."""
    return _sizes(run_key(), statistics(), widths(), quantizer().of_experts, True)


@remembered(16)
def _fitted(key: tuple, _statistics: ExpertStatistics, chosen: Quantizer) -> Quantizer:
    chosen = replace(chosen, samples=CALIBRATED_ON) if chosen.kind.needs_samples else chosen
    return chosen.fitted(_statistics)


@remembered(64)
def _heard(key: tuple, _statistics: ExpertStatistics, method: str) -> bool:
    if not METHODS[method].available(_statistics):
        return False  # the page says what is missing
    return follows_frequencies(_statistics, AllocationRequest(method, widths=_statistics.bits).costs)


@remembered(64)
def _frequencies(key: tuple, _statistics: ExpertStatistics, key_ratio: float, signal: str) -> dict[str, Frequencies]:
    return compute_frequencies(_statistics, key_ratio=key_ratio, signal=signal)


@remembered(64)
def _costs(key: tuple, _statistics: ExpertStatistics, asked: AllocationRequest) -> CostTable:
    return asked.costs(_statistics)


@remembered(64)
def _sizes(
    key: tuple, _statistics: ExpertStatistics, bits: tuple[int, ...], quantizer: Quantizer, split: bool
) -> dict[str, np.ndarray]:
    return quantizer.sizes(_statistics, bits, split)


@remembered(64)
def _solver(key: tuple, _statistics: ExpertStatistics, asked: AllocationRequest, quantizer: Quantizer) -> Solver:
    sizes = _sizes(key, _statistics, asked.widths, quantizer, "projection" in asked.unit)
    return asked.solver(_statistics, quantizer, _costs(key, _statistics, asked.costs_alone), sizes)


@remembered(64)
def _solved(key: tuple, _statistics: ExpertStatistics, asked: AllocationRequest, quantizer: Quantizer) -> Allocation:
    return asked.within(_solver(key, _statistics, asked.unbudgeted, quantizer.of_experts), quantizer)


def sweep(settings: tuple[tuple[float, str], ...]) -> Sweep:
    """The present request, with each of these (key ratio, signal) in place of the chosen ones."""
    asked = replace(request(), budget=round(bits_asked(), 4), measure="bits")
    return _sweep(run_key(), statistics(), settings, asked, quantizer().of_experts)


@remembered(16, "Solving for every key ratio …")
def _sweep(
    key: tuple, _statistics: ExpertStatistics, settings: tuple, asked: AllocationRequest, quantizer: Quantizer
) -> Sweep:
    return compute_sweep(_statistics, settings, asked, quantizer)


# --- stale marks -------------------------------------------------------------------------------------------


def fingerprint(of: Allocation | None = None) -> str:
    """Seal of what a quantized model is made from: the run, every expert's bits, and the quantizer.

    A measured result is stale exactly where its fingerprint is another one than this.
    """
    seal = hashlib.sha256(json.dumps([str(run_entry().path), quantizer().digest]).encode())
    for bank, bits in sorted((of or allocation()).bits.items()):
        seal.update(bank.encode() + np.asarray(bits, np.int16).tobytes())
    return seal.hexdigest()[:16]


def settings_now() -> dict[str, Any]:
    """What is asked for and how it is rounded as plain values, to be kept beside a measured result."""
    return {"request": request().to_dict(), "quantizer": quantizer().to_dict()}


def stem(what: str) -> str:
    """What a download is called, without its ending: the run, what it is, the settings; without a run `what` alone."""
    try:
        words = f"{run_entry().name} {what} {describe(settings_now())}"
    except (folders.NoRunError, ModeError):
        return what
    return re.sub(r"[^\w.]+", "-", words)
