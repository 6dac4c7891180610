"""Does a method know which experts matter? Its costs beside what quantizing each expert alone did."""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.parts.compare import comparing, measured_evidence
from dashboard.state import address, comparisons, current_run
from dashboard.words import names


def part() -> None:
    """Does a method know which experts matter? Against what quantizing each of them alone did."""
    found = measured_evidence.found_or_said()
    if found is None:
        return
    if not set(found.truth["modality"]) & set(names.ITEMS):
        st.info("The truth was not measured in this run: 'compare' quantizes every expert alone where it is asked to.")
        return
    st.markdown(
        "The truth of an expert is what quantizing **it alone** does to the answers. A method that knows which "
        "experts matter puts them in the same order."
    )
    left, middle, right = st.columns([0.8, 1.5, 1.1])
    widths = sorted(found.truth["bits"].unique().tolist(), reverse=True)
    bits = left.segmented_control("Each expert alone at", widths, default=widths[0], required=True,
                                  format_func=lambda width: f"{width} bits" if width > 1 else "1 bit",
                                  key="compare-bits", persist_state="session")  # fmt: skip
    modality = measured_evidence.choose_items(middle, set(found.truth["modality"]))
    possible = comparisons.available_methods()
    method = right.selectbox("Method looked at", possible, format_func=names.method, **address.bind("method"))
    one, other = st.columns([1, 1], gap="medium")
    with one:
        figure = charts.ranking_dots(found.ranking, bits, modality, "all", names.method)
        chosen = (found.ranking["bits"] == bits) & (found.ranking["modality"] == modality)
        chart(figure, "rankings", table=lambda: found.ranking[chosen])
    with other:
        frame = comparing.against_truth(
            current_run.statistics(), found.truth, bits, modality, comparisons.costs_at(bits)
        )
        title = f"{names.method(method)}: estimate against measurement, by expert"
        chart(charts.truth_scatter(frame, title), "truth", table=lambda: frame)
    measured_evidence.told(found)
