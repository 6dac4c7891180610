"""What the open run is set against: measured evidence, other methods at one width, other calibrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard.state.address import choices
from dashboard.state.current_run import run, run_key, statistics
from dashboard.state.solving import bits_asked, solver_of, widths
from mode_core.allocation import Allocation, Solver
from mode_core.importance import METHODS, cost_table
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics

if TYPE_CHECKING:
    from mode_core.comparison import Evidence


def evidence() -> Evidence | None:
    """Every method measured at the same budgets, as kept in the open run; None where that was not done.

    Raises:
        EvidenceError: the files are incomplete or damaged.
    """
    record = run().path / "evidence" / "evidence.json"
    return _evidence(run_key(), record.stat().st_mtime_ns if record.is_file() else 0, run())


@st.cache_resource(max_entries=4, show_spinner=False)
def _evidence(key: tuple, stamp: int, _run: Run) -> Evidence | None:
    return _run.evidence()


def available_methods() -> list[str]:
    """Names of `METHODS` that the open run measured enough for."""
    held = statistics()
    return [name for name, method in METHODS.items() if method.available(held)]


def costs_at(bits: int) -> dict[str, np.ndarray]:
    """What the chosen method says that each expert would lose at one width: bank → `[E]`."""
    now = choices()
    table = cost_table(statistics(), now.method, now.key_ratio, now.signal, now.vision_weight, (bits,))
    return {bank: costs[:, 0] for bank, costs in table.items()}


def per_expert() -> Allocation:
    """The present budget spent expert by expert, whatever the unit that is chosen; raises as `allocation` does."""
    return solver_of(unit="expert").solve(bits_asked())


def allocation_of(other: ExpertStatistics) -> Allocation:
    """What the present settings would give another calibration, expert by expert, at the widths that both measured.

    Raises:
        ImportanceError, AllocationError: the settings do not fit it.
    """
    now, shared = choices(), tuple(width for width in widths() if width in other.bits)
    costs = cost_table(other, now.method, now.key_ratio, now.signal, now.vision_weight, shared)
    return Solver(costs, shared, scope=now.scope).solve(float(np.clip(bits_asked(), min(shared), max(shared))))
