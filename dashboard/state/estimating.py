"""What the numbers of the open run are worth: the estimate it recommends, damage predicted, what checks and other
samples say of both. Kept for the process, by the run and its check and anchor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dashboard.charts.evidence import means
from dashboard.state import address, comparisons, solving
from dashboard.state.current_run import changed, profile, run, run_key, statistics
from dashboard.state.folders import NoRunError
from dashboard.state.remembered import remembered
from mode_core.allocation import Allocation, Solver
from mode_core.errors import FileError, ModeError
from mode_core.importance import METHODS, ImportanceError, Recommendation
from mode_core.importance import recommended as best_known
from mode_core.modalities import KEY_RATIO
from mode_core.prediction import (
    Anchor,
    Check,
    Prediction,
    Predictor,
    Stability,
    Sufficiency,
    allocation_stability,
    fold_solvers,
    sufficiency,
)
from mode_core.request import AllocationRequest, Quantizer
from mode_core.run import Run
from mode_core.runs.run import ANCHOR_FILE, CHECK_FILE
from mode_core.statistics import ExpertStatistics

NEARLY = 0.01  # share of experts
PAPER = {"method": "mode", "scope": "bank", "shrinkage": 0.0, "key_ratio": KEY_RATIO, "vision_weight": 1.0}


def settle() -> None:
    """Begin with what the open run recommends, where the address says nothing else; without a run the page says so."""
    try:
        found = recommended()
    except (NoRunError, FileError):
        return
    address.begin_with(found.settings)


def _key() -> tuple:
    """The run, and the state of its check and its anchor."""
    path, _ = key = run_key()[:2]  # whatever traffic is chosen
    return *key, *(changed(f"{path}/{name}") for name in (CHECK_FILE, ANCHOR_FILE))


def recommended() -> Recommendation:
    """The estimate to begin with; raises as `statistics` does."""
    statistics()  # a run without any is named
    return _recommended(_key(), run())


@remembered(8)
def _recommended(key: tuple, _run: Run) -> Recommendation:
    return best_known(_run.statistics, _known(key, _run).check)


def check() -> Check | None:
    """What a check of the open run's estimates found; None where there was none, or a damaged one."""
    return _known(_key(), run()).check


def damaged() -> list[str]:
    """What is left out of the open run's check and anchor because it cannot be read: which file, and why."""
    return _known(_key(), run()).damaged


@dataclass(frozen=True)
class _Known:
    """A run's check and anchor, as far as they can be read."""

    check: Check | None
    anchor: Anchor | None
    damaged: list[str]


@remembered(8)
def _known(key: tuple, _run: Run) -> _Known:
    refused: list[str] = []
    check, path = _sound(_run.check, refused), _run.path / ANCHOR_FILE
    anchor = check.anchor if check else _sound(Anchor.load, refused, path) if path.is_file() else None
    return _Known(check, anchor, refused)


def _sound(read: Callable[..., Any], refused: list[str], *given: str | Path) -> Any:
    """What can be read; else None, and why it cannot in `refused`."""
    try:
        return read(*given)
    except FileError as why:
        refused.append(str(why))
        return None


def predict(allocation: Allocation) -> Prediction:
    """Predicted damage with its interval, in nats where the run is anchored.

    Raises:
        ImportanceError: too few samples for an interval. PredictionError: the anchor does not fit the run.
    """
    return _predictor(_key(), run()).predict(allocation)


@remembered(4, "Preparing predictions …")
def _predictor(key: tuple, _run: Run) -> Predictor:
    return Predictor(_run.statistics, _known(key, _run).anchor, _recommended(key, _run))


def as_in_paper() -> Allocation:
    """What MODE as the paper has it gives at the present budget; raises as `solving.solve`."""
    return solving.solve(replace(solving.request(), **PAPER))


def ranks_at(method: str) -> tuple[float, float, float] | None:
    """Rank correlation of a method's word with damage measured on this model, on text, and its interval: by the check,
    else by the evidence; None where neither knows."""
    if (found := check()) is not None:
        one = found.of(method, "text") or found.of(method)
        return None if one is None else (one.spearman, one.low, one.high)
    evidence = _sound(comparisons.evidence, [])  # the Compare page says what is wrong with it
    if evidence is None or evidence.ranking.empty:
        return None
    rows = evidence.ranking.query("method == @method and calibration == -1 and bank == 'all' and modality == 'text'")
    return None if rows.empty else tuple(rows.sort_values("bits", ascending=False).iloc[0][["spearman", "low", "high"]])


@dataclass(frozen=True)
class Shrunk:
    """Measured KL on text at a budget by how far costs were drawn to the mean, and of uniform bits of that size."""

    bits: float
    kl: dict[float, float]
    uniform: float | None
    source: str


def shrunk(method: str, bits: float) -> Shrunk | None:
    """What insurance was measured to do for a method at the budget nearest to `bits`, its smallest, middle and largest
    share: by the run's evidence, else by its check; None where neither tried two shares."""
    return _shrunk(_key(), run(), method, round(bits, 2))


@remembered(64)
def _shrunk(key: tuple, _run: Run, method: str, bits: float) -> Shrunk | None:
    known = _known(key, _run)
    found = _shrunk_by_evidence(_run, method, bits) or _shrunk_by_check(known.check, method, bits)
    return found if found is not None and len(found.kl) > 1 else None


def _shrunk_by_evidence(held: Run, method: str, bits: float) -> Shrunk | None:
    found = _sound(held.evidence, [], "shrinkage") if "shrinkage" in held.evidence_names() else None
    if found is None:
        return None
    every = means(found.scores, "kl", "text")
    rows = every[(every["method"] == method) & (every["scope"] == METHODS[method].scopes[0])]
    if rows.empty:
        return None
    near = min(rows["average_bits"].unique(), key=lambda budget: abs(budget - bits))
    at = rows[rows["average_bits"] == near]
    levels = sorted(at["shrinkage"].unique())
    chosen = dict.fromkeys((levels[0], levels[len(levels) // 2], levels[-1]))
    kl = {float(level): float(at.loc[at["shrinkage"] == level, "value"].mean()) for level in chosen}
    uniform = every[(every["method"] == "uniform") & (every["average_bits"] == near)]["value"]
    return Shrunk(float(near), kl, None if uniform.empty else float(uniform.mean()), "evidence under Compare")


def _shrunk_by_check(found: Check | None, method: str, bits: float) -> Shrunk | None:
    trials = [one for one in (found.trials if found else ()) if "text" in one.kl]
    rows = [one for one in trials if one.method == method]
    if not rows:
        return None
    near = min((one.average_bits for one in rows), key=lambda budget: abs(budget - bits))
    kl = {one.shrinkage: one.kl["text"] for one in rows if one.average_bits == near}
    uniform = next((one.kl["text"] for one in trials if (one.method, one.average_bits) == ("uniform", near)), None)
    return Shrunk(near, kl, uniform, "check under Compare")


def _follows_traffic() -> bool:
    return profile() is not None and solving.heard()


def ranked_on() -> str:
    """Where a method's ranks were found that `ranks_at` tells."""
    return "here, with the calibration's frequencies" if _follows_traffic() else "here"


def stability() -> Stability | None:
    """How the present allocation fares without each fold; None where there are too few samples for folds, or where the
    method follows traffic, which has none."""
    asked = solving.request()
    if _follows_traffic():
        return None
    try:
        solvers = _fold_solvers(run_key(), statistics(), asked.unbudgeted, solving.quantizer().of_experts)
    except ImportanceError:
        return None
    return allocation_stability(statistics(), asked, solving.quantizer(), solvers=solvers)


def prepared() -> Callable[[], None] | None:
    """What makes `stability` ready at any budget, for a thread that knows no session: most of Budget's first visit.
    None without a run, and where there are no folds."""
    try:
        asked = run_key(), statistics(), solving.request().unbudgeted, solving.quantizer().of_experts
    except (NoRunError, ModeError):
        return None

    def compute() -> None:
        with suppress(ImportanceError):  # too few samples: the page will say so
            _fold_solvers(*asked)

    return None if _follows_traffic() else compute


def enough() -> list[Sufficiency]:
    """What fewer samples would have come to at the present settings.

    Raises:
        ImportanceError: too few samples for folds, or the method follows traffic, which has none.
    """
    if _follows_traffic():
        raise ImportanceError("What fewer samples would have come to is not known of traffic, whose frequencies count.")
    return _enough(run_key(), statistics(), solving.request())


@remembered(16, "Solving with fewer samples …")
def _enough(key: tuple, _statistics: ExpertStatistics, asked: AllocationRequest) -> list[Sufficiency]:
    return sufficiency(_statistics, asked)


@remembered(4)
def _fold_solvers(
    key: tuple, _statistics: ExpertStatistics, asked: AllocationRequest, quantizer: Quantizer
) -> list[Solver]:
    return fold_solvers(_statistics, asked, quantizer)


def effective_bits(allocation: Allocation) -> float:
    """Bits that a weight takes on average with its share of the scales and zero points."""
    shapes = [bank.shape for bank in statistics()]
    weights = sum(one.experts * (2 + one.has_gate) * one.hidden * one.intermediate for one in shapes)
    return 8 * allocation.bytes / weights


def uniform_name(uniform: Allocation) -> str:
    """'uniform 3 bits', 'uniform 2 and 3 bits': the rival of the same size has two neighbouring widths."""
    widths = np.unique(np.concatenate([np.ravel(bits) for bits in uniform.bits.values()])).tolist()
    return f"uniform {' and '.join(str(width) for width in widths)} bit{'s' * (widths != [1])}"


@dataclass(frozen=True)
class NearlyUniform:
    """The width that experts have but for so few that the others make no difference: `others` of `experts`."""

    width: int
    others: int
    experts: int
    split: bool = False  # are they halves of experts?


def nearly_uniform(allocation: Allocation) -> NearlyUniform | None:
    """Is this uniform bits, if for a hundredth of the experts? None where it is not."""
    widths, counts = np.unique(
        np.concatenate([np.ravel(bits) for bits in allocation.bits.values()]), return_counts=True
    )
    most, experts = counts.argmax(), int(counts.sum())
    others = experts - int(counts[most])
    split = any(np.ndim(bits) == 2 for bits in allocation.bits.values())
    return NearlyUniform(int(widths[most]), others, experts, split) if others <= NEARLY * experts else None


def across_layers() -> dict[str, object]:
    """Settings that share one budget out over the whole model, by an estimate that compares layers: the present or the
    recommended one where it does, else our variant of MODE, which needs no gradients."""
    now, advised = address.choices().request, recommended()
    if "model" in METHODS[now.method].scopes:
        return {"scope": "model"}
    return advised.settings if advised.scope == "model" else {"scope": "model", "method": "mode_output"}


def plain_format(allocation: Allocation) -> Allocation | None:
    """Every expert at the widest width whose experts are together no larger than these; None where none is."""
    solved = [solving.solve(AllocationRequest("uniform", widths=(width,), budget=width)) for width in allocation.widths]
    return next((one for one in reversed(solved) if one.bytes <= allocation.bytes), None)
