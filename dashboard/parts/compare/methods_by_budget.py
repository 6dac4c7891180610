"""Every method at every budget, measured, and its difference from one rival."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from dashboard import charts
from dashboard.charts.evidence import METRICS, means
from dashboard.components import chart
from dashboard.parts.compare import comparing, comparing_job, measured_evidence
from dashboard.state import address, comparisons
from dashboard.words import names
from dashboard.words.glossary import explain
from mode_core.comparison import Evidence

SHORT = {"accuracy": "Accuracy", "kl": "KL divergence", "agreement": "Agreement"}
AGAINST = ("frequency", "uniform", "mode")
SHOWN_FIRST = ("mode", "mode_soft_fisher", "mode_soft_fisher λ 0.5", "frequency", "mc", "uniform")
NAME = comparing.named(names.method)


def part() -> None:
    """A metric against the budget, and the difference from one rival."""
    comparing_job.part()
    known = comparisons.evidence_names()
    name = address.chosen("evidence", known, known[0] if known else "")
    if len(known) > 1:
        bound = address.bind_place("evidence", known, known[0])
        words = {each: each.replace("_", " ") or "all methods" for each in known}
        name = st.selectbox("Evidence", known, format_func=words.get, **bound)
    found = measured_evidence.found_or_said(name)
    if found is None:
        return
    measured_evidence.told(found)
    found = replace(found, scores=comparing.by_shrinkage(found.scores), paired=comparing.by_shrinkage(found.paired))
    metric, modality = metric_and_modality(found)
    rows = means(found.scores, metric, modality)
    scopes = {method: comparing.natural_scope(rows, method) for method in dict.fromkeys(rows["method"])}
    shown = st.multiselect(
        "Methods",
        list(scopes),
        default=[method for method in SHOWN_FIRST if method in scopes] or list(scopes)[:5],
        format_func=NAME,
        key=f"compare-methods:{name}",
        persist_state="session",
    )
    left, right = st.columns([1.15, 1], gap="medium")
    with left:
        pairs = [(method, scopes[method]) for method in shown]
        figure = charts.scores_by_budget(found.scores, metric, modality, pairs, NAME)
        chart(figure, "methods", table=lambda: rows[rows["method"].isin(shown)])
    with right:
        against_one(found, metric, modality)
    words = {"kl": explain("KL divergence"), "agreement": explain("agreement")}
    drawn = " λ: share by which costs were drawn to their layer's mean." * any(comparing.AT in one for one in shown)
    st.caption(words.get(metric, "Accuracy: share of items answered exactly.") + drawn)


def metric_and_modality(found: Evidence) -> tuple[str, str]:
    """What is looked at, on which items."""
    left, right = st.columns(2)
    known = [name for name in METRICS if name in set(found.scores["metric"])]
    metric = left.segmented_control(
        "Metric", known, format_func=SHORT.get, required=True, **address.bind_place("metric", known, known[0])
    )
    return metric, measured_evidence.choose_items(right, set(found.scores["modality"]))


def against_one(found: Evidence, metric: str, modality: str) -> None:
    """Every method against one rival at one budget."""
    rivals = [name for name in AGAINST if name in set(found.paired["against"])]
    budgets = sorted(found.paired["average_bits"].unique().tolist())
    if not rivals or not budgets:
        st.caption("No differences between methods were measured in this run.")
        return
    left, right = st.columns(2)
    rival = left.selectbox("Against", rivals, format_func=names.method, key="compare-against",
                           persist_state="session")  # fmt: skip
    middle = min(budgets, key=lambda bits: abs(bits - 2.5))
    budget = right.selectbox("At a budget of", budgets, index=budgets.index(middle), key="compare-budget",
                             format_func=lambda bits: f"{bits:g} bits", persist_state="session")  # fmt: skip
    figure = charts.paired_forest(found.paired, rival, budget, metric, modality, NAME)
    chosen = (found.paired["against"] == rival) & (found.paired["metric"] == metric)
    chart(figure, "forest", table=lambda: found.paired[chosen & (found.paired["modality"] == modality)])
