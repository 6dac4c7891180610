"""The allocation at the unit that a target can hold: solved again with the same budget, never rounded.

Serving engines want one width for all experts of a layer, or one per projection. Rounding an allocation to that
would miss the budget and the optimum; so the same costs are solved again at the coarser unit, and what this adds to
the predicted loss is the price of the engine.

A budget of its own leaves a layer with one width nothing to choose: every layer gets the same, plain uniform
quantization. So a coarse unit takes the whole model's budget, unless a person insists on one per layer; and what is
written is set against uniform bits of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation import Allocation, AllocationError, allocate
from mode_core.export.folder import ExportError
from mode_core.export.target import Fitted, Target
from mode_core.importance import CostTable, ImportanceError, cost_table
from mode_core.importance.projections import by_projection
from mode_core.quantization.widths import UNTOUCHED
from mode_core.statistics import ExpertStatistics

if TYPE_CHECKING:
    from mode_core.prediction import Prediction

UNIT_WORDS = {
    "expert_projection": "one projection of one expert",
    "expert": "one expert",
    "projection": "one projection of all experts of a layer",
    "layer": "all experts of a layer",
}
REPEATED = (
    "key_ratio",
    "signal",
    "vision_weight",
    "audio_weight",
    "min_support",
    "seed",
    "shrinkage",
)  # settings that make the costs
COARSE = ("projection", "layer")
MODEL, LAYER = "model", "layer"  # whose budget a coarse unit takes
SAME_LOSS = 1e-6  # relative; costs made again reproduce the allocation's predicted loss this closely


def fit(
    allocation: Allocation,
    target: Target,
    costs: CostTable | None = None,
    statistics: ExpertStatistics | None = None,
    sizes: Mapping[str, np.ndarray] | None = None,
    budget_per: str = MODEL,
) -> Fitted:
    """`allocation` at the finest unit of `target`: as it is where it fits, else solved again with the same budget.

    Coarse units share that budget over the whole model (`budget_per` "model"), or every layer keeps its own ("layer").
    `costs` are those that the allocation was solved with; without them they are made again from `statistics` by
    the settings that the allocation carries. `sizes` (bank → bytes of one expert at each width of the allocation)
    are needed for budgets in bytes.

    Raises:
        ExportError: the bits do not fit, and nothing was given to solve them again; costs of another allocation;
            no allocation at that unit meets the budget; `budget_per` is neither.
    """
    if budget_per not in (MODEL, LAYER):
        raise ExportError(f"A budget is per {MODEL} or per {LAYER}, not per {budget_per!r}.")
    if (bits := _shaped(allocation.bits, target.finest_unit)) is not None:
        kept = allocation if bits is allocation.bits else replace(allocation, bits=bits)
        return Fitted(kept, rival=_rival(kept, target, statistics))
    costs = costs if costs is not None else costs_of(allocation, statistics)
    if costs is None:
        raise ExportError(
            f"The target {target.name!r} holds one width for {UNIT_WORDS[target.finest_unit]}, which this allocation "
            f"is too fine for. Give the costs or the run that it was solved with, so that it can be solved again; or "
            f"solve with unit {target.finest_unit!r}."
        )
    asked = loss_of(allocation, costs)
    if target.finest_unit == "projection" and statistics is not None and _flat(costs):
        costs = by_projection(costs, statistics)
    unit, notes = _solver_unit(target, costs)
    if "by_projection" in costs.settings:
        notes = (*notes, f"The costs are {costs.settings['by_projection']}.")
    coarse, more = _solve(allocation, costs, unit, sizes, budget_per)
    added = coarse.objective - asked
    price = {
        "unit_asked": allocation.unit,
        "unit_written": unit,
        "predicted_loss_as_asked": asked,
        "predicted_loss_as_written": coarse.objective,
        "added_loss": added,
        "times": coarse.objective / asked if asked > 0 else None,
        "average_bits_as_asked": allocation.average_bits,
        "average_bits_as_written": coarse.average_bits,
    }
    written = replace(coarse, bits=_shaped(coarse.bits, target.finest_unit))
    return Fitted(written, price, (*notes, *more), _rival(written, target, statistics))


def told_beside_uniform(fitted: Fitted, predict: Callable[[Allocation], Prediction]) -> str:
    """What a coarse unit is worth beside uniform bits of the same size, as a sentence ("" where there is nothing to
    say); `predict` is a run's (`Run.predictor`). Raises as it does."""
    if fitted.rival is None:
        return ""
    if fitted.width is not None:
        every = "stays as it was" if fitted.width == UNTOUCHED else f"gets {fitted.width} bits"
        return f"This is uniform: every expert {every}, as any quantizer would do without an allocation."
    own, plain = predict(fitted.allocation), predict(fitted.rival)
    at = f"uniform bits of the same size ({fitted.rival.average_bits:.2f} on average)"
    if not own.kl:
        return f"Predicted damage is {own.relative.value / plain.relative.value:.2f} times that of {at} (an estimate)."
    kinds = (f"{kind} {found.value:.2g} against {plain.kl[kind].value:.2g}" for kind, found in own.kl.items())
    return f"Predicted KL in {own.unit}, against {at}: {', '.join(kinds)} (estimates)."


def _rival(written: Allocation, target: Target, statistics: ExpertStatistics | None) -> Allocation | None:
    """Uniform bits of the same size, of two neighbouring widths where it lies between them, as `compare` makes it."""
    if target.finest_unit not in COARSE or statistics is None or not set(written.widths) <= set(statistics.bits):
        return None
    costs = cost_table(statistics, "uniform", bits=written.widths)
    return allocate(costs, average_bits=written.average_bits)


def costs_of(allocation: Allocation, statistics: ExpertStatistics | None) -> CostTable | None:
    """The costs that an allocation was solved with, made again from its run; None where that cannot be told."""
    settings = allocation.settings
    if statistics is None or "key_ratio" not in settings or not allocation.method:
        return None
    chosen = {key: settings[key] for key in REPEATED if key in settings}
    try:
        costs = cost_table(statistics, allocation.method, bits=allocation.widths, **chosen)
        return by_projection(costs, statistics) if "by_projection" in settings else costs
    except ImportanceError as refused:
        raise ExportError(f"The allocation's costs cannot be made again from this run: {refused}") from None


def _shaped(bits: Mapping[str, np.ndarray], unit: str) -> Mapping[str, np.ndarray] | None:
    """The same bits in the shape of a unit, the same object where nothing changes; None where they are too fine."""
    shaped, changed = {}, False
    for bank, given in bits.items():
        widths = np.asarray(given)
        if unit in ("expert", "layer") and widths.ndim == 2:
            if (widths[:, 0] != widths[:, 1]).any():
                return None
            widths, changed = widths[:, 0], True
        if unit in ("projection", "layer") and (widths != widths[:1]).any():
            return None
        shaped[bank] = widths
    return shaped if changed else bits


def loss_of(allocation: Allocation, costs: CostTable) -> float:
    """Summed cost of the allocation's bits; refuses costs that do not give its own predicted loss."""
    if set(costs) != set(allocation.bits):
        raise ExportError("The costs are of other banks than the allocation; give those that it was solved with.")
    if missing := sorted(set(allocation.widths) - set(costs.bits)):
        raise ExportError(f"The costs hold no {missing[0]} bits, which the allocation chose from.")
    if _flat(costs) and any(np.ndim(bits) == 2 for bits in allocation.bits.values()):
        raise ExportError("The allocation is by projection and the costs are not; give those it was solved with.")
    total = costs.damage(allocation.bits)
    known = "uniform" not in allocation.settings and allocation.objective > 0
    if known and abs(total - allocation.objective) > SAME_LOSS * allocation.objective:
        raise ExportError(
            f"The costs give the allocation a predicted loss of {total:.6g}, but it says {allocation.objective:.6g}: "
            "they are not those that it was solved with. Solve it again with this run and these settings."
        )
    return total


def _solver_unit(target: Target, costs: CostTable) -> tuple[str, tuple[str, ...]]:
    """The unit to solve at: the target's, or the next coarser one that these costs can be solved at."""
    unit = target.finest_unit
    if unit == "projection" and _flat(costs):
        return "layer", ("The costs are by expert, not by projection, so all matrices of a layer share a width.",)
    return unit, ()


def _flat(costs: CostTable) -> bool:
    return any(np.ndim(table) == 2 for table in costs.values())


def _solve(
    allocation: Allocation, costs: CostTable, unit: str, sizes: Mapping[str, np.ndarray] | None, budget_per: str
) -> tuple[Allocation, tuple[str, ...]]:
    settings, notes = allocation.settings, []
    scope = allocation.scope if unit not in COARSE else "model" if budget_per == MODEL else "bank"
    budget_bytes = settings.get("budget_bytes")
    budget = {"budget_bytes": budget_bytes, "fixed_bytes": settings.get("fixed_bytes", 0)} if budget_bytes else {
        "average_bits": settings.get("average_bits", allocation.average_bits)
    }  # fmt: skip
    if budget_bytes and sizes is None:
        raise ExportError("The allocation's budget is in bytes; give the run (or the model), whose shapes tell sizes.")
    if settings.get("at_least") or settings.get("at_most"):
        notes.append("Counts per width (at_least, at_most) were for the finer unit and are not kept.")
    pinned = {bank: {int(e): int(w) for e, w in wishes.items()} for bank, wishes in settings.get("pinned", {}).items()}
    try:
        solved = allocate(
            costs,
            bits=allocation.widths,
            scope=scope,
            unit=unit,
            pinned=pinned or None,
            sizes=sizes,
            **({"average_bits": None} | budget),
        )
    except AllocationError as refused:
        raise ExportError(f"At the unit of this target ({UNIT_WORDS[unit]}): {refused}") from None
    if scope != allocation.scope == "bank":
        notes.append("The layers share one budget, since one width for each would leave nothing to choose within it.")
    if warning := solved.settings.get("warning"):
        notes.append(str(warning))
    if scope == "bank" and unit == "layer" and solved.average_bits < allocation.average_bits - 1e-9:
        notes.append(
            f"Every layer keeps a budget of its own, so {allocation.average_bits - solved.average_bits:.2f} bits per "
            "weight stay unused; one for the model would spend them."
        )
    return solved, tuple(notes)
