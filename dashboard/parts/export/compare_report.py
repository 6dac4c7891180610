"""What the report says of the Compare page: all methods, the check, and two halves of the samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from dashboard import charts
from dashboard.charts.evidence import MEAN, METRICS, means
from dashboard.charts.two_runs import crossed
from dashboard.components.chart import in_words
from dashboard.parts.compare import comparing
from dashboard.parts.export.report import Section
from dashboard.state import comparisons, current_run, estimating
from dashboard.words import names
from mode_core.comparison import Evidence
from mode_core.errors import ModeError

NAME = comparing.named(names.method)


def sections() -> Iterator[Section]:
    """All of it, in the order of the page; a damaged part says so in its place."""
    for make in (_evidence, _check, _halves):
        try:
            yield from make()
        except ModeError as refused:
            yield Section("Compared", [f"Left out, since it cannot be read: {refused}"])


def _evidence() -> Iterator[Section]:
    for name in comparisons.evidence_names():
        found = comparisons.evidence(name)
        if found is None:
            continue
        found = replace(found, scores=comparing.by_shrinkage(found.scores), paired=comparing.by_shrinkage(found.paired))
        told = f"Methods by budget: {name.replace('_', ' ') or 'all methods'}"
        why = "Measured, not estimated; intervals are 95 %, over items and calibration draws."
        scores = found.scores[(found.scores["calibration"] == MEAN) & (found.scores["task"] == "all")]
        tables = [scores.drop(columns=["calibration", "task"]), found.paired, found.ranking]
        yield Section(told, [why], list(_figures(found)), [in_words(frame).round(5) for frame in tables if len(frame)])


def _figures(found: Evidence) -> Iterator:
    """Every metric on every kind of items, every method in its natural scope; the rankings at each width."""
    for metric in (name for name in METRICS if name in set(found.scores["metric"])):
        for kind in (name for name in names.ITEMS if name in set(found.scores["modality"])):
            rows = means(found.scores, metric, kind)
            pairs = [(method, comparing.natural_scope(rows, method)) for method in dict.fromkeys(rows["method"])]
            yield charts.scores_by_budget(found.scores, metric, kind, pairs, NAME)
    for bits in sorted(set(found.ranking["bits"]) if len(found.ranking) else ()):
        kind = "all" if "all" in set(found.ranking["modality"]) else found.ranking["modality"].iloc[0]
        yield charts.ranking_dots(found.ranking, int(bits), kind, "all", names.method)


def _check() -> Iterator[Section]:
    if (found := estimating.check()) is None:
        return
    rankings = [vars(one) for one in found.rankings]
    trials = [
        {name: value for name, value in vars(one).items() if name != "kl"}
        | {f"KL, {names.ITEMS[kind]}": kl for kind, kl in one.kl.items()}
        for one in found.trials
    ]
    dots = pd.DataFrame(rankings).assign(bank="all", bits=found.info.get("low_bits", 0), calibration=-1)
    figures = [
        charts.ranking_dots(dots[dots["modality"] == kind], int(dots["bits"].iloc[0]), kind, "all", names.method)
        for kind in dict.fromkeys(dots["modality"])
    ]
    told = f"{names.method(found.choice.method)}: {found.choice.why}"
    frames = [in_words(pd.DataFrame(rows)).round(5) for rows in (rankings, trials) if rows]
    yield Section("Check of the estimates", [told], figures, frames)


def _halves() -> Iterator[Section]:
    statistics = current_run.statistics()
    one, two = (comparisons.allocation_of(half) for half in comparing.halves(statistics))
    axes, named = charts.Axes.of(statistics), ("one half", "the other half")
    other = float(np.mean(comparing.flat(one) != comparing.flat(two)))
    counts = crossed(comparing.flat(one), comparing.flat(two), one.widths)
    figures = [charts.bits_crossed(counts, one.widths, named), charts.changed_by_layer(axes, one.bits, two.bits)]
    told = f"With the same settings, {100 * other:.0f} % of the experts get other bits from either half of the samples."
    yield Section("Two calibrations", [told], figures)
