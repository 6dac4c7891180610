"""The same settings on two calibrations of one model: do the bits differ?"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.charts.two_runs import crossed
from dashboard.components import chart
from dashboard.parts.compare import comparing
from dashboard.state import address, comparisons, current_run, folders
from dashboard.words import tables
from dashboard.words.glossary import explain
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError
from mode_core.importance import ImportanceError

HALVES = "Halves of this run's samples"


def part() -> None:
    """The same settings on two calibrations: do the bits differ?"""
    statistics = current_run.statistics()
    others = [entry for entry in folders.runs() if entry.path != current_run.run_entry().path]
    known = ["", *(entry.name for entry in others)]
    labels = {"": HALVES} | {entry.name: f"The run {entry.label!r}" for entry in others}
    other = st.selectbox("Against", known, format_func=labels.get, **address.bind_place("other", known, ""),
                         help=explain("fold"))  # fmt: skip
    try:
        first, second, labelled = comparing.pair(
            current_run.run_entry().label, statistics, other, current_run.run_named
        )
        one, two = (comparisons.allocation_of(each) for each in (first, second))
    except (ImportanceError, AllocationError, comparing.NotComparable) as refused:
        st.warning(plain(refused), icon=":material/info:")
        return
    axes, widths = charts.Axes.of(statistics), one.widths
    counts = crossed(comparing.flat(one), comparing.flat(two), widths)
    same = counts.trace() / counts.sum()
    st.markdown(
        f"**{100 * (1 - same):.0f} % of the experts get other bits**, with the settings of the Budget page: "
        f"{plain(labelled[0])} ({len(first.samples)} samples) against {plain(labelled[1])} "
        f"({len(second.samples)} samples)."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        rows = pd.DataFrame(counts, columns=[f"{w} bits" for w in widths]).assign(bits=widths)
        chart(charts.bits_crossed(counts, widths, labelled), "crossed", table=lambda: rows)
    with right:
        moved = tables.moves_table(axes, one.bits, two.bits)
        chart(charts.changed_by_layer(axes, one.bits, two.bits), "changed", table=lambda: moved)
    now = address.choices().request
    agreement = comparing.order_agreement(first, second, now.key_ratio, now.signal)
    figure = charts.order_agreement(axes.ticks, agreement)
    chart(figure, "orders", table=lambda: tables.bias_table(axes, agreement))
    if not other:
        st.caption("Halves have half the samples, so they differ more than two calibrations of the full size would.")
