"""What the open run says of each lesson's claims, in numbers; no Streamlit here.

A claim that can be put to a number is set against a line: one that holds the number above it. Over the folds of the
samples the number has an interval, and only where all of that lies on one side of the line is the claim borne out, or
is it otherwise here. Definitions, and what the program itself does ("kept in steps of 1 %"), are no claims on a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from dashboard.charts.evidence import verdicts
from dashboard.parts.learn.lesson_facts import tokens_for_half
from mode_core.allocation import Allocation
from mode_core.errors import ImportanceError
from mode_core.importance.bias import busy_experts, spearman, starved_total
from mode_core.importance.folds import Interval, jackknife, over_folds, used_folds
from mode_core.importance.frequency import share
from mode_core.importance.stacks import views
from mode_core.modalities import ALL, KEY_TOKENS, REDUNDANT_TOKENS, TEXT_TOKENS, VISION_TOKENS
from mode_core.quantization.settings import LEAST_TOKENS
from mode_core.statistics import ExpertStatistics

SOME = 0.5  # a count above it is at least one
FEW, MOST, FAR_MORE, MORE = 0.25, 0.5, 2.0, 1.25  # what these words of the lessons stand for
Verdict = Literal["otherwise", "holds", "open"]


@dataclass(frozen=True)
class Finding:
    """What a run says of one claim, and the numbers that say it."""

    verdict: Verdict
    words: str


@dataclass(frozen=True)
class Facts:
    """The statistics, and how key tokens are told; `folds` is false where frequencies are those of a trace, which has
    no samples and does not tell key tokens from redundant ones."""

    statistics: ExpertStatistics
    key_ratio: float
    signal: str
    folds: bool = True

    def selections(self, kind: str, fold: int | None = None) -> list[np.ndarray]:
        """Of one kind of token, by stack of banks `[N, E]`; banks that saw none are left out."""
        found = [view.sums(kind, "selections") for view in views(self.statistics, self.key_ratio, self.signal, fold)]
        return [counts[counts.sum(axis=-1) > 0] for counts in found]

    def interval(self, of: Callable[[int | None], float]) -> Interval:
        """Of a number that can be had without one fold; unbounded where too few folds hold samples, without width for a
        trace, which is no sample of anything."""
        if not self.folds:
            whole = np.float64(of(None))
            return Interval(whole, np.float64(np.nan), whole, whole)
        try:
            return over_folds(self.statistics, of)
        except ImportanceError:
            return _unknown(of(None))


def _unknown(estimate: float) -> Interval:
    """A number that nothing tells the doubt of: it settles no claim."""
    return Interval(*map(np.float64, (estimate, np.nan, -np.inf, np.inf)))


def judged(
    found: Interval, line: float, words: str, number: Callable[[float], str], below: bool = False
) -> list[Finding]:
    """What a number says of a claim that holds it above a line, or below; `{}` in the words stands for it with its
    interval. Nothing where it is nan."""
    if not np.isfinite(found.estimate):
        return []
    told = number(float(found.estimate))
    if np.isfinite(found.standard_error):
        told += f" ({number(float(found.low))} to {number(float(found.high))})"
    above, under = (("holds", "otherwise"), ("otherwise", "holds"))[below]
    return [Finding(above if found.low > line else under if found.high < line else "open", words.format(told))]


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _whole(most: float) -> Callable[[float], str]:
    return lambda value: f"{min(max(value, 0), most):.0f}"


def _over(values: np.ndarray) -> Interval:
    """Of the mean of values that are independent."""
    if values.size < 2:
        return _unknown(values.mean())
    return jackknife(values.mean(), (values.sum() - values) / (values.size - 1))


def router(facts: Facts) -> list[Finding]:
    """Each token visits few experts; few of them do most of the work."""
    visited = {(bank.shape.top_k, bank.shape.experts) for bank in facts.statistics}
    told = ", ".join(f"{chosen} of {experts}" for chosen, experts in sorted(visited))
    few = all(chosen <= FEW * experts for chosen, experts in visited)
    found = [Finding("holds" if few else "otherwise", f"Each token visits {told} experts.")]

    def busiest(fold: int | None) -> float:
        shares = [share(counts) for counts in facts.selections(ALL, fold)]
        return _mean(np.sort(each)[:, -max(1, round(FEW * each.shape[1])) :].sum(axis=1) for each in shares)

    words = "The busiest quarter of a layer's experts does {} of its work."
    return found + judged(facts.interval(busiest), MOST, words, _percent)


def _mean(parts) -> float:
    """Over the banks of all stacks; nan where there is none."""
    values = np.concatenate([np.atleast_1d(part) for part in parts] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def frequency(facts: Facts) -> list[Finding]:
    """Pictures make far more tokens than text; counted together, vision outvotes text."""

    def ratio(fold: int | None) -> float:
        kinds = (facts.selections(kind, fold) for kind in (VISION_TOKENS, TEXT_TOKENS))
        vision, text = (float(sum(each.sum() for each in kind)) for kind in kinds)
        return vision / text if text and vision else math.nan

    found = judged(facts.interval(ratio), FAR_MORE, "There are {} vision tokens for each of text.", "{:.1f}".format)
    words = "{} of the {looked} experts that text keeps busiest are in the lower half by all tokens together."
    return found and found + _starved(facts, TEXT_TOKENS, ALL, words)


def _starved(facts: Facts, needed: str, counted: str, words: str) -> list[Finding]:
    """How many of the busiest experts of one kind lie in the lower half by another."""
    asked = (facts.statistics, facts.key_ratio, facts.signal, needed, counted)
    looked = starved_total(*asked)[1]
    found = facts.interval(lambda fold: float(starved_total(*asked, fold)[0]))
    return judged(found, SOME, words.replace("{looked}", str(looked)), _whole(looked)) if looked else []


def redundancy(scores: Sequence[np.ndarray], tokens: Sequence[tuple[int, int]]) -> list[Finding]:
    """A picture becomes many tokens; few of them hold the attention.

    Of each kept sample with a picture: what the text pays to its vision tokens, `[L, N]`; its (vision, text) tokens.
    """
    found = []
    if tokens:
        seen, read = (sum(each) / len(tokens) for each in zip(*tokens, strict=True))
        found.append(Finding("holds" if seen > read else "otherwise",
                             f"The pictures of a sample become {seen:.0f} tokens, its words {read:.0f}."))  # fmt: skip
    halves = [
        np.mean([tokens_for_half(np.maximum(row, 0)) for row in rows if (row > 0).any()])
        for rows in scores
        if (rows > 0).any()
    ]
    if halves:
        words = f"{{}} of the vision tokens hold half of the attention, over {len(halves)} samples and all layers; few "
        words += f"would be {_percent(FEW)}, and {_percent(0.5)} if all were alike."
        found += judged(_over(np.array(halves)), FEW, words, _percent, below=True)
    return [*found, Finding("open", "Whether these tokens are the telling ones is not measured in a run.")]


def denoised(facts: Facts) -> list[Finding]:
    """Redundant tokens crowd onto few experts, and hide what key tokens need."""
    if not facts.folds:
        return [Finding("open", "The traffic that is chosen does not tell key tokens from redundant ones.")]

    def spread(kind: str, fold: int | None) -> float:
        return _mean(busy_experts(counts) for counts in facts.selections(kind, fold))

    key, rest = (spread(kind, None) for kind in (KEY_TOKENS, REDUNDANT_TOKENS))
    found = judged(
        facts.interval(lambda fold: spread(KEY_TOKENS, fold) / spread(REDUNDANT_TOKENS, fold)),
        1.0,
        f"Key tokens keep {{}} times as many experts busy as redundant ones do ({key:.3g} and {rest:.3g} a layer).",
        "{:.2f}".format,
    )
    words = "{} of the {looked} experts that key tokens keep busiest are in the lower half by all vision tokens."
    return found and found + _starved(facts, KEY_TOKENS, VISION_TOKENS, words)


def sensitivity(facts: Facts, kind: str, title: str, bits: int) -> list[Finding]:
    """Some experts are hurt more: chosen by all folds but one, and measured on that one, so that chance picks none."""
    try:
        folds = used_folds(facts.statistics)
    except ImportanceError:
        return [Finding("open", "There are too few samples to tell whether an expert is hurt more, or only seemed so.")]
    column = facts.statistics.bits.index(bits)
    each = np.array([_hurt_more(facts, kind, column, fold) for fold in folds])
    each = each[np.isfinite(each)]
    if not each.size:
        return [Finding("open", f"Too few experts saw {LEAST_TOKENS} {title} to tell who is hurt more.")]
    words = (
        f"At {bits} bit{'s' * (bits != 1)} the most hurt quarter of a layer's experts errs {{}} times as much as the "
        f"least hurt on {title}, measured on samples that did not choose them."
    )
    return judged(_over(each), math.log(MORE), words, lambda value: f"{math.exp(value):.1f}")


def _hurt_more(facts: Facts, kind: str, column: int, fold: int) -> float:
    """Mean over banks of log(error of the most hurt quarter ÷ of the least hurt) in one fold, chosen by the others."""
    found = []
    asked = (facts.statistics, facts.key_ratio, facts.signal)
    for whole, others in zip(views(*asked), views(*asked, fold), strict=True):
        error, support = ((whole.sums(kind, key), others.sums(kind, key)) for key in ("error", "support"))
        for row in range(len(whole.stack.names)):
            known = np.flatnonzero(support[1][row] >= LEAST_TOKENS)
            quarter = round(FEW * known.size)
            if not quarter:
                continue
            ordered = known[np.argsort(error[1][row, known, column] / support[1][row, known], kind="stable")]
            sums = [
                ((error[0] - error[1])[row, some, column].sum(), (support[0] - support[1])[row, some].sum())
                for some in (ordered[:quarter], ordered[-quarter:])
            ]
            if all(value > 0 for pair in sums for value in pair):
                (little, few), (much, many) = sums
                found.append(math.log(much / many) - math.log(little / few))
    return float(np.mean(found)) if found else math.nan


def program(
    allocation: Allocation, stakes: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray] | None, title: str
) -> list[Finding]:
    """The solver proves its answer; bits go where most is at stake; what is at stake is the formula's.

    `stakes`: bank → what is at stake for each expert by the costs that are drawn, `[E]`; `ours` the same by the
    lesson's formula, None where that is what is drawn; `title` names the method that is.
    """
    found = [Finding("holds", "It is proven that no allocation has less summed damage.")]
    if not allocation.proven_optimal:
        beyond = allocation.objective - allocation.lower_bound
        found = [Finding("otherwise", f"Not proven: another allocation might have {beyond:.2g} less summed damage.")]
    bits = allocation.bits
    order = _mean(spearman(stakes[bank].astype(float), bits[bank].astype(float)) for bank in stakes)
    if np.isfinite(order):
        found.append(Finding("holds" if order > 0 else "otherwise",
                             f"More at stake, more bits: rank correlation {order:.2f}, mean over layers."))  # fmt: skip
    if ours is not None:
        alike = _mean(spearman(stakes[bank].astype(float), ours[bank].astype(float)) for bank in stakes)
        found.append(Finding("otherwise", f"The costs drawn here are those of {title}, not of this formula; the rank "
                             f"correlation of the two is {alike:.2f}."))  # fmt: skip
    return found


def evidence(rows: pd.DataFrame, ours: str, rival: str) -> list[Finding]:
    """Does it answer better at the same size? `rows` of the evidence's table of differences, ours minus the rival's."""
    said = verdicts(rows)
    better, worse = said.count("better"), said.count("worse")
    told = (
        f"{ours} is surely better than {rival} in {better} of {len(said)} cases (KL and exact answers, by budget and "
        f"kind of item), surely worse in {worse}; the others are not told apart."
    )
    verdict: Verdict = "holds" if better and not worse else "otherwise" if worse > better else "open"
    return [Finding(verdict, told)] if said else []
