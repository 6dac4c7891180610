"""Compare: methods measured at the same budget, their rankings against measured damage, and two calibrations."""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.parts.compare import check_part, methods_by_budget, rankings, two_calibrations
from dashboard.state import address, current_run
from dashboard.words import paper


def page() -> None:
    """One section at a time, each with its own link."""
    current_run.statistics()  # says what to do where there is no run yet
    st.title("Compare")
    section = st.segmented_control(
        "Section", list(SECTIONS), format_func=lambda name: SECTIONS[name][0], required=True,
        label_visibility="collapsed", **address.bind_place("section", list(SECTIONS), "methods"),
    )  # fmt: skip
    SECTIONS[section][1]()


def reported() -> None:
    """What the paper says, labelled as the paper's."""
    st.caption(f"{paper.ABOUT} Source: [arXiv 2606.17118]({paper.SOURCE}).")
    figure = charts.reported_bars(paper.AVERAGES, paper.ORIGINAL, "the paper")
    chart(figure, "reported", table=paper.frame)


SECTIONS = {
    "methods": ("Methods by budget", methods_by_budget.part),
    "check": ("Check of the estimates", check_part.part),
    "rankings": ("Rankings against the truth", rankings.part),
    "runs": ("Two calibrations", two_calibrations.part),
    "paper": ("The paper's numbers", reported),
}
page()
