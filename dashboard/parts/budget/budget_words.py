"""What the Budget page says of an allocation, in a sentence and in figures."""

from __future__ import annotations

from dashboard.charts.measures import original_bytes
from dashboard.components import Figure, Readout
from dashboard.state import current_run, estimating, planning, process_wide, solving
from dashboard.state.estimating import NearlyUniform
from dashboard.state.measured import ALLOCATION, UNIFORM, Measurement
from dashboard.words import names
from dashboard.words.sizes import number, size_text
from mode_core.allocation import Allocation, AllocationError
from mode_core.errors import ModeError
from mode_core.evaluation.intervals import Interval, bootstrap_interval
from mode_core.evaluation.records import Scores
from mode_core.importance import METHODS, ImportanceError
from mode_core.importance.methods import NEEDS
from mode_core.modalities import ALL
from mode_core.prediction import Estimate, Prediction


def headline(allocation: Allocation, rival: Allocation) -> Readout:
    """What this does to the answers beside uniform bits of the same size: that it is these, where it is; measured where
    these settings were measured, else predicted with its interval, and how far the method's word may be trusted."""
    done = measured_of(allocation)
    told = _measured(done) if done is not None else _estimated(allocation, rival)
    if allocation.method != "uniform" and (alike := estimating.nearly_uniform(allocation)):
        beside = f" {told.plain}" if alike.others or done is not None else ""  # else it is its own rival
        told = Readout(_no_choice(alike), f"{_why_alike(allocation, alike)}{told.strong}{beside}")
    return told


def measured_of(allocation: Allocation) -> Measurement | None:
    """The newest measurement of exactly these bits, rounded as is set now."""
    seal = solving.fingerprint(allocation)
    return next((one for one in process_wide.measurements() if one.fingerprint == seal), None)


def _no_choice(alike: NearlyUniform) -> str:
    bits = f"{alike.width} bit{'s' * (alike.width != 1)}"
    if not alike.others:
        return f"This equals {bits} for every expert."
    return f"This equals {bits} for all but {alike.others:,} of {alike.experts:,} {names.of_experts(alike.split)}."


def _why_alike(allocation: Allocation, alike: NearlyUniform) -> str:
    """Why the solver had nothing to choose, where the settings tell."""
    asked = solving.request()
    if alike.width == max(allocation.widths):
        return f"The budget is {'nearly ' * bool(alike.others)}enough for the widest width that may be used. "
    if alike.width == min(allocation.widths):
        return f"The budget is enough for {'little' if alike.others else 'no'} more than the narrowest width. "
    if allocation.scope == "bank" and allocation.unit == "layer":
        return "Every layer has a budget and one width of its own, which leaves nothing to choose. "
    return f"Costs are drawn to the mean by {asked.shrinkage:g}, so that experts hardly differ. " * (
        asked.shrinkage >= 0.5
    )


def _estimated(allocation: Allocation, rival: Allocation) -> Readout:
    word = trust(allocation.method)
    try:
        mine, its = (estimating.predict(each) for each in (allocation, rival))
    except ImportanceError as refused:
        return Readout("What this does to the answers is not known.", f"{refused} {word}")
    name = estimating.uniform_name(rival)
    other = f"{name[0].upper()}{name[1:]}, of the same size"
    if mine.kl:
        return Readout(
            f"Estimate, in {mine.unit}: {by_kind(mine)}.",
            f"{other}: {by_kind(its)}. Not measured for these settings; {ANCHORED}. {word}",
        )
    return Readout(
        f"Relative damage {interval(mine.relative)}, by an estimate without a unit.",
        f"{other}: {interval(its.relative)}; 1 is every expert at the lowest width. {UNANCHORED} {word}",
    )


ANCHORED = "the interval tells what other samples of this kind would have said, not what other kinds would"
UNANCHORED = "Nothing measured ties it to the answers yet: a check (on the Compare page) does."


def reach(found: Estimate | Interval) -> str:
    """'0.004 to 0.03', in as many digits as tell the ends apart; empty where four do not."""
    told = (f"{number(found.low, digits)} to {number(found.high, digits)}" for digits in (2, 3, 4)
            if number(found.low, digits) != number(found.high, digits))  # fmt: skip
    return next(told, "")


def interval(found: Estimate) -> str:
    """'0.0121 (0.004 to 0.03)'."""
    return number(found.value) + (f" ({ends})" if (ends := reach(found)) else "")


def by_kind(found: Prediction) -> str:
    """'0.01 (0.004 to 0.03) on text, …'."""
    told = [f"{interval(found.kl[kind])} {words}" for kind, words in names.ON.items() if kind in found.kl]
    return ", ".join(told)


def _measured(done: Measurement) -> Readout:
    """What *Quantize* found for exactly these settings."""
    ours, its = done.scores[ALLOCATION], done.scores[UNIFORM]
    kinds = [kind for kind in names.ON if kind in ours.kl_by_modality and kind in its.kl_by_modality]
    kl = [", ".join(f"{number(each.kl_by_modality[kind])} {names.ON[kind]}" for kind in kinds) for each in (ours, its)]
    exact = "" if ours.accuracy is None or its.accuracy is None else (
        f" Exact answers: {100 * ours.accuracy:.1f} % against {100 * its.accuracy:.1f} %."
    )  # fmt: skip
    size = size_text(done.measured_bytes[UNIFORM])
    return Readout(
        f"Measured on {len(ours.answers)} items: KL {kl[0]}; {done.label(UNIFORM)} ({size}): {kl[1]}.",
        f"KL to the original in nats, less is better.{exact} Intervals are under Quantize.",
    )


def trust(method: str) -> str:
    """The word of the check, else of the evidence, on a method, and on the recommended one where it does better."""
    own, better = estimating.ranks_at(method), estimating.recommended().method
    if METHODS[method].group == "floor":
        return ""
    if own is None:
        return f"How far {names.method(method)} comes true on this model was not checked."
    what = "experts" if estimating.check() is None else "groups of experts"
    found = f"{own[0]:.2f} ({own[1]:.2f} to {own[2]:.2f}) on text {estimating.ranked_on()}"
    name = names.method(method)
    told = f"{name[0].upper()}{name[1:]} ranks {what} at {found}"
    other = estimating.ranks_at(better) if better != method else None
    if other is not None and other[0] > own[0]:
        told += f"; {names.method(better)}, which is recommended, at {other[0]:.2f}"
    return f"{told} (1: as measured, 0: by chance)."


def insurance(method: str, bits: float) -> str:
    """What either end of the trust in the samples was measured to be worth for a method, near a budget."""
    ends = (
        "100 %: costs count as they were measured. 0 %: all experts of a layer count alike, and only layers differ. "
        "Between them is insurance against questions that the samples did not hold."
    )
    found = estimating.shrunk(method, bits)
    if found is None:
        return f"{ends} What it is worth for this method was not measured on this model."
    told = ", ".join(f"{number(kl)} at {100 * (1 - level):.0f} %" for level, kl in found.kl.items())
    uniform = "" if found.uniform is None else f", {number(found.uniform)} with uniform bits of the same size"
    return f"{ends} Measured on this model, KL on text at {found.bits:g} bits: {told}{uniform} ({found.source})."


def metrics(allocation: Allocation, rival: Allocation) -> Readout:
    """Sizes, what is predicted beside MODE as in the paper, bits with and without scales; the proof in small print."""
    original = original_bytes(current_run.statistics())
    gap = allocation.objective - allocation.lower_bound
    share = 100 * gap / allocation.objective if allocation.objective else 0.0
    proven = "proven optimal" if allocation.proven_optimal else f"within {share:.2g} % of the best"
    name, scaled = estimating.uniform_name(rival), estimating.effective_bits(allocation)
    figures = (
        _whole(allocation),
        Figure("Routed experts", size_text(allocation.bytes), f"{100 * allocation.bytes / original:.0f} % of 16 bits"),
        Figure("Uniform, same size", size_text(rival.bytes), name.partition(" ")[2]),
        *_predicted(allocation),
        Figure("Average bits", f"{allocation.average_bits:.3f}", f"{scaled:.2f} with scales"),
    )
    return Readout(figures=figures, small=f"Solved in {1e3 * allocation.seconds:.1f} ms, {proven} for these costs.")


def _whole(allocation: Allocation) -> Figure:
    """The model with everything in it, where its files are here."""
    try:
        rest = planning.around()
    except (ValueError, OSError, ModeError):
        rest = None
    if rest is None:
        return Figure("Whole model", "not known", "its files are not here")
    return Figure("Whole model", size_text(allocation.bytes + rest), f"{size_text(rest)} around the experts")


def _predicted(allocation: Allocation) -> tuple[Figure, ...]:
    """The KL measured of this and of MODE as the paper has it, where it was, with the estimate beside it; else what is
    estimated, by the same yardstick."""
    try:
        both = allocation, estimating.as_in_paper()
        mine, paper = (estimating.predict(each) for each in both)
    except (AllocationError, ImportanceError):
        return ()
    measured = [(found := measured_of(each)) and found.scores[ALLOCATION] for each in both]
    known = measured[0].kl_by_modality if measured[0] else mine.kl
    kind = next((kind for kind in (*names.ON, ALL) if kind in known), None)
    what = "Relative damage" if kind is None else f"KL {names.ON.get(kind, '')}".strip()
    return tuple(
        _figure(f"{what.removesuffix(' damage' * bool(rival))}{rival}", said, kind, scores)
        for said, scores, rival in zip((mine, paper), measured, ("", ", paper's MODE"), strict=True)
    )


def _figure(label: str, said: Prediction, kind: str | None, scores: Scores | None) -> Figure:
    """One of them, on one kind of item; `kind` None: without a unit."""
    one = said.relative if kind is None else said.kl.get(kind)
    answers = scores.answers if scores else ()
    if values := [each.kl for each in answers if each.kl is not None and each.modality == kind]:
        found = bootstrap_interval(values)
        told = ", ".join(filter(None, ("measured", reach(found), f"{len(values)} items")))
        return Figure(label, number(found.mean), told + (f"; estimate {number(one.value)}" if one else ""))
    if one is None:
        return Figure(label, "not known", "not measured")
    return Figure(label, number(one.value), f"estimate, {reach(one)}".rstrip(", "))


def missing_methods() -> str:
    """Which methods this run cannot serve, and what it would take."""
    missing = [method for method in METHODS.values() if not method.available(current_run.statistics())]
    told = ", ".join(method.title for method in missing)
    wanted = sorted({NEEDS[method.needs].words for method in missing})
    how = f"\n\nNot measured in this run ({', '.join(wanted)}): {told}. Calibrate again with these." if missing else ""
    return "How much each expert matters. One choice changes the cost of every expert, and so the bits." + how
