"""What the Budget page says of an allocation, in a sentence and in figures."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.charts.measures import original_bytes
from dashboard.components import Figure, Readout
from dashboard.state import current_run
from mode_core.allocation import Allocation
from mode_core.importance import METHODS
from mode_core.importance.methods import NEEDS


@dataclass(frozen=True)
class MemoryUnit:
    """A unit of memory: its sign, its name in words, and its bytes."""

    name: str
    words: str
    size: float


def memory_unit(most: float) -> MemoryUnit:
    """The unit in which sizes of at most `most` bytes are written short: megabytes, or gigabytes from 2 GB on."""
    return MemoryUnit("GB", "Gigabytes", 1e9) if most >= 2e9 else MemoryUnit("MB", "Megabytes", 1e6)


def headline(allocation: Allocation, rival: Allocation) -> Readout:
    """What the allocation is predicted to save against the same bits for all."""
    width = rival.settings["uniform"]
    if rival.objective <= 0:
        return Readout(plain="This method predicts no damage at any width, so it cannot tell allocations apart.")
    saved = 100 * (1 - allocation.objective / rival.objective)
    size = "" if abs(allocation.average_bits - width) < 0.005 else ", the widest uniform width that fits"
    return Readout(
        f"{saved:.0f} % less predicted damage than {width} bits for every expert{size}",
        "(an estimate from calibration; Quantize measures it).",
    )


def metrics(allocation: Allocation, rival: Allocation) -> Readout:
    """Size, predicted damage, solver time and proof, each with its unit."""
    original = original_bytes(current_run.statistics())
    gap = allocation.objective - allocation.lower_bound
    share = 100 * gap / allocation.objective if allocation.objective else 0.0
    proven = allocation.proven_optimal
    return Readout(
        figures=(
            Figure(
                "Size of the experts",
                megabytes(allocation.bytes),
                f"{100 * allocation.bytes / original:.0f} % of {megabytes(original)} at 16 bits",
            ),
            Figure(
                "Predicted damage (estimate)",
                f"{allocation.objective:.3g}",
                f"{rival.objective:.3g} with {rival.settings['uniform']} bits for all",
            ),
            Figure("Average bits", f"{allocation.average_bits:.3f}", "over all expert weights"),
            Figure("Solved in", f"{1e3 * allocation.seconds:.1f} ms", "by an exact solver"),
            Figure(
                "Best possible?",
                "proven optimal" if proven else f"within {share:.2g} %",
                "no allocation does better" if proven else "of the lower bound",
            ),
        )
    )


def megabytes(count: int) -> str:
    """Bytes in words: '3.42 MB', '14.1 GB'."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def missing_methods() -> str:
    """Which methods this run cannot serve, and what it would take."""
    missing = [method for method in METHODS.values() if not method.available(current_run.statistics())]
    told = ", ".join(method.title for method in missing)
    wanted = sorted({NEEDS[method.needs].words for method in missing})
    how = f"\n\nNot measured in this run ({', '.join(wanted)}): {told}. Calibrate again with these." if missing else ""
    return "How much each expert matters. One choice changes the cost of every expert, and so the bits." + how
