"""What the open run is set against: measured evidence, other methods at one width, other calibrations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dashboard.state.current_run import run, run_key, statistics
from dashboard.state.remembered import remembered
from dashboard.state.solving import bits_asked, quantizer, request, solve
from mode_core.allocation import Allocation
from mode_core.importance import METHODS
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics

if TYPE_CHECKING:
    from mode_core.comparison import Evidence


def evidence(name: str = "") -> Evidence | None:
    """Every method measured at the same budgets, as kept in the open run; None where that was not done. `name`: one of
    `evidence_names`. Methods that this version does not know are left out: `strange_methods`.

    Raises:
        EvidenceError: the files are incomplete or damaged.
    """
    return _of_known(name)[0]


def strange_methods(name: str = "") -> list[str]:
    """Methods that this evidence names and this version does not know; raises as `evidence`."""
    return _of_known(name)[1]


def _of_known(name: str) -> tuple[Evidence | None, list[str]]:
    record = run().path / "evidence" / name / "evidence.json"
    stamp = record.stat().st_mtime_ns if record.is_file() else 0
    return _evidence((*run_key(), stamp), run(), name)


def evidence_names() -> list[str]:
    """All evidence of the open run: the first, "", and its folders by name."""
    return [""] * (run().path / "evidence" / "evidence.json").is_file() + run().evidence_names()


def all_evidence() -> list[Evidence]:
    """All of it; raises as `evidence`."""
    return [found for name in evidence_names() if (found := evidence(name)) is not None]


@remembered(8)
def _evidence(key: tuple, _run: Run, name: str) -> tuple[Evidence | None, list[str]]:
    found = _run.evidence(name)
    return (None, []) if found is None else found.of_known_methods()


def available_methods() -> list[str]:
    """Names of `METHODS` that the open run measured enough for."""
    held = statistics()
    return [name for name, method in METHODS.items() if method.available(held)]


def costs_at(bits: int) -> dict[str, np.ndarray]:
    """What the chosen method says that each expert would lose at one width: bank → `[E]`."""
    table = replace(request(), widths=(bits,)).costs(statistics())
    return {bank: costs[:, 0] for bank, costs in table.items()}


def per_expert() -> Allocation:
    """The present budget spent expert by expert, whatever the unit that is chosen; raises as `allocation` does."""
    return solve(replace(request(), unit="expert", budget=bits_asked(), measure="bits"))


def allocation_of(other: ExpertStatistics) -> Allocation:
    """What the present settings would give another calibration, expert by expert, at the widths that both measured.

    Raises:
        ImportanceError, AllocationError: the settings do not fit it.
    """
    asked = replace(request(), unit="expert", budget=3.0, measure="bits").fitted(other)
    bits = float(np.clip(bits_asked(), min(asked.widths), max(asked.widths)))
    return replace(asked, budget=bits).solve(other, quantizer())
